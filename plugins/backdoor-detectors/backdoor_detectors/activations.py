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


def finite_activations(case: DetectionCase, detector: str) -> Floats:
    """(N, D) penultimate activations in float64. Raises `BackdoorError` where some are not finite."""
    activations = case.embedding.astype(np.float64)
    broken = int((~np.isfinite(activations)).any(axis=1).sum())
    if broken:
        raise BackdoorError(
            f"detector {detector}: the model's activations are not finite for {broken} of {len(activations)} "
            "training stays; the model must be trained without diverging (a lower learning rate, scaled inputs)"
        )
    return activations


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
    """Principal directions of centered activations, largest variance first, only those of real variance."""

    centered: Floats
    """(n, D)"""
    axes: Floats
    """(D, rank), orthonormal columns: the right singular vectors of `centered`."""
    variances: Floats
    """(rank,) of the n rows along each axis, dividing by n."""

    @property
    def rank(self) -> int:
        """Number of directions in which the rows differ by more than rounding; 0 where all are equal."""
        return len(self.variances)


def principal_directions(activations: NDArray[np.floating[Any]]) -> Directions:
    """Center the activations (n, D), n of 1 or more, and diagonalize their covariance.

    The eigenvectors of the D by D covariance are the right singular vectors of the centered matrix, at a
    fraction of the cost for many rows. Directions below the resolution of float32 activations are left out.
    """
    rows = activations.astype(np.float64)
    centered = rows - rows.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered / len(rows))
    variances, axes = variances[::-1], axes[:, ::-1]
    resolution = np.finfo(np.float32).eps * np.abs(rows).max()
    real = variances > max(_RELATIVE_FLOOR * variances[0], resolution**2)
    return Directions(centered, axes[:, real], variances[real])
