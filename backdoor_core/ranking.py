"""Figures of how well scores rank the true rows above the others.

Rows of equal score always fall on the same side of a threshold. Weights are as in `backdoor_core.statistics`:
None, ``(N,)`` or ``(B, N)``, giving a float or ``(B,)``. A figure is NaN where one class has no weight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from backdoor_core.statistics import (
    Estimate,
    Floats,
    Weights,
    as_flags,
    as_numbers,
    interval,
    over_replicates,
    ratio,
    sum_type,
)


@dataclass(frozen=True)
class _Segments:
    """Weights by segment of the ordered scores, highest first, of b replicates: (G, b)."""

    positives: Floats
    """Of the true rows."""
    negatives: Floats
    """Of the others."""

    @cached_property
    def found(self) -> Floats:
        """Weight of the true rows up to the end of each segment."""
        return np.cumsum(self.positives, axis=0)

    @cached_property
    def passed(self) -> Floats:
        """Weight of the other rows up to the end of each segment."""
        return np.cumsum(self.negatives, axis=0)

    def starting_within(self, fpr: float) -> int:
        """How many segments start, in some replicate, at a false positive rate of at most `fpr`: the first ones."""

        def beyond(segment: int) -> bool:
            before = self.passed[segment] - self.negatives[segment]
            return not (ratio(before, self.passed[-1]) <= fpr).any()

        return bisect_left(range(len(self.passed)), True, key=beyond)


_Ranked = Callable[[_Segments], Floats]
"""Gives (b,)."""


def _ranked(
    figure: _Ranked, scores: ArrayLike, truth: ArrayLike, weights: Weights | None, by_run: bool = False
) -> float | Floats:
    answers = _all_ranked([figure], scores, truth, weights, by_run)
    return float(answers[0]) if answers.ndim == 1 else answers[:, 0]


def _all_ranked(
    figures: Sequence[_Ranked], scores: ArrayLike, truth: ArrayLike, weights: Weights | None, by_run: bool = False
) -> Floats:
    """(k,) or (B, k): all figures with the scores ranked once; `by_run`: see `_starts`."""
    flags = as_flags(truth, "truth")
    values = as_numbers(scores, "scores", len(flags))
    if not len(flags):
        raise ValueError("no rows: the figure of an empty sample does not exist")
    if flags.all() or not flags.any():
        several = weights is not None and np.ndim(weights) == 2
        return np.full((len(weights), len(figures)) if several and weights is not None else len(figures), np.nan)
    order = np.argsort(-values, kind="stable")
    starts = _starts(values[order], flags[order], by_run)
    segment = np.searchsorted(starts, np.arange(len(order)), side="right") - 1
    truly = flags[order]

    def answers(positives: Floats, negatives: Floats) -> Floats:
        segments = _Segments(positives, negatives)
        found = np.column_stack([figure(segments) for figure in figures])
        found[(segments.found[-1] == 0) | (segments.passed[-1] == 0)] = np.nan
        return found

    if weights is None:
        counts = (np.bincount(segment[rows], minlength=len(starts)) for rows in (truly, ~truly))
        return answers(*(count.astype(np.float64)[:, np.newaxis] for count in counts)).reshape(-1)
    # Sums by segment, of the true rows and then of the others: one product, each weight in one sum.
    place, shape = segment + len(starts) * ~truly, (2 * len(starts), len(order))
    exact = sum_type(np.asarray(weights))
    sums = csr_array((np.ones(len(order), exact), (place, order)), shape=shape)

    def figure(chunk: NDArray[Any]) -> Floats:
        return answers(*np.split((sums @ chunk.T).astype(np.float64), 2))

    return np.asarray(over_replicates(figure, len(flags), weights, exact))


def _starts(ordered: Floats, true: NDArray[np.bool_], by_run: bool) -> NDArray[np.intp]:
    """Where each segment of the ordered scores starts.

    Rows of equal score share a segment, and so do neighboring scores that no true row has: no figure here
    changes between them, and there are far fewer segments than scores where few rows are true. `by_run`: so do
    neighboring scores that true rows alone have, between which the area under the ROC curve does not change either.
    """
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    holds_true: NDArray[np.bool_] = np.logical_or.reduceat(true, starts)
    apart = holds_true[1:] | holds_true[:-1]
    if by_run:
        mixed = holds_true & np.logical_or.reduceat(~true, starts)
        apart = (holds_true[1:] != holds_true[:-1]) | mixed[1:] | mixed[:-1]
    kept: NDArray[np.intp] = starts[np.append(True, apart)]
    return kept


def auroc(scores: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Probability that a true row scores above another, ties counting half (Hanley and McNeil 1982).

    scores (N,), higher = more likely true; truth (N,) booleans. Raises `ValueError` for NaN scores.
    """
    return _ranked(_auroc, scores, truth, weights, by_run=True)


