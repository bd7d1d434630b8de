"""Canaries for the one-run audit of a private training: sequences of random tokens, each put in by a coin flip.

A model can know a random sequence from the training alone, so that canaries are the records that a leak shows in
most. The run with canaries is one of its own: which notes a fixed split made members of is no coin flip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backdoor_core import seeds
from backdoor_core.contracts import Booleans
from backdoor_core.language.tokenizer import Sequences
from backdoor_core.privacy.one_run import coin_flips

LENGTH = 32
"""Tokens of a canary."""


@dataclass(frozen=True)
class Canaries:
    """m sequences, and which of them are trained on."""

    sequences: Sequences
    coins: Booleans
    """(m,)"""


def make_canaries(count: int, start: int, vocabulary: int, most: int, seed: int) -> Canaries:
    """`count` sequences of random tokens behind the token `start`, of at most `most` tokens, with their coins."""
    rng = seeds.generator(seed, "canaries")
    tokens = rng.integers(vocabulary, size=(count, min(LENGTH, most - 1)))
    found = np.concatenate([np.full((count, 1), start), tokens], axis=1).astype(np.int64)
    return Canaries(list(found), coin_flips(count, rng))
