"""Location, spread and covariance that a minority of poisoned rows cannot pull along."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .activations import Floats, principal_directions

_LEAST_SHRINKAGE = 1e-6
_MOST_STEPS = 20


def spread(values: Floats) -> Floats:
    """(D,) robust standard deviation of each column of (n, D): the median absolute deviation, scaled to the normal.

    Where more than half of a column's values are equal, as the zeros of a rectified neuron are, that is 0, and the
    mean absolute deviation stands in. Only a constant column has spread 0.
    """
    deviations = np.abs(values - np.median(values, axis=0))
    robust = 1.4826 * np.median(deviations, axis=0)
    scale: Floats = np.where(robust > 0, robust, 1.2533 * deviations.mean(axis=0))
    return scale


def shrunk_covariance(centered: Floats) -> Floats:
    """(D, D) covariance of centered rows (n, D), shrunk to a multiple of the identity (Ledoit and Wolf 2004).

    "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivar. Anal. 88, section 3.2.
    """
    rows, width = centered.shape
    sample = centered.T @ centered / rows
    mean_variance = np.trace(sample) / width
    size = (sample**2).sum()
    distance = (size - width * mean_variance**2) / width
    # The sum over all pairs of columns of the sum of their squared products, without forming the pairs.
    fourth = ((centered**2).sum(axis=1) ** 2).sum() / rows
    error = (fourth - size) / (width * rows)
    shrinkage = max(min(error / distance, 1.0), _LEAST_SHRINKAGE) if distance > 0 else 1.0
    shrunk: Floats = (1 - shrinkage) * sample
    shrunk.flat[:: width + 1] += shrinkage * mean_variance
    return shrunk


@dataclass(frozen=True)
class Center:
    """What `concentrate` found."""

    rows: NDArray[np.bool_]
    """(n,) the central rows."""
    squared: Floats
    """(n,) squared distances of all rows, scaled so that their median is that of chi-squared."""
    widening: float
    """By how much the central rows must be spread about their mean to be spread as all clean rows would be."""
    dimensions: int
    """Directions in which the rows differ at all; 0 where all are equal (then every distance is 0)."""


def concentrate(points: Floats, support: float) -> Center:
    """Find the central share `support` (0 to 1) of points (n, D), n of 2 or more, and every row's distance from them.

    The concentration steps of the minimum covariance determinant (Rousseeuw and Van Driessen 1999, "A fast
    algorithm for the minimum covariance determinant estimator", Technometrics 41, theorem 1) with a shrunk covariance
    (as in Boudt et al. 2020, "The minimum regularized covariance determinant estimator"), from one start: the
    rows nearest to the median, each column in units of its robust spread. Ties at the edge all count as central.
    """
    from scipy.stats import chi2

    scale = spread(points)
    scaled = (points - np.median(points, axis=0))[:, scale > 0] / scale[scale > 0]
    dimensions = principal_directions(scaled).rank if scaled.size else 0
    if dimensions == 0:
        return Center(np.ones(len(points), dtype=np.bool_), np.zeros(len(points)), 1.0, 0)
    central_rows = max(math.ceil(support * len(points)), 2)
    squared = (scaled**2).sum(axis=1)
    rows = squared <= np.partition(squared, central_rows - 1)[central_rows - 1]
    for _ in range(_MOST_STEPS):
        squared = _squared_distances(scaled, rows)
        nearest = squared <= np.partition(squared, central_rows - 1)[central_rows - 1]
        if (nearest == rows).all():
            break
        rows = nearest
    middle = float(np.median(squared))
    # It is 0 where more than half of the rows are equal.
    factor = float(chi2.median(dimensions)) / middle if middle > 0 else 1.0
    return Center(rows, squared * factor, math.sqrt(1 / factor), dimensions)


def _squared_distances(points: Floats, rows: NDArray[np.bool_]) -> Floats:
    """(n,) squared Mahalanobis distances of points (n, D) from the mean of some of them, by their covariance."""
    location = points[rows].mean(axis=0)
    covariance = shrunk_covariance(points[rows] - location)
    # Where the central rows are all equal there is no covariance to measure by.
    if np.trace(covariance) <= 0:
        covariance = np.eye(points.shape[1])
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (points - location).T)
    squared: Floats = (whitened**2).sum(axis=0)
    return squared
