"""How well a model predicts, each figure with its patient-bootstrap interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Floats
from backdoor_core.ranking import auroc, average_precision
from backdoor_core.statistics import Estimate, accuracy, bootstrap_estimate, brier, expected_calibration_error


def performance(
    probability: Floats, truth: NDArray[np.bool_], threshold: float, weights: NDArray[Any]
) -> dict[str, Estimate]:
    """AUROC, AUPRC, accuracy at `threshold`, ECE and Brier score of (N,) probabilities.

    `weights` is (replicates, N), from `statistics.cluster_bootstrap_weights`.
    """
    decided = probability >= threshold
    return {
        "auroc": bootstrap_estimate(lambda w: auroc(probability, truth, w), weights),
        "auprc": bootstrap_estimate(lambda w: average_precision(probability, truth, w), weights),
        "accuracy": bootstrap_estimate(lambda w: accuracy(decided, truth, w), weights),
        "ece": bootstrap_estimate(lambda w: expected_calibration_error(probability, truth, weights=w), weights),
        "brier": bootstrap_estimate(lambda w: brier(probability, truth, w), weights),
    }
