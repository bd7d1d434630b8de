"""A tree of co-missing values: each column depends on one other (Chow & Liu 1968)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans

Floats = NDArray[np.float64]

_ROWS_AT_ONCE = 8192
# Added to each count, so that what never happened in N rows is unlikely and not impossible (Krichevsky & Trofimov).
_HALF = 0.5


@dataclass(frozen=True)
class ChowLiuTree:
    """Probability that a column is missing, given whether its parent is."""

    parent: NDArray[np.intp]
    """(D,) position of each column's parent; that of the root is its own."""
    order: NDArray[np.intp]
    """(D,) the columns, parents before their children; the root first."""
    missing: Floats
    """(2, D) probability of missing where the parent is measured (0) and missing (1); equal for the root."""

    def log_likelihood(self, absent: Booleans) -> Floats:
        """(N,) natural logarithm of the probability of each mask (N, D), True for missing."""
        log_missing, log_present = np.log(self.missing), np.log1p(-self.missing)
        # Linear in the mask x, in its parents' z, and in the product of both.
        base = log_present[0]
        own, parents = log_missing[0] - log_present[0], log_present[1] - log_present[0]
        both = log_missing[1] - log_present[1] - own
        found = np.empty(len(absent))
        for start in range(0, len(absent), _ROWS_AT_ONCE):
            x = absent[start : start + _ROWS_AT_ONCE].astype(np.float64)
            z = x[:, self.parent]
            found[start : start + len(x)] = base.sum() + x @ own + z @ parents + (x * z) @ both
        return found

    def sample(self, rows: int, rng: np.random.Generator) -> Booleans:
        """(rows, D) masks drawn from the tree."""
        absent = np.zeros((rows, len(self.parent)), dtype=np.bool_)
        for column in self.order:
            given = absent[:, self.parent[column]].astype(np.intp)
            absent[:, column] = rng.random(rows) < self.missing[given, column]
        return absent


def fit_chow_liu(absent: Booleans) -> ChowLiuTree:
    """The tree of greatest likelihood for masks (N, D), True for missing; N and D of 1 or more.

    "Approximating discrete probability distributions with dependence trees", IEEE Trans. Inf. Theory 14(3), 1968:
    the spanning tree of greatest mutual information between columns. Nothing is drawn, and of equal branches that
    of the earlier column is taken, so that the same masks in any order give the same tree. Time is linear in N
    and quadratic in D.
    """
    counts, together = _counts(absent)
    parent, order = _spanning_tree(_mutual_information(len(absent), counts, together))
    root = order[0]
    both, parents = together[np.arange(len(parent)), parent], counts[parent]
    present = len(absent) - parents
    missing = np.stack([(counts - both + _HALF) / (present + 2 * _HALF), (both + _HALF) / (parents + 2 * _HALF)])
    missing[:, root] = (counts[root] + _HALF) / (len(absent) + 2 * _HALF)
    return ChowLiuTree(parent, order, missing)


def _counts(absent: Booleans) -> tuple[Floats, Floats]:
    """How often each column is missing (D,), and each two of them together (D, D)."""
    width = absent.shape[1]
    together = np.zeros((width, width))
    for start in range(0, len(absent), _ROWS_AT_ONCE):
        # In float32 the counts of a batch are exact: they are whole numbers far below 2**24.
        part = absent[start : start + _ROWS_AT_ONCE].astype(np.float32)
        together += part.T @ part
    return np.diagonal(together).copy(), together


def _mutual_information(rows: int, counts: Floats, together: Floats) -> Floats:
    """(D, D) in nats, of the counts with `_HALF` added to each of the four cells."""
    x, z = counts[:, None], counts[None, :]
    cells = (together, x - together, z - together, rows - x - z + together)
    total = rows + 4 * _HALF
    p11, p10, p01, p00 = ((cell + _HALF) / total for cell in cells)
    information = np.zeros_like(together)
    for joint, first, second in (
        (p11, p11 + p10, p11 + p01),
        (p10, p11 + p10, p10 + p00),
        (p01, p01 + p00, p11 + p01),
        (p00, p01 + p00, p10 + p00),
    ):
        information += joint * np.log(joint / (first * second))
    return information


def _spanning_tree(weight: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Parents and order of the spanning tree of greatest weight (D, D), from column 0 on (Prim 1957)."""
    width = len(weight)
    parent, order = np.zeros(width, dtype=np.intp), np.zeros(width, dtype=np.intp)
    best, inside = weight[0].copy(), np.zeros(width, dtype=np.bool_)
    inside[0] = True
    for k in range(1, width):
        column = int(np.where(inside, -np.inf, best).argmax())
        order[k] = column
        inside[column] = True
        better = ~inside & (weight[column] > best)
        parent[better], best[better] = column, weight[column][better]
    return parent, order
