"""What the detectors of latent separation share: the activations of one label and their principal directions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import DetectionCase
from backdoor_core.errors import BackdoorError

Floats = NDArray[np.float64]

# A direction whose variance is this small a part of the largest is rounding error of the covariance.
_RELATIVE_FLOOR = 1e-12
# Rows that are held in float64 at a time: few enough to stay in the processor's cache.
_BLOCK = 1024


def finite_activations(case: DetectionCase, detector: str) -> NDArray[np.float32]:
    """(N, D) penultimate activations, the case's own array. Raises `BackdoorError` where some are not finite."""
    activations = case.embedding
    blocks = (activations[start : start + _BLOCK] for start in range(0, len(activations), _BLOCK))
    finite = (np.isfinite(block) for block in blocks)
    broken = sum(0 if block.all() else int((~block).any(axis=1).sum()) for block in finite)
    if broken:
        raise BackdoorError(
            f"detector {detector}: the model's activations are not finite for {broken} of {len(activations)} "
            "training stays; the model must be trained without diverging (a lower learning rate, scaled inputs)"
        )
    return activations


def medians(activations: NDArray[np.floating[Any]], rows: NDArray[np.intp]) -> Floats:
    """(D,) median of each column of some rows, one or more, of activations (N, D), in float64."""
    middle, found = len(rows) // 2, np.empty(activations.shape[1])
    for start in range(0, len(found), 16):  # a few columns at a time, to save memory
        strip = activations[:, start : start + 16]
        columns = np.empty((strip.shape[1], len(rows)), dtype=strip.dtype)
        for first in range(0, len(rows), _BLOCK):
            columns[:, first : first + _BLOCK] = strip[rows[first : first + _BLOCK]].T
        columns.partition(middle, axis=1)
        above = columns[:, middle].astype(np.float64)
        below = above if len(rows) % 2 else columns[:, :middle].max(axis=1)
        found[start : start + 16] = (above + below) / 2
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the numerical libraries loaded so far to one thread.

    With several, sums come together in any order and equal runs might differ in the last bit; and on matrices
    of this size the threads cost more than they save.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


@dataclass(frozen=True)
class Directions:
    """Principal directions of some rows of activations, largest variance first, only those of real variance."""

    activations: NDArray[np.floating[Any]]
    """(N, D), not copied."""
    rows: NDArray[np.intp]
    """(n,) the rows of `activations` that the directions are of."""
    mean: Floats
    """(D,) of those rows."""
    axes: Floats
    """(D, rank), orthonormal columns: the right singular vectors of the centered rows."""
    variances: Floats
    """(rank,) of the n rows along each axis, dividing by n."""

    @property
    def rank(self) -> int:
        """Number of directions in which the rows differ by more than rounding; 0 where all are equal."""
        return len(self.variances)

    def project(self, most: int) -> Floats:
        """(n, k) the centered rows along the first k axes, k being `most` or the rank if that is less.

        Columns are contiguous, since most sums over few columns are quicker so.
        """
        axes = np.ascontiguousarray(self.axes[:, :most])
        projected = np.empty((len(self.rows), axes.shape[1]), order="F")
        for start, block in _blocks(self.activations, self.rows):
            projected[start : start + len(block)] = (block - self.mean) @ axes
        return projected


def principal_directions(activations: NDArray[np.floating[Any]], rows: NDArray[np.intp] | None = None) -> Directions:
    """Center the given `rows` (n,) of activations (N, D), or all, n of 1 or more, and diagonalize their covariance.

    The eigenvectors of the D by D covariance are the right singular vectors of the centered matrix, at a
    fraction of the cost for many rows. Directions below the resolution of float32 activations are left out.
    Sums are in float64 whatever the activations are, a block of rows at a time.
    """
    rows = np.arange(len(activations)) if rows is None else rows
    width = activations.shape[1]
    # About any point near the mean, the scatter is that about the mean plus what the distance between them adds.
    near = activations[rows[:_BLOCK]].mean(axis=0, dtype=np.float64)
    total, scatter, largest = np.zeros(width), np.zeros((width, width)), 0.0
    for _, block in _blocks(activations, rows):
        largest = max(largest, float(block.max()), -float(block.min()))
        block -= near
        total += block.sum(axis=0)
        scatter += block.T @ block
    off = total / len(rows)
    covariance = scatter / len(rows) - np.outer(off, off)
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    resolution = np.finfo(np.float32).eps * largest
    real = variances > max(_RELATIVE_FLOOR * variances[0], resolution**2)
    return Directions(activations, rows, near + off, axes[:, real], variances[real])


def _blocks(activations: NDArray[np.floating[Any]], rows: NDArray[np.intp]) -> Iterator[tuple[int, Floats]]:
    """Copies of the rows in float64, some at a time, each with its place among `rows`."""
    for start in range(0, len(rows), _BLOCK):
        yield start, activations[rows[start : start + _BLOCK]].astype(np.float64)
