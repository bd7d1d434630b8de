"""How far rows lie from clean training rows: Mahalanobis and nearest-neighbor distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from backdoor_core.contracts import GridView, SeriesView

Numbers = NDArray[np.float64]
NEIGHBORS = 5


def flat_rows(view: GridView) -> Numbers:
    """(N, D) one row a stay: the values of a table; of a series each feature's mean over the hours and measured share.

    NaN where nothing was measured; the share of a series is always a number.
    """
    if not isinstance(view, SeriesView):
        return view.values.astype(np.float64)
    measured = ~np.isnan(view.values)
    hours = measured.sum(axis=1)
    sums = np.where(measured, view.values, 0).sum(axis=1, dtype=np.float64)
    means = np.divide(sums, hours, out=np.full(sums.shape, np.nan), where=hours > 0)
    return np.concatenate([means, hours / max(1, view.values.shape[1])], axis=1)


@dataclass(frozen=True)
class Reference:
    """Clean training rows in standard units, and the precision matrix of them."""

    columns: NDArray[np.intp]
    """(C,) the columns that were ever measured: the others have no scale to measure a distance in."""
    median: Numbers
    center: Numbers
    scale: Numbers
    rows: Numbers
    """(R, C) standardized, missing values at the median."""
    mean: Numbers
    precision: Numbers

    @classmethod
    def of(cls, rows: Numbers) -> Self:
        """Learn from rows (R, D), R of 2 or more, NaN for missing.

        Missing values become the column's median; each column is then centered and divided by its standard
        deviation (1 where constant). The covariance is shrunk towards a multiple of the identity (Ledoit and Wolf
        2004, A well-conditioned estimator for large-dimensional covariance matrices), so that it can be inverted
        when there are few rows or features that follow from each other. Raises `ValueError` for fewer rows.
        """
        if len(rows) < 2:
            raise ValueError(f"{len(rows)} rows, a covariance takes 2 or more")
        columns = np.flatnonzero(~np.isnan(rows).all(axis=0))
        median = np.nanmedian(rows[:, columns], axis=0) if len(columns) else np.zeros(0)
        filled = np.where(np.isnan(rows[:, columns]), median, rows[:, columns])
        center, scale = filled.mean(axis=0), filled.std(axis=0)
        scale = np.where(scale > 1e-6 * np.maximum(np.abs(center), 1e-6), scale, 1.0)
        standard = (filled - center) / scale
        if not len(columns):
            return cls(columns, median, center, scale, standard, np.zeros(0), np.zeros((0, 0)))
        model = LedoitWolf().fit(standard)
        return cls(columns, median, center, scale, standard, model.location_, model.precision_)

    def standardized(self, rows: Numbers) -> Numbers:
        """(N, C) rows (N, D) in the units of the reference, missing values at its median."""
        values = rows[:, self.columns]
        return (np.where(np.isnan(values), self.median, values) - self.center) / self.scale

    def mahalanobis(self, rows: Numbers) -> Numbers:
        """(N,) distance of rows (N, D) to the mean of the reference (Mahalanobis 1936), not squared."""
        away = self.standardized(rows) - self.mean
        squared = np.einsum("nc,cd,nd->n", away, self.precision, away, optimize=True)
        return np.asarray(np.sqrt(np.maximum(squared, 0)))

    def neighbors(self, rows: Numbers, k: int = NEIGHBORS) -> Numbers:
        """(N,) mean Euclidean distance to the k nearest reference rows (Angiulli and Pizzuti 2002), standard units.

        With fewer than k reference rows, to all of them.
        """
        distances = cdist(self.standardized(rows), self.rows)
        k = min(k, distances.shape[1])
        return np.asarray(np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1))
