"""The best partition of rows in two that can be found in linear time."""

import numpy as np
from numpy.typing import NDArray

from .activations import Floats

_SAMPLE = 5000
# As in scikit-learn: the centers have settled when they move by less than this part of the mean variance of a column.
_TOLERANCE = 1e-4
_MOST_STEPS = 300


def two_means(points: Floats, components: Floats, seed: int, random_starts: int = 10) -> NDArray[np.intp]:
    """(n,) cluster of each point (n, d), 0 or 1: the best 2-means found from random and further starts.

    With ten noisy dimensions, ten random starts often miss the best partition, a planted cluster that is plain
    to see among them, and the answer changes with the seed. So k-means also starts from the best
    split along each of the principal `components` (n, m) of the same rows. The objective is the same.

    Of more than 5,000 rows, a random 5,000 choose the best start (all of them where those 5,000 are equal), and all
    rows go on from its centers. Where no component varies by more than rounding,
    all rows are in one cluster.
    """
    rng = np.random.default_rng(seed)
    best = None
    if len(points) > _SAMPLE:
        sample = np.sort(rng.choice(len(points), _SAMPLE, replace=False))
        best = _best_centers(points[sample], components[sample], rng, random_starts)
        best = None if best is None else _settled(points, best)
    if best is None:
        best = _best_centers(points, components, rng, random_starts)
    return np.zeros(len(points), dtype=np.intp) if best is None else _sides(points, best).astype(np.intp)


def best_cut(values: Floats) -> float:
    """The value (of several distinct ones) above which to cut so that the variance within both sides is least."""
    ordered = np.sort(values)
    below = np.arange(1, len(values))
    sums = np.cumsum(ordered)
    between = sums[:-1] ** 2 / below + (sums[-1] - sums[:-1]) ** 2 / (len(values) - below)
    between[ordered[1:] == ordered[:-1]] = -np.inf  # equal values stay on one side
    return float(ordered[between.argmax()])


def _best_centers(points: Floats, components: Floats, rng: np.random.Generator, random_starts: int) -> Floats | None:
    """(2, d) the centers of the best partition that is reached from any start; None without any two centers."""
    points = np.asfortranarray(points)
    starts = [_random_start(points, rng) for _ in range(random_starts)]
    starts += [_split_start(points, component) for component in components.T]
    found = [_settled(points, start) for start in starts if start is not None]
    return max(found, key=lambda centers: _between(points, centers), default=None)


def _random_start(points: Floats, rng: np.random.Generator) -> Floats | None:
    """(2, d) two of the points, the second with probability by its squared distance from the first (k-means++)."""
    first = points[rng.integers(len(points))]
    squared = ((points - first) ** 2).sum(axis=1)
    if not squared.any():
        return None
    return np.stack([first, points[rng.choice(len(points), p=squared / squared.sum())]])


def _split_start(points: Floats, component: Floats) -> Floats | None:
    """(2, d) the means of the points on both sides of the best cut along a component (n,)."""
    if not np.ptp(component):
        return None
    above = component > best_cut(component)
    return np.stack([points[~above].mean(axis=0), points[above].mean(axis=0)])


def _settled(points: Floats, centers: Floats) -> Floats:
    """(2, d) the centers that Lloyd's algorithm comes to.

    No cluster runs empty, unless by rounding: the centers are means of rows on both sides of a plane, or two rows, so
    that some row of either cluster is nearer to its own center than to the other.
    """
    total = points.sum(axis=0)
    tolerance = _TOLERANCE * float(points.var(axis=0).mean())
    for _ in range(_MOST_STEPS):
        count, sums = _count_and_sum(points, _sides(points, centers))
        if count in (0, len(points)):
            break
        moved = np.stack([(total - sums) / (len(points) - count), sums / count])
        shift = float(((moved - centers) ** 2).sum())
        centers = moved
        if shift <= tolerance:
            break
    return centers


def _sides(points: Floats, centers: Floats) -> NDArray[np.bool_]:
    """(n,) the points nearer to the second of two centers (2, d): those beyond the plane halfway between them."""
    normal = centers[1] - centers[0]
    sides: NDArray[np.bool_] = points @ normal > normal @ centers.sum(axis=0) / 2
    return sides


def _count_and_sum(points: Floats, above: NDArray[np.bool_]) -> tuple[int, Floats]:
    """How many points are in a cluster (n,), and their sum (d,)."""
    return int(np.count_nonzero(above)), above.astype(np.float64) @ points


def _between(points: Floats, centers: Floats) -> float:
    """The part of the points' scatter that lies between their clusters; the rest, within, is what k-means minimizes."""
    count, sums = _count_and_sum(points, _sides(points, centers))
    if count in (0, len(points)):
        return 0.0
    gap = sums / count - (points.sum(axis=0) - sums) / (len(points) - count)
    return count * (len(points) - count) / len(points) * float(gap @ gap)
