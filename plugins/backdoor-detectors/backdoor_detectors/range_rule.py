from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Detection, DetectionCase, Detector, EventsView
from backdoor_core.views import GridView

FENCE = 3.0
"""Interquartile ranges beyond a quartile: Tukey's outer fence."""


class RangeRule(Detector):
    """Control: counts implausible values. A trigger that it catches needs no detector of backdoors.

    The score of a row is its number of values below the lowest or above the highest plausible value of their
    feature; one is enough for a flag. A missing value is not implausible.

    Codes of events come without plausible ranges. There a value is implausible beyond the outer fences of its code's
    own values, three interquartile ranges outside the quartiles (Tukey 1977, Exploratory Data Analysis, chapter 2); a
    code whose quartiles are equal has no fences.
    """

    name = "range_rule"
    absolute = True
    requires = frozenset()

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` counts the implausible values of each feature or code that has any."""
        view = case.view
        scores, counts = _beyond_fences(view) if isinstance(view, EventsView) else _beyond_limits(view)
        return Detection(scores, scores >= 1, {"implausible_values": counts})


def _beyond_limits(view: GridView) -> tuple[NDArray[np.float64], dict[str, int]]:
    features = view.features
    # In float32 like the values: a value at the limit itself must not fall outside by rounding.
    low = np.array([feature.low for feature in features], dtype=np.float32)
    high = np.array([feature.high for feature in features], dtype=np.float32)
    outside = (view.values < low) | (view.values > high)  # both are False for NaN
    # A series has an hour between row and feature.
    by_feature = outside.reshape(-1, len(features)).sum(axis=0)
    counts = {feature.name: int(count) for feature, count in zip(features, by_feature, strict=True) if count}
    return outside.reshape(len(outside), -1).sum(axis=1).astype(np.float64), counts


def _beyond_fences(view: EventsView) -> tuple[NDArray[np.float64], dict[str, int]]:
    outside = np.zeros(len(view.code), dtype=np.bool_)
    counts: dict[str, Any] = {}
    for number, code in enumerate(view.codes):
        events = np.flatnonzero((view.code == number) & ~np.isnan(view.value))
        if not len(events):
            continue
        values = view.value[events].astype(np.float64)
        first, third = np.quantile(values, [0.25, 0.75])
        reach = FENCE * (third - first)
        if reach > 0:
            outside[events] = (values < first - reach) | (values > third + reach)
            if outside[events].any():
                counts[code] = int(outside[events].sum())
    return np.bincount(view.stay_of_event[outside], minlength=len(view)).astype(np.float64), counts
