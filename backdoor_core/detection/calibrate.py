"""From scores to flags at a stated false-discovery rate, by the scores of clean retrains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Floats, Integers

# Shares of a label's rows: that its unit is taken from, at least and at most, and what of it lies beside a tie.
_LOWER, _UPPERMOST, _BESIDE_TIE = 0.5, 0.75, 0.25


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
    `absolute`, those of each run and label are first brought to one scale (`standardized`), since the models of two
    runs differ in scale. A row whose label no null run has gets 1. Raises `ValueError` without a null run.
    """
    if not nulls:
        raise ValueError("p-values need at least one null run")
    answer = np.ones(len(run.scores))
    for label in np.unique(run.labels):
        rows = run.labels == label
        own = [run.scores[rows], *(null.scores[null.labels == label] for null in nulls)]
        judged, *others = own if absolute else standardized(own)
        pool = np.sort(np.concatenate(others))
        above = len(pool) - np.searchsorted(pool, judged, side="left")
        answer[rows] = (1 + above) / (1 + len(pool))
    return answer


def standardized(runs: Sequence[Floats]) -> list[NDArray[np.float64]]:
    """The scores of one label in several runs, each centered at its median and divided by a unit of its own.

    The unit is the mean distance from the median of the lowest half of the run's scores: the upper half may be poison,
    which would set the scale itself. Where scores tie, as zeros do, half of them may hold no distance at all, or that
    of a handful of rows. So as many are taken as reach a quarter of the rows beyond the commonest score, and the same
    share in every run. Where more than half of the rows tie in any run, all units are 1: the scores are counts or flags
    more than measurements, and what is left beside the tie may be poison.
    """
    share = max(_LOWER, max(_tied(scores) for scores in runs) + _BESIDE_TIE)
    return [_scaled(scores, share) for scores in runs]


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


def _tied(scores: Floats) -> float:
    """Share of the rows that have the commonest score; 0 of no rows."""
    return float(np.unique(scores, return_counts=True)[1].max() / len(scores)) if len(scores) else 0.0


def _scaled(scores: Floats, share: float) -> NDArray[np.float64]:
    """Centered at their median, in units of what the lowest `share` of them lie away from it."""
    if not len(scores):
        return np.empty(0)
    centered = np.asarray(scores, dtype=np.float64) - np.median(scores)
    if share > _UPPERMOST:
        return centered
    unit = float(np.abs(centered[centered <= np.quantile(centered, share)]).mean())
    return centered / unit if unit > 0 else centered
