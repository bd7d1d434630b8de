"""Judging a detector's scores and flags against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Detection, Floats
from backdoor_core.ranking import auroc, average_precision, tpr_at_fpr
from backdoor_core.statistics import bootstrap_estimate, false_positive_rate, mean, precision, recall


def judge(detection: Detection, truth: Booleans, label: NDArray[np.int8], weights: NDArray[Any]) -> dict[str, Any]:
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


def _figures(scores: Floats, flagged: Booleans, truth: Booleans, weights: NDArray[Any]) -> dict[str, Any]:
    estimates = {
        "auroc": bootstrap_estimate(lambda w: auroc(scores, truth, w), weights),
        "average_precision": bootstrap_estimate(lambda w: average_precision(scores, truth, w), weights),
        "tpr_at_1_fpr": bootstrap_estimate(lambda w: tpr_at_fpr(scores, truth, 0.01, w), weights),
        "tpr_at_5_fpr": bootstrap_estimate(lambda w: tpr_at_fpr(scores, truth, 0.05, w), weights),
        "recall": bootstrap_estimate(lambda w: recall(flagged, truth, w), weights),
        "precision": bootstrap_estimate(lambda w: precision(flagged, truth, w), weights),
        "flagged_share": bootstrap_estimate(lambda w: mean(flagged, w), weights),
        "fpr": bootstrap_estimate(lambda w: false_positive_rate(flagged, truth, w), weights),
    }
    counts = {"rows": len(truth), "poisoned": int(truth.sum()), "flagged": int(flagged.sum())}
    return {**counts, **{name: estimate.as_dict() for name, estimate in estimates.items()}}
