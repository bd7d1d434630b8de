"""The best partition of rows in two that can be found in linear time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Floats


def two_means(points: Floats, components: Floats, seed: int, random_starts: int = 10) -> NDArray[np.integer[Any]]:
    """(n,) cluster of each point (n, d), 0 or 1: the best 2-means found from random and further starts.

    With ten noisy dimensions, ten random starts often miss the best partition, a planted cluster that is plain
    to see among them, and the answer changes with the seed. So k-means also starts from the best
    split along each of the principal `components` (n, m) of the same rows. The objective is the same.
    """
    from sklearn.cluster import KMeans

    fits = [KMeans(2, n_init=random_starts, random_state=seed).fit(points)] if random_starts else []
    for component in components.T:
        above = component > best_cut(component)
        centers = np.stack([points[above].mean(axis=0), points[~above].mean(axis=0)])
        fits.append(KMeans(2, init=centers, n_init=1).fit(points))
    clusters: NDArray[np.integer[Any]] = min(fits, key=lambda fit: float(fit.inertia_)).labels_
    return clusters


def best_cut(values: Floats) -> float:
    """The value (of several distinct ones) above which to cut so that the variance within both sides is least."""
    ordered = np.sort(values)
    below = np.arange(1, len(values))
    sums = np.cumsum(ordered)
    between = sums[:-1] ** 2 / below + (sums[-1] - sums[:-1]) ** 2 / (len(values) - below)
    between[ordered[1:] == ordered[:-1]] = -np.inf  # equal values stay on one side
    return float(ordered[between.argmax()])
