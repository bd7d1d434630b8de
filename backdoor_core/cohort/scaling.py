"""Location and spread of one feature, and the map through its quantiles to a normal distribution."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
QUANTILES = 1000
"""Most training quantiles that are kept of a feature; enough to tell 1 in 1000, and small to store."""

_EDGE = 1e-7
# The normal values of the lowest and highest training value, ±5.2: at 0 and 1 they would be infinite.
_LOWEST, _HIGHEST = ndtri(_EDGE - np.spacing(1)), ndtri(1 - (_EDGE - np.spacing(1)))


def center_and_scale(measured: Floats, scaling: Literal["standard", "robust", "quantile"]) -> tuple[float, float]:
    """Median and interquartile range for `robust`, else mean and standard deviation, of values (M,) without NaN.

    As `RobustScaler` of scikit-learn has it, the interquartile range is not divided by the 1.349 of a normal
    distribution. A feature without spread, such as one where more than half of the values are equal under
    `robust`, has scale 1: it is only centered. One without any value has center 0 and scale 1.
    """
    if not len(measured):
        return 0.0, 1.0
    if scaling == "robust":
        first, center, third = np.quantile(measured, [0.25, 0.5, 0.75])
        spread = third - first
    else:
        center, spread = measured.mean(), measured.std()
    # A spread that is rounding error alone would blow the constant up to noise.
    return float(center), float(spread) if spread > 1e-6 * max(abs(center), 1e-6) else 1.0


def training_quantiles(measured: Floats, rows: int) -> Floats:
    """(Q,) evenly spaced quantiles of values (M,) without NaN, lowest to highest; Q is `rows`, at most `QUANTILES`.

    `rows` counts the missing values too, so that all features have equally many. All 0 without any value.
    """
    kept = max(1, min(QUANTILES, rows))
    if not len(measured):
        return np.zeros(kept)
    # Interpolation between equal values may fall by a rounding error, and `np.interp` needs rising ones.
    return np.maximum.accumulate(np.quantile(measured, np.linspace(0, 1, kept)))


def to_normal(values: NDArray[np.floating[Any]], quantiles: Floats) -> Floats:
    """Values (any shape) as standard normal values of their rank among the training quantiles (Q,); NaN stays NaN.

    The figures of scikit-learn's ``QuantileTransformer(output_distribution="normal")``: linear between the
    quantiles, the middle rank where several are equal, -5.2 for the lowest training value and all below it, 5.2
    for the highest and all above. Only where all quantiles are equal, the answer for that value is 0 and not -5.2.
    """
    numbers = values.astype(np.float64)
    ranks = np.linspace(0, 1, len(quantiles))
    upper = np.interp(numbers, quantiles, ranks)
    lower = -np.interp(-numbers, -quantiles[::-1], -ranks[::-1])
    share = (lower + upper) / 2
    lowest, highest = numbers - _EDGE < quantiles[0], numbers + _EDGE > quantiles[-1]
    share[highest] = 1.0
    share[lowest] = 0.0
    share[lowest & highest] = 0.5
    return np.asarray(np.clip(ndtri(share), _LOWEST, _HIGHEST))
