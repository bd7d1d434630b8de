"""How well a model predicts, each figure with its patient-bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.ranking import auroc, ranked_estimates
from backdoor_core.statistics import (
    Estimate,
    Floats,
    Weights,
    accuracy,
    bootstrap_estimate,
    brier,
    equal_mass_bins,
    expected_calibration_error,
)

FIGURES: Final = ("auroc", "auprc", "accuracy", "ece", "brier")
_RANKED: Final = {"auroc": "auroc", "auprc": "average_precision"}
_Z: Final = 1.959963984540054  # the 97.5% quantile of the standard normal distribution


def performance(
    probability: Floats,
    truth: NDArray[np.bool_],
    threshold: float,
    weights: NDArray[Any],
    figures: Sequence[str] = FIGURES,
) -> dict[str, Estimate]:
    """AUROC, AUPRC, accuracy at `threshold`, ECE and Brier score of (N,) probabilities, or those of `figures`.

    `weights` is (replicates, N), from `statistics.cluster_bootstrap_weights`.
    """
    decided = probability >= threshold
    known: Mapping[str, Callable[[Weights | None], float | Floats]] = {
        "accuracy": lambda w: accuracy(decided, truth, w),
        "ece": lambda w: expected_calibration_error(probability, truth, weights=w),
        "brier": lambda w: brier(probability, truth, w),
    }
    ranked = [name for name in figures if name in _RANKED]
    estimates = ranked_estimates([_RANKED[name] for name in ranked], probability, truth, weights) if ranked else {}
    return {
        name: estimates[_RANKED[name]] if name in _RANKED else bootstrap_estimate(known[name], weights)
        for name in figures
    }


def auroc_change(model: Floats, twin: Floats, truth: NDArray[np.bool_], weights: NDArray[Any]) -> Estimate:
    """AUROC of one model's probabilities (N,) less that of another's on the same stays, paired by patient."""
    return bootstrap_estimate(lambda w: auroc(model, truth, w) - auroc(twin, truth, w), weights)


def reliability(probability: Floats, truth: NDArray[np.bool_], bins: int = 10) -> list[dict[str, Any]]:
    """A reliability diagram: for each equal-mass bin that holds a stay, how sure the model is and how right.

    `mean` is the mean probability, `rate` the observed share of label 1, and `low` and `high` its 95% Wilson
    score interval (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1), which does not shrink to nothing
    where a bin holds one outcome only. It takes stays as independent. The bins are those of the ECE, which is
    the mean of ``|mean - rate|`` weighted by `stays`.
    """
    bin_of_row = equal_mass_bins(probability, bins)
    found = []
    for held in (bin_of_row == k for k in np.unique(bin_of_row)):
        stays, positives = int(held.sum()), int(truth[held].sum())
        low, high = wilson_interval(positives, stays)
        figures = {"mean": float(probability[held].mean()), "rate": positives / stays, "low": low, "high": high}
        found.append({"stays": stays, "positives": positives, **figures})
    return found


def wilson_interval(positives: int, stays: int) -> tuple[float, float]:
    """95% limits of a share; `stays` is 1 or more."""
    share, z2 = positives / stays, _Z**2
    center = (share + z2 / (2 * stays)) / (1 + z2 / stays)
    half = _Z * math.sqrt(share * (1 - share) / stays + z2 / (4 * stays**2)) / (1 + z2 / stays)
    # Rounding must not carry a limit beyond what a share can be, nor past the share itself.
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))
