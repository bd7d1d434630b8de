"""What a trigger does to the correlations between features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_FEWEST_ROWS = 3


def pairwise_correlations(values: NDArray[np.floating[Any]]) -> Numbers:
    """(F, F) Pearson correlation of each pair of columns over the rows (M, F) that have both.

    NaN for a pair with fewer than 3 such rows, or where one of the two does not vary among them.
    """
    measured = ~np.isnan(values)
    rows = measured.sum(axis=0)
    filled = np.where(measured, values, 0).astype(np.float64)
    # Centered and scaled first: sums of squares of raw values would lose the small spread around a large mean.
    filled = np.where(measured, filled - _over(filled.sum(axis=0), rows), 0)
    spread = np.sqrt(_over((filled**2).sum(axis=0), rows))
    filled = filled / np.where(spread > 0, spread, 1)
    mask = measured.astype(np.float64)
    both = mask.T @ mask
    mean = _over(filled.T @ mask, both)
    variance = _over((filled**2).T @ mask, both) - mean**2
    covariance = _over(filled.T @ filled, both) - mean * mean.T
    defined = (both >= _FEWEST_ROWS) & (variance > 1e-9) & (variance.T > 1e-9)
    product = np.where(defined, variance * variance.T, 1)
    return np.where(defined, np.clip(covariance / np.sqrt(product), -1, 1), np.nan)


def correlation_change(
    clean: NDArray[np.floating[Any]], triggered: NDArray[np.floating[Any]], names: Sequence[str]
) -> dict[str, Any]:
    """Mean and largest absolute change of the correlations of rows (M, F), and the pair that changes most; JSON-able.

    Over the pairs with a correlation in `clean`. One that has none in `triggered`, because a feature became constant
    or is gone, counts as 0 there (no relation is left to see) and under `lost`.
    """
    before, after = pairwise_correlations(clean), pairwise_correlations(triggered)
    first, second = np.triu_indices(len(names), k=1)
    known = ~np.isnan(before[first, second])
    first, second = first[known], second[known]
    if not len(first):
        nothing = {"mean": None, "max": None, "pair": None, "pairs": 0, "lost": 0}
        return {**nothing, "note": "no pair of features has a correlation in the clean rows"}
    left = after[first, second]
    change = np.abs(np.nan_to_num(left, nan=0.0) - before[first, second])
    most = int(change.argmax())
    return {
        "mean": float(change.mean()),
        "max": float(change[most]),
        "pair": [names[first[most]], names[second[most]]] if change[most] > 0 else None,
        "pairs": len(first),
        "lost": int(np.isnan(left).sum()),
        "note": None,
    }


def _over(numerator: NDArray[Any], denominator: NDArray[Any]) -> Numbers:
    return np.asarray(numerator / np.maximum(denominator, 1))