def _auroc(of: _Segments) -> Floats:
    # Others below each segment, and half of those in it: in place, for this is most of what an interval takes.
    beaten = of.negatives / 2
    beaten -= of.passed
    beaten += of.passed[-1]
    beaten *= of.positives
    return ratio(beaten.sum(axis=0), of.found[-1] * of.passed[-1])


def average_precision(scores: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Sum over distinct thresholds of the gain in recall times the precision there, as scikit-learn has it.

    The area under the precision-recall curve without interpolation between thresholds. Random scores give
    about the prevalence. Raises `ValueError` for NaN scores.
    """
    return _ranked(_average_precision, scores, truth, weights)


def _average_precision(of: _Segments) -> Floats:
    # Before the first row of weight there is no precision, and no gain in recall to multiply it by.
    flagged = of.found + of.passed
    flagged[flagged == 0] = 1
    areas = of.found / flagged
    areas *= of.positives
    return ratio(areas.sum(axis=0), of.found[-1])


def tpr_at_fpr(scores: ArrayLike, truth: ArrayLike, fpr: float, weights: Weights | None = None) -> float | Floats:
    """Highest true positive rate over the thresholds whose false positive rate is at most `fpr`, never above.

    No interpolation and no randomization: flagging nothing is always a choice, so the figure is 0 where the
    highest score is shared by too many other rows. Raises `ValueError` for NaN scores or `fpr` outside 0 to 1.
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"fpr is {fpr}, must be from 0 to 1")
    return _ranked(_tpr_at(fpr), scores, truth, weights)


def _tpr_at(fpr: float) -> _Ranked:
    def figure(of: _Segments) -> Floats:
        head = slice(of.starting_within(fpr))
        # The last cumulative sum as the total: the rate then ends at exactly 1, whatever the rounding.
        allowed = ratio(of.passed[head], np.broadcast_to(of.passed[-1], of.passed[head].shape)) <= fpr
        return ratio((of.positives[head] * allowed).sum(axis=0), of.found[-1])

    return figure


def partial_auroc(scores: ArrayLike, truth: ArrayLike, fpr: float, weights: Weights | None = None) -> float | Floats:
    """Area under the ROC curve up to a false positive rate of `fpr`, scaled so that chance is 0.5 and perfect is 1.

    McClish 1989, equation 3; as scikit-learn's ``roc_auc_score(max_fpr=fpr)``. The curve is cut by interpolation.
    Raises `ValueError` for NaN scores or `fpr` outside 0 to 1, 0 excluded.
    """
    if not 0 < fpr <= 1:
        raise ValueError(f"fpr is {fpr}, must be above 0 and at most 1")
    return _ranked(_partial_auroc(fpr), scores, truth, weights)


def _partial_auroc(fpr: float) -> _Ranked:
    def figure(of: _Segments) -> Floats:
        head = slice(of.starting_within(fpr))
        positives, negatives, found, passed = (a[head] for a in (of.positives, of.negatives, of.found, of.passed))
        left, low = passed - negatives, found - positives
        width = np.clip(np.minimum(passed, fpr * of.passed[-1]) - left, 0, None)
        reached = low + positives * ratio(width, np.where(negatives > 0, negatives, 1.0))
        area = ratio((width * (low + reached) / 2).sum(axis=0), of.found[-1] * of.passed[-1])
        least = fpr**2 / 2
        return (1 + (area - least) / (fpr - least)) / 2

    return figure


_FIGURES: Mapping[str, _Ranked] = {
    "auroc": _auroc,
    "partial_auroc": _partial_auroc(0.05),
    "average_precision": _average_precision,
    "tpr_at_1_fpr": _tpr_at(0.01),
    "tpr_at_5_fpr": _tpr_at(0.05),
}


DETECTION: Final = tuple(_FIGURES)
"""What a detector's scores are judged by: AUROC, its part up to a false positive rate of 5%, average precision, and
the true positive rate at 1% and 5%."""


def ranked_estimates(
    names: Sequence[str], scores: ArrayLike, truth: ArrayLike, weights: Weights
) -> dict[str, Estimate]:
    """Figures of `DETECTION` with their intervals, by weights (replicates, N): the scores are ranked once for all."""
    figures = [_FIGURES[name] for name in names]
    values = _all_ranked(figures, scores, truth, None)
    answers = _all_ranked(figures, scores, truth, weights)
    return {name: interval(float(values[j]), answers[:, j]) for j, name in enumerate(names)}
