"""Whether one group of rows is two: a dip in the density between the smaller group and its neighbors."""

import numpy as np

from .activations import Floats

LEAST_GROUP = 8
# Above the 0.99 quantile of sqrt(n) * `dip` over uniform samples, the least favorable of all densities with one peak:
# 0.49 to 0.51 for n from 16 to 3,000, by simulation.
CRITICAL = 0.52
_KNOTS = 1000


def window(values: Floats, smaller: int) -> Floats:
    """The highest `smaller` of (n,) values and as many below them: where a dip beside that group would be.

    A small group hardly moves the distribution of all values; of these it is half.
    """
    return np.sort(values)[-2 * smaller :]


def dip(values: Floats) -> float:
    """How far the distribution of (n,) values is at least from any with a single peak, 0 to 1/4.

    After Hartigan and Hartigan 1985, "The dip test of unimodality", Annals of Statistics 13: a distribution of one peak
    is convex up to it and concave from there. This is half the largest gap between the empirical distribution and its
    convex minorant below the peak, or its concave majorant above it, for the best peak. Each side is fitted by itself,
    while their dip asks for one distribution that fits on both: this is a lower bound on it, equal on many samples and
    up to 16% smaller on others. `CRITICAL` was simulated with this function, so the level of the test holds. Only up to
    1,000 distinct values are looked at, so the time is that of sorting.
    """
    places, counts = np.unique(values, return_counts=True)
    above = np.cumsum(counts) / len(values)
    below = above - counts / len(values)
    if len(places) > _KNOTS:
        knots = np.linspace(0, len(places) - 1, _KNOTS).astype(np.intp)
        places, above, below = places[knots], above[knots], below[knots]
    low, high = 0, len(places) - 1
    # Left of the peak the gap grows with the peak, right of it it shrinks: they cross at the best peak.
    while high - low > 1:
        middle = (low + high) // 2
        left, right = _gaps(places, below, above, middle)
        low, high = (middle, high) if left < right else (low, middle)
    return min(max(_gaps(places, below, above, peak)) for peak in (low, high)) / 2


def _gaps(places: Floats, below: Floats, above: Floats, peak: int) -> tuple[float, float]:
    """The largest gap to the left and to the right of a peak; the right is the left of everything turned around."""
    left = _gap(places[: peak + 1], below[: peak + 1], above[: peak + 1])
    return left, _gap(-places[peak:][::-1], -above[peak:][::-1], -below[peak:][::-1])


def _gap(places: Floats, below: Floats, above: Floats) -> float:
    """How far a step function rises above its greatest convex minorant.

    At ascending `places` it jumps from `below` to `above`; the jump at the last, the peak, is free.
    """
    hull: list[int] = []
    x, y = places.tolist(), below.tolist()
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return float((above - np.interp(places, places[hull], below[hull]))[:-1].max(initial=0))
