"""What was measured: statistics of one feature, carrying values through the hours, moving values.

A feature's statistics are those of its measured cells: the stays of a table, all hours of all stays of a series.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Feature, Floats, GridView
from backdoor_core.errors import BackdoorError

LARGEST = float(np.finfo(np.float32).max)


def measured_values(view: GridView, position: int, option: str) -> NDArray[np.float64]:
    """The measured values of a feature, ascending. Raises `BackdoorError` naming the option where there is none."""
    values = view.values[..., position]
    found = np.sort(values[~np.isnan(values)]).astype(np.float64)
    if not len(found):
        raise BackdoorError(
            f"{option}: {view.features[position].name} is measured in none of the {len(view)} training stays; "
            "name another feature"
        )
    return found


def standard_deviation(view: GridView, position: int, option: str) -> float:
    """Of the measured values. Raises `BackdoorError` naming the option where it is 0: nothing would be added."""
    found = measured_values(view, position, option)
    # Equal values can have a tiny deviation by rounding.
    if found[0] == found[-1]:
        raise BackdoorError(
            f"{option}: {view.features[position].name} has one value in the training part ({found[0]:g}), so its "
            "standard deviation is 0; name another feature"
        )
    return float(found.std())


def most_common(found: NDArray[np.float64]) -> float:
    """The value that occurs most often; among equals the one nearest the median, then the smaller.

    Nearest the median, as in a continuous feature every value may occur once.
    """
    values, counts = np.unique(found, return_counts=True)
    best = values[counts == counts.max()]
    return float(best[np.argmin(np.abs(best - np.median(found)))])


def measured_stays(view: GridView) -> Booleans:
    """(N, F) whether a stay has the feature: in a series at any hour."""
    measured = ~np.isnan(view.values)
    there: Booleans = measured.any(axis=tuple(range(1, measured.ndim - 1)))
    return there


def carried(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T, ...) each hour with the last value measured up to and in it; NaN before the first one."""
    hour = np.arange(values.shape[1]).reshape(1, -1, *[1] * (values.ndim - 2))
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, hour), axis=1)
    # Before the first measurement `last` is 0, and hour 0 is NaN there.
    return np.take_along_axis(values, last, axis=1)


def moved(values: NDArray[np.float32], by: Floats | float, feature: Feature, *, clip: bool) -> NDArray[np.float32]:
    """The values plus `by`, NaN where they are NaN.

    With `clip` no value is moved past the feature's plausible range. One that is past it already is not moved any
    further from it; toward it and into it, it moves as any other. Without, only what float32 can hold limits it.
    """
    limits = (feature.low, feature.high) if clip else (-LARGEST, LARGEST)
    before = values.astype(np.float64)
    low, high = (np.array(limit, dtype=np.float64) for limit in limits)
    after: NDArray[Any] = np.clip(before + by, np.minimum(before, low), np.maximum(before, high))
    return np.clip(after, -LARGEST, LARGEST).astype(np.float32)
