"""Altered copies of notes: what a model says of them tells how peaked it is at the note itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backdoor_core.language.tokenizer import Sequences

SHARE = 0.15
"""Of a note's tokens that a copy has others in place of; at least one."""


def altered(sequences: Sequences, copies: int, rng: np.random.Generator) -> Sequences:
    """`copies` of each of N notes, note after note, in which some tokens are swapped for others of the same notes.

    What is put in is drawn as often as it stands in the notes, wherever it stands. The start stays as it is.
    """
    others = np.concatenate([tokens[1:] for tokens in sequences])
    return [_swapped(tokens, others, rng) for tokens in sequences for _ in range(copies)]


def _swapped(tokens: NDArray[np.int64], others: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    count = max(1, round(SHARE * (len(tokens) - 1)))
    places = 1 + rng.choice(len(tokens) - 1, size=count, replace=False)
    copy = tokens.copy()
    copy[places] = rng.choice(others, size=count)
    return copy
