"""From scores to flags at a stated false-discovery rate, by the scores of clean retrains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Floats, Integers


@dataclass(frozen=True)
class Scored:
    """The scores of one run, and the training labels of its rows."""

    scores: Floats
    """(N,)"""
    labels: Integers
    """(N,)"""


def p_values(run: Scored, nulls: Sequence[Scored], absolute: bool = False) -> NDArray[np.float64]:
    """(N,) for each row, how often a row of its label scores as high in the null runs: small is suspicious.

    ``(1 + number of null rows at or above) / (1 + number of null rows)``, which is never 0 and, for rows that
    score like null rows, at most uniformly small (Phipson and Smyth 2010, section 4). Unless the scores are
    `absolute`, those of each run and label are first centered at their median and divided by the distance from there
    to their lower quartile (by 1 where that is 0): the models of two runs differ in scale, and the upper half of a
    label may be poison. A row whose label no null run has gets 1. Raises `ValueError` without a null run.
    """
    if not nulls:
        raise ValueError("p-values need at least one null run")
    prepared = np.asarray if absolute else _standardized
    answer = np.ones(len(run.scores))
    for label in np.unique(run.labels):
        own = [prepared(null.scores[null.labels == label]) for null in nulls]
        pool = np.sort(np.concatenate(own))
        rows = run.labels == label
        above = len(pool) - np.searchsorted(pool, prepared(run.scores[rows]), side="left")
        answer[rows] = (1 + above) / (1 + len(pool))
    return answer


def flag(p: Floats, labels: Integers, rate: float) -> Booleans:
    """(N,) the rows flagged at a false-discovery rate, the procedure run within each label at its share of the rate.

    p-values of a rare label are coarse (there are few null rows of it), and over all rows the procedure would ask for
    finer ones than there can be. With the rate shared out, the chance of any flag where nothing is poisoned is still
    at most `rate`, if rows are independent.
    """
    flagged = np.zeros(len(p), dtype=np.bool_)
    found = np.unique(labels)
    for label in found:
        rows = labels == label
        flagged[rows] = benjamini_hochberg(p[rows], rate / len(found))
    return flagged


def benjamini_hochberg(p: Floats, rate: float) -> Booleans:
    """(N,) the rows whose null hypothesis is rejected at that false-discovery rate.

    Benjamini and Hochberg 1995, equation 1: all p-values up to the largest p(i) with p(i) <= i rate / N.
    """
    ordered = np.sort(p)
    within = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    flagged: Booleans = p <= ordered[within[-1]] if len(within) else np.zeros(len(p), dtype=np.bool_)
    return flagged


def _standardized(scores: Floats) -> NDArray[np.float64]:
    if not len(scores):
        return np.empty(0)
    low, middle = np.percentile(scores, [25, 50])
    return np.asarray((scores - middle) / (middle - low if middle > low else 1.0), dtype=np.float64)
