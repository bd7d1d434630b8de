"""By what rule activation clustering calls one of a label's two clusters poisoned (Chen et al. 2018, section 4)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Floats

Clusters = NDArray[np.integer[Any]]
_SILHOUETTE_ROWS = 1000


def shares_of(clusters: Clusters) -> Floats:
    """(2,) share of the rows in cluster 0 and in cluster 1."""
    shares: Floats = np.bincount(clusters, minlength=2) / len(clusters)
    return shares


def smaller_cluster(clusters: Clusters) -> NDArray[np.bool_]:
    """(n,) the rows of the smaller cluster; of equal clusters, that of the later number."""
    smaller: NDArray[np.bool_] = clusters == (0 if shares_of(clusters)[0] < 0.5 else 1)
    return smaller


def silhouette(points: Floats, clusters: Clusters, seed: int) -> float:
    """Mean silhouette of the points (n, d), -1 to 1 (Rousseeuw 1987), in time linear in rows.

    Of more than 1,000 rows, up to 500 random ones of each cluster stand in for it, and its mean counts by its true
    share. A cluster of one row has silhouette 0.
    """
    from sklearn.metrics import silhouette_samples

    rng = np.random.default_rng(seed)
    chosen = [np.flatnonzero(clusters == k) for k in (0, 1)]
    if len(clusters) > _SILHOUETTE_ROWS:
        most = _SILHOUETTE_ROWS // 2
        chosen = [rows if len(rows) <= most else rng.choice(rows, most, replace=False) for rows in chosen]
    rows = np.concatenate(chosen)
    values = silhouette_samples(points[rows], clusters[rows])
    means = [values[: len(chosen[0])].mean(), values[len(chosen[0]) :].mean()]
    return float(shares_of(clusters) @ means)


def nearness_to_another(places: Floats, centers: Floats, own: int) -> Floats:
    """(2,) distance of each cluster's median from its own label's, over that plus the one from the nearest other's.

    `places` (2, D) are the medians of the clusters, `centers` (labels, D) those of all labels, `own` the place of
    the clusters' label there. Above 0.5 a cluster is nearer to another label. Clusters on both medians at once count 0.
    """
    distances = np.linalg.norm(places[:, np.newaxis] - centers, axis=2)
    from_own = distances[:, own]
    from_others = np.delete(distances, own, axis=1).min(axis=1)
    both = from_own + from_others
    nearness: Floats = np.divide(from_own, both, out=np.zeros(2), where=both > 0)
    return nearness


def reclassified(logits: NDArray[np.floating[Any]], label: int) -> tuple[int, int]:
    """How many rows, given log-odds (m,) of label 1, are classified as `label` (0 or 1), and as the other."""
    as_own = int(((logits > 0) == (label == 1)).sum())
    return as_own, len(logits) - as_own
