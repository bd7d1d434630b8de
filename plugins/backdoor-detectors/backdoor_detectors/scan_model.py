"""The two-component model of activations behind SCAn: a label's mean and the variation that all labels share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Floats
from .robust import shrunk_covariance

_TOLERANCE = 1e-6
_MOST_STEPS = 100


@dataclass(frozen=True)
class Decomposition:
    """Activations r = center + u + e of a row: u that of its label, e its own."""

    center: Floats
    """(D,)"""
    between: Floats
    """(D, D) covariance of u over rows."""
    within: Floats
    """(D, D) covariance of e, the same in every label."""


def decompose(points: Floats, labels: NDArray[np.integer[Any]]) -> Decomposition:
    """Fit the model to points (n, D) by expectation and maximization (Tang et al. 2021, section 5.2).

    As in the authors' code: the expected u of a label given its rows, then the covariances of u and of e = r - u.
    The rows enter through each label's mean and scatter only, so that a step costs the same for any number of them.
    Beyond the paper, the within-label covariance is shrunk as by Ledoit and Wolf: with few rows it is singular.
    """
    center = points.mean(axis=0)
    names, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([points[position == k].mean(axis=0) for k in range(len(names))]) - center
    weights = counts / len(points)
    inner = shrunk_covariance(points - center - means[position])
    between, within = _weighted_covariance(means, weights), inner
    if not inner.any():  # the rows of each label are equal, and its mean is known exactly
        return Decomposition(center, between, within)
    for _ in range(_MOST_STEPS):
        before = between, within
        effects = np.stack([posterior_mean(m, n, between, within) for m, n in zip(means, counts, strict=True)])
        between = _weighted_covariance(effects, weights)
        within = inner + _weighted_covariance(means - effects, weights)
        moved = np.linalg.norm(between - before[0]) + np.linalg.norm(within - before[1])
        if moved <= _TOLERANCE * np.linalg.norm(before[1]):
            break
    return Decomposition(center, between, within)


def posterior_mean(mean: Floats, rows: int, between: Floats, within: Floats) -> Floats:
    """(D,) expected u of a label, given the centered mean (D,) of so many of its rows."""
    expected: Floats = between @ np.linalg.solve(between + within / rows, mean)
    return expected


def _weighted_covariance(vectors: Floats, weights: Floats) -> Floats:
    """(D, D) covariance of vectors (k, D) with weights (k,) that sum to 1."""
    centered = vectors - weights @ vectors
    return (centered * weights[:, np.newaxis]).T @ centered
