"""The rule of the scores that have no cut of their own: outliers among the rows of one label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Integers

Floats = NDArray[np.float64]

# Of a normal distribution, the standard deviation is this many times the median absolute deviation.
_TO_DEVIATIONS = 1.4826


def high_outliers(scores: Floats, labels: Integers, deviations: float) -> tuple[Booleans, dict[str, Any]]:
    """Rows above the median + `deviations` robust standard deviations of their label, and the facts by label.

    The robust standard deviation is 1.4826 times the median absolute deviation (MAD). Where the MAD is 0, at
    least half of the label scores alike and there is no scale to call anything far: no flag, and the facts say
    so. `scores` and `labels` are (N,).
    """
    flagged = np.zeros(len(scores), dtype=np.bool_)
    facts: dict[str, Any] = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        median = np.median(scores[rows])
        spread = _TO_DEVIATIONS * float(np.median(np.abs(scores[rows] - median)))
        # Below the resolution of the float32 numbers that scores are made of, a spread is rounding error.
        if spread <= np.finfo(np.float32).eps * abs(median):
            facts[str(label)] = {"rows": len(rows), "flagged": 0, "skipped": "at least half of the scores are equal"}
            continue
        cut = float(median + deviations * spread)
        flagged[rows] = scores[rows] > cut
        facts[str(label)] = {"rows": len(rows), "flagged": int(flagged[rows].sum()), "cut": cut}
    return flagged, facts
