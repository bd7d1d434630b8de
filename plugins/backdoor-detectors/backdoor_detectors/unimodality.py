"""Whether one group of rows is two: a dip in the density between the smaller group and its neighbors."""

import numpy as np

from .activations import Floats

LEAST_GROUP = 8
# Above the 0.99 quantile of sqrt(n) * dip over uniform samples, the least favorable of all densities with one peak:
# 0.37 for n of 16, 0.46 for 120 and 0.48 for 300 and more, by simulation.
CRITICAL = 0.5
_KNOTS = 1000


def window(values: Floats, smaller: int) -> Floats:
    """The highest `smaller` of (n,) values and as many below them: where a dip beside that group would be.

    A small group hardly moves the distribution of all values; of these it is half.
    """
    return np.sort(values)[-2 * smaller :]


def dip(values: Floats) -> float:
    """Distance of the distribution of (n,) values from the nearest with a single peak, 0 to 1/4.

    After Hartigan and Hartigan 1985, "The dip test of unimodality", Annals of Statistics 13: the distribution is
    convex up to its peak and concave from there, so half the largest gap between the empirical distribution
    and its convex minorant below the peak, or its concave majorant above it, for the best peak. Only up to
    1,000 order statistics are looked at, so the time is that of sorting.
    """
    places, counts = np.unique(values, return_counts=True)
    heights = (np.cumsum(counts) - counts / 2) / len(values)
    if len(places) > _KNOTS:
        knots = np.linspace(0, len(places) - 1, _KNOTS).astype(np.intp)
        places, heights = places[knots], heights[knots]
    low, high = 0, len(places) - 1
    # Left of the peak the gap grows with the peak, right of it it shrinks: they cross at the best peak.
    while high - low > 1:
        middle = (low + high) // 2
        if _gap(places[: middle + 1], heights[: middle + 1]) < _gap(-places[middle:][::-1], -heights[middle:][::-1]):
            low = middle
        else:
            high = middle
    return min(
        max(_gap(places[: peak + 1], heights[: peak + 1]), _gap(-places[peak:][::-1], -heights[peak:][::-1])) / 2
        for peak in (low, high)
    )


def _gap(places: Floats, heights: Floats) -> float:
    """The largest height of a curve above its greatest convex minorant; `places` ascend."""
    hull: list[int] = []
    x, y = places.tolist(), heights.tolist()
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return float((heights - np.interp(places, places[hull], heights[hull])).max())
