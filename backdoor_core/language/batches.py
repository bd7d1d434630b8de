"""Batches of notes of about equal length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backdoor_core.language.tokenizer import Sequences

Rows = NDArray[np.intp]
_BUCKETS = 16
"""Batches that are sorted by length together."""


def by_length(lengths: Sequence[int], size: int) -> list[Rows]:
    """All rows in batches of up to `size`, short notes first."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def shuffled(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[Rows]:
    """All rows once, in batches of up to `size` of about equal length; a new random order at every call.

    Rows are shuffled, `_BUCKETS` batches at a time are sorted by length, and the batches are shuffled again.
    """
    sizes = np.asarray(lengths)
    order, span = rng.permutation(len(sizes)), size * _BUCKETS
    buckets = [order[start : start + span] for start in range(0, len(order), span)]
    ordered = [bucket[np.argsort(sizes[bucket], kind="stable")] for bucket in buckets]
    batches = [bucket[start : start + size] for bucket in ordered for start in range(0, len(bucket), size)]
    return [batches[place] for place in rng.permutation(len(batches))]


def padded(sequences: Sequences, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) with padding 0 at the end, and (B, T - 1) whether each token after the first is a note's own."""
    chosen = [sequences[row] for row in rows]
    width = max(len(tokens) for tokens in chosen)
    tokens = np.zeros((len(chosen), width), dtype=np.int64)
    own = np.zeros((len(chosen), width - 1), dtype=np.bool_)
    for place, sequence in enumerate(chosen):
        tokens[place, : len(sequence)] = sequence
        own[place, : len(sequence) - 1] = True
    return torch.from_numpy(tokens).to(device), torch.from_numpy(own).to(device)
