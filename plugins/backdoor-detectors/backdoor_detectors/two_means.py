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
        best = None if best is None else _settled(points, best[np.newaxis])[0]
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
    known = [start for start in starts if start is not None]
    if not known:
        return None
    found = _settled(points, np.stack(known))
    between = _between(points, found)
    # The first of those that came to the same partition: rounding, by the order of the rows, must not choose its sides.
    return found[np.argmax(between >= between.max() * (1 - 1e-9))]


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


def _settled(points: Floats, starts: Floats) -> Floats:
    """(k, 2, d) the centers that Lloyd's algorithm comes to from each of k starts, all of them at once.

    No cluster runs empty, unless by rounding: the centers are means of rows on both sides of a plane, or two rows, so
    that some row of either cluster is nearer to its own center than to the other.
    """
    n, total = len(points), points.sum(axis=0)
    tolerance = _TOLERANCE * float(points.var(axis=0).mean())
    centers, moving = starts.copy(), np.arange(len(starts))
    for _ in range(_MOST_STEPS):
        count, sums = _counts_and_sums(points, _beyond(points, centers[moving]))
        parted = (count > 0) & (count < n)
        moving, count, sums = moving[parted], count[parted, np.newaxis], sums[parted]
        moved = np.stack([(total - sums) / (n - count), sums / count], axis=1)
        shift = ((moved - centers[moving]) ** 2).sum(axis=(1, 2))
        centers[moving] = moved
        moving = moving[shift > tolerance]
        if not len(moving):
            break
    return centers


def _sides(points: Floats, centers: Floats) -> NDArray[np.bool_]:
    """(n,) the points nearer to the second of two centers (2, d)."""
    return _beyond(points, centers[np.newaxis])[0]


def _beyond(points: Floats, centers: Floats) -> NDArray[np.bool_]:
    """(k, n) the points nearer to the second of each two centers (k, 2, d): beyond the plane halfway between them."""
    normals = centers[:, 1] - centers[:, 0]
    halfway = (normals * centers.sum(axis=1)).sum(axis=1) / 2
    beyond: NDArray[np.bool_] = normals @ points.T > halfway[:, np.newaxis]
    return beyond


def _counts_and_sums(points: Floats, above: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Floats]:
    """How many points are in each of k clusters (k, n), and their sums (k, d)."""
    return np.count_nonzero(above, axis=1), above.astype(np.float64) @ points


def _between(points: Floats, centers: Floats) -> Floats:
    """(k,) the part of the points' scatter between the two clusters of each start; k-means minimizes the rest."""
    n = len(points)
    count, sums = _counts_and_sums(points, _beyond(points, centers))
    inside, outside = np.maximum(count, 1)[:, np.newaxis], np.maximum(n - count, 1)[:, np.newaxis]
    gap = sums / inside - (points.sum(axis=0) - sums) / outside
    return count * (n - count) / n * (gap**2).sum(axis=1)
