"""Filters of training rows: those that a detector flags, and the random filter of the same size."""

from __future__ import annotations

import numpy as np

from backdoor_core.contracts import Booleans, Integers


def random_filter(flagged: Booleans, labels: Integers, rng: np.random.Generator) -> Booleans:
    """(N,) as many rows of each label as `flagged` has, drawn uniformly: what removing so many rows does by itself."""
    drawn = np.zeros_like(flagged)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        drawn[rng.permutation(rows)[: int(flagged[rows].sum())]] = True
    return drawn


def leaves_enough(flagged: Booleans, labels: Integers) -> bool:
    """Whether rows of every label are left to learn from."""
    return all((~flagged[labels == label]).any() for label in np.unique(labels))
