import numpy as np

from backdoor_core.contracts import Detection, DetectionCase, Detector


class RangeRule(Detector):
    """Control: counts implausible values. A trigger that it catches needs no detector of backdoors.

    The score of a row is its number of values below the lowest or above the highest plausible value of their
    feature; one is enough for a flag. A missing value is not implausible.
    """

    name = "range_rule"
    absolute = True
    requires = frozenset()

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` counts the implausible values of each feature that has any."""
        features = case.view.features
        # In float32 like the values: a value at the limit itself must not fall outside by rounding.
        low = np.array([feature.low for feature in features], dtype=np.float32)
        high = np.array([feature.high for feature in features], dtype=np.float32)
        outside = (case.view.values < low) | (case.view.values > high)  # both are False for NaN
        # A series has an hour between row and feature.
        by_feature = outside.reshape(-1, len(features)).sum(axis=0)
        counts = {feature.name: int(count) for feature, count in zip(features, by_feature, strict=True) if count}
        scores = outside.reshape(len(outside), -1).sum(axis=1).astype(np.float64)
        return Detection(scores, scores >= 1, {"implausible_values": counts})
