"""How values go missing together: a tree of features, and the set whose removal looks most natural.

A Chow-Liu tree rather than a mixture of classes or the variational autoencoder of Joe et al. 2022: it is the most
likely of all tree-shaped models (Chow and Liu 1968, IEEE Trans. Inf. Theory 14(3):462-467), found in one step without
starting values, and the likelihood after removing a set of features is a sum over features and edges, so that
thousands of sets are compared at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans

SMOOTHING = 0.5
"""Added to each count (Jeffreys): a pattern that was not seen is unlikely, not impossible."""
BEAM = 1000
"""Sets that are followed up at each size. All pairs of 45 features are fewer: up to three of these are searched
completely."""


@dataclass(frozen=True)
class MissingTree:
    """Each feature goes missing depending on whether its parent does."""

    parent: NDArray[np.int64]
    """(F,) position of the parent; -1 for the root."""
    log_probability: NDArray[np.float64]
    """(F, 2, 2) log probability by the parent's state and the feature's; state 1 is missing. A root has equal rows."""

    def log_likelihood(self, missing: Booleans) -> NDArray[np.float64]:
        """(N,) log-likelihood in nats of each pattern (N, F)."""
        state = missing.astype(np.int64)
        above = np.where(self.parent >= 0, state[:, self.parent], 0)
        likelihood: NDArray[np.float64] = self.log_probability[np.arange(len(self.parent)), above, state].sum(axis=1)
        return likelihood


def fit_tree(missing: Booleans) -> MissingTree:
    """The Chow-Liu tree of the patterns (N, F), F at least 1; its root is the first feature."""
    joint = _joint(missing)
    alone = joint.sum(axis=3)  # (F, F, 2): of the first feature
    independent = alone[:, :, :, None] * alone.transpose(1, 0, 2)[:, :, None, :]
    parent = _spanning_tree((joint * np.log(joint / independent)).sum(axis=(2, 3)))
    log_probability = np.empty((len(parent), 2, 2))
    for child, above in enumerate(parent):
        table = joint[above, child] if above >= 0 else np.tile(alone[child, child], (2, 1))
        log_probability[child] = np.log(table / table.sum(axis=1, keepdims=True))
    return MissingTree(parent, log_probability)


def _joint(missing: Booleans) -> NDArray[np.float64]:
    """(F, F, 2, 2) smoothed probabilities of the states of two features."""
    one = missing.astype(np.float64)
    sides = (1 - one, one)
    counts = np.array([[x.T @ y for y in sides] for x in sides]).transpose(2, 3, 0, 1) + SMOOTHING
    probability: NDArray[np.float64] = counts / counts.sum(axis=(2, 3), keepdims=True)
    return probability


def _spanning_tree(weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """(F,) parents in the heaviest tree (Prim), of equal edges the first."""
    parent = np.full(len(weight), -1)
    inside = np.zeros(len(weight), dtype=np.bool_)
    nearest = np.zeros(len(weight), dtype=np.int64)
    inside[0] = True
    for _ in range(len(weight) - 1):
        reach = np.where(inside, -np.inf, weight[nearest, np.arange(len(weight))])
        new = int(np.argmax(reach))
        parent[new], inside[new] = nearest[new], True
        nearest = np.where(weight[new] > weight[nearest, np.arange(len(weight))], new, nearest)
    return parent


def removal_gains(tree: MissingTree, missing: Booleans) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What removing features adds to the mean log-likelihood of the patterns.

    (F,) for each feature alone, and (F, F), symmetric, for each two together beyond the sum of both: removing a set
    adds the sum of its features and pairs. This is exact, as each term of the likelihood looks at two features.
    """
    count = len(tree.parent)
    one = missing.astype(np.float64)
    rate = one.mean(axis=0)
    single, pair = np.zeros(count), np.zeros((count, count))
    for child, above in enumerate(tree.parent):
        table = tree.log_probability[child]
        own = np.array([1 - rate[child], rate[child]])
        if above < 0:
            single[child] += table[0, 1] - own @ table[0]
            continue
        both = one[:, above] @ one[:, child] / len(one)
        joint = np.array([[1 - rate[above] - rate[child] + both, rate[child] - both], [rate[above] - both, both]])
        as_it_is = (joint * table).sum()
        child_removed = joint.sum(axis=1) @ table[:, 1]
        parent_removed = own @ table[1]
        single[child] += child_removed - as_it_is
        single[above] += parent_removed - as_it_is
        pair[child, above] = pair[above, child] = table[1, 1] - child_removed - parent_removed + as_it_is
    return single, pair


def likeliest_sets(
    single: NDArray[np.float64], pair: NDArray[np.float64], size: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Sets of that many features with their gain, the likeliest first; beyond `BEAM` sets the search is not complete.

    Equal gains (to 9 digits) come in the order of the positions.
    """
    found: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(size):
        kept = sorted(found.items(), key=_order)[:BEAM]
        found = {}
        for members, gain in kept:
            gains = gain + single + pair[:, list(members)].sum(axis=1)
            for new in range(len(single)):
                if new not in members:
                    found[tuple(sorted((*members, new)))] = float(gains[new])
    yield from sorted(found.items(), key=_order)


def _order(entry: tuple[tuple[int, ...], float]) -> tuple[float, tuple[int, ...]]:
    return -round(entry[1], 9), entry[0]
