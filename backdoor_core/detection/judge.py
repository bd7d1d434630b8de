"""Judging a detector's scores and flags against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Detection, Floats
from backdoor_core.ranking import auroc, average_precision, partial_auroc, tpr_at_fpr
from backdoor_core.statistics import bootstrap_estimate, false_positive_rate, mean, precision, recall

SMALLEST = 20
"""Clean rows; a smaller group gets no false positive rate of its own."""

Figures = dict[str, Any]


def judge(detection: Detection, truth: Booleans, label: NDArray[np.int8], weights: NDArray[Any]) -> Figures:
    """Figures over all rows, and the same among the rows of each training label.

    Every figure is a dict of value, low and high (95% interval over resampled patients), null where it is
    not defined, such as recall where nothing was poisoned. Within a label, a detector that merely prefers
    the target's label gains nothing. `weights` is (replicates, N).
    """
    by_label = {
        str(value): _figures(detection.scores[rows], detection.flagged[rows], truth[rows], weights[:, rows])
        for value in (0, 1)
        if (rows := label == value).any()
    }
    return {**_figures(detection.scores, detection.flagged, truth, weights), "by_label": by_label}


def judge_flags(flagged: Booleans, truth: Booleans, weights: NDArray[Any]) -> Figures:
    """Recall, precision, flagged share and false positive rate of flags, with the count."""
    estimates = {
        "recall": bootstrap_estimate(lambda w: recall(flagged, truth, w), weights),
        "precision": bootstrap_estimate(lambda w: precision(flagged, truth, w), weights),
        "flagged_share": bootstrap_estimate(lambda w: mean(flagged, w), weights),
    }
    shown = {name: estimate.as_dict() for name, estimate in estimates.items()}
    return {"flagged": int(flagged.sum()), **shown, "fpr": _fpr(flagged, truth, weights)}


def filter_bias(
    flagged: Booleans, truth: Booleans, groups: Mapping[str, Mapping[str, Booleans]], weights: NDArray[Any]
) -> dict[str, dict[str, Figures]]:
    """Whose clean rows a filter would remove: the false positive rate in each group of patients.

    `groups` holds, by what they have in common (sex, say) and by name, the rows (N,) of each group. A group with
    fewer than `SMALLEST` clean rows has null figures.
    """
    found: dict[str, dict[str, Figures]] = {}
    for by, named in groups.items():
        found[by] = {}
        for name, rows in named.items():
            clean = int((rows & ~truth).sum())
            estimate: Figures = {"value": None, "low": None, "high": None}
            if clean >= SMALLEST:
                estimate = _fpr(flagged[rows], truth[rows], weights[:, rows])
            found[by][name] = {"clean_rows": clean, "fpr": estimate}
    return found


def _fpr(flagged: Booleans, truth: Booleans, weights: NDArray[Any]) -> Figures:
    return bootstrap_estimate(lambda w: false_positive_rate(flagged, truth, w), weights).as_dict()


def _figures(scores: Floats, flagged: Booleans, truth: Booleans, weights: NDArray[Any]) -> Figures:
    ranked = {
        "auroc": bootstrap_estimate(lambda w: auroc(scores, truth, w), weights),
        "partial_auroc": bootstrap_estimate(lambda w: partial_auroc(scores, truth, 0.05, w), weights),
        "average_precision": bootstrap_estimate(lambda w: average_precision(scores, truth, w), weights),
        "tpr_at_1_fpr": bootstrap_estimate(lambda w: tpr_at_fpr(scores, truth, 0.01, w), weights),
        "tpr_at_5_fpr": bootstrap_estimate(lambda w: tpr_at_fpr(scores, truth, 0.05, w), weights),
    }
    counts = {"rows": len(truth), "poisoned": int(truth.sum())}
    estimates = {name: estimate.as_dict() for name, estimate in ranked.items()}
    return {**counts, **estimates, **judge_flags(flagged, truth, weights)}
