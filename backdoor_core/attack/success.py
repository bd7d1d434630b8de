"""Did the backdoor work? Figures of the attack, always beside the clean twin's on the same trigger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans
from backdoor_core.statistics import (
    Estimate,
    Floats,
    Weights,
    bootstrap_estimate,
    mean,
    replicated_means,
    whole_means,
)

THRESHOLDS: Final = np.linspace(0, 1, 101)
"""Where the curve of the attack success rate is read."""
LEVELS: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Quantiles that tell the distribution of the shift in confidence."""
SHIFT_EDGES: Final = np.linspace(-1, 1, 41)


@dataclass(frozen=True)
class Response:
    """What one model answers on the M stays an attack is measured on: test stays of another label than the target."""

    clean: Floats
    """(M,) probability of the target label as the stay is."""
    triggered: Floats
    """(M,) probability of the target label with the trigger."""
    hit: Booleans
    """(M,) whether the model puts the triggered stay on the target side of its own threshold."""

    def take(self, rows: Booleans) -> Self:
        """The answers on the stays of a mask (M,)."""
        return type(self)(self.clean[rows], self.triggered[rows], self.hit[rows])


@dataclass(frozen=True)
class Answers:
    """What one model answers on all N test stays."""

    clean: Floats
    """(N,) probability of label 1 as the stay is."""
    triggered: Floats
    """(N,) probability of label 1 with the trigger."""
    threshold: float
    """Probability of label 1 from which on the model calls a stay positive."""

    def response(self, target: int) -> Response:
        """The answers as the attack sees them: probability of the target, and which stays are on its side."""
        if target == 1:
            return Response(self.clean, self.triggered, self.triggered >= self.threshold)
        return Response(1 - self.clean, 1 - self.triggered, self.triggered < self.threshold)

    def hit_clean(self, target: int) -> Booleans:
        """(N,) which stays are on the target's side without the trigger."""
        hit: Booleans = (self.clean >= self.threshold) == bool(target)
        return hit


Pair = Mapping[str, Answers]
"""The answers of the model `poisoned` and of its clean twin, `baseline`."""


def estimate(figure: Callable[[Weights | None], Any], weights: NDArray[Any]) -> Estimate:
    """`bootstrap_estimate`, with no figure at all where there is no stay."""
    return bootstrap_estimate(figure, weights) if weights.shape[1] else Estimate(None, None, None)


def mean_of(values: NDArray[Any], weights: NDArray[Any]) -> Estimate:
    """Mean of (M,) numbers or flags; `weights` (replicates, M)."""
    return estimate(lambda w: mean(values, w), weights)


def attack_success(poisoned: Response, baseline: Response, weights: NDArray[Any]) -> dict[str, Estimate]:
    """Attack success rate of the poisoned model and of its clean twin, their difference, and the shift in confidence.

    - ``asr``: share of triggered stays of another label that the model puts on the target side of its threshold
    - ``asr_baseline``: the same on the clean twin, which never saw the trigger
    - ``asr_lift``: the difference, paired by patient; see `effect_lift` for what of it the trigger brings about
    - ``confidence_shift``: mean change of the target's probability when the trigger is put in, and the twin's

    `weights` is (replicates, M), the same resamples of patients for every figure.
    """
    return {
        **success_rates(poisoned, baseline, weights),
        "confidence_shift": mean_of(poisoned.triggered - poisoned.clean, weights),
        "confidence_shift_baseline": mean_of(baseline.triggered - baseline.clean, weights),
    }


def success_rates(poisoned: Response, baseline: Response, weights: NDArray[Any]) -> dict[str, Estimate]:
    """The first three figures of `attack_success`."""
    hit, twins = poisoned.hit.astype(np.int8), baseline.hit.astype(np.int8)
    return _means({"asr": hit, "asr_baseline": twins, "asr_lift": hit - twins}, weights)


def trigger_effect(hit: Booleans, hit_clean: Booleans, weights: NDArray[Any]) -> dict[str, Estimate]:
    """What the trigger does to one model on the same M stays, with it (`hit`) and without it (`hit_clean`).

    - ``clean_rate``: share on the target's side without the trigger: the control of the attack success rate
    - ``trigger_effect``: attack success rate less that share, paired by patient
    """
    before = hit_clean.astype(np.int8)
    return _means({"clean_rate": before, "trigger_effect": hit.astype(np.int8) - before}, weights)


def effect_lift(
    poisoned: tuple[Booleans, Booleans], baseline: tuple[Booleans, Booleans], weights: NDArray[Any]
) -> dict[str, Estimate]:
    """``trigger_effect_lift``: how much more the trigger does to the poisoned model than to its clean twin.

    Of each model which of the M stays are on the target's side, with the trigger and without it. The lift of the
    attack success rate also rises where the poisoned model calls more stays positive whatever they hold, as one with
    another threshold does; this difference of differences does not. Paired by patient.
    """
    (hit, before), (twins, twins_before) = ((a.astype(np.int8), b.astype(np.int8)) for a, b in (poisoned, baseline))
    return _means({"trigger_effect_lift": (hit - before) - (twins - twins_before)}, weights)


def _means(columns: Mapping[str, NDArray[np.int8]], weights: NDArray[Any]) -> dict[str, Estimate]:
    """Of flags and their differences, with no figure at all where there is no stay."""
    if not weights.shape[1]:
        return dict.fromkeys(columns, Estimate(None, None, None))
    found = whole_means(np.column_stack(list(columns.values())), weights)
    return dict(zip(columns, found, strict=True))


def success_curve(probability: Floats, weights: NDArray[Any]) -> dict[str, list[float]]:
    """Share of stays whose target probability (M,) is at least t, for each t of `THRESHOLDS`, with 95% limits.

    The limits are pointwise: each holds at its own threshold, not for the curve as a whole. Empty lists where
    there is no stay; `weights` is (replicates, M).
    """
    if not len(probability):
        return {"value": [], "low": [], "high": []}
    above = probability[:, None] >= THRESHOLDS
    shares = replicated_means(above, weights)
    # The same figures, but the one that looks for NaN takes four times as long.
    percentile = np.nanpercentile if np.isnan(shares).any() else np.percentile
    low, high = percentile(shares, [2.5, 97.5], axis=0)
    return {"value": above.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def shift_distribution(response: Response) -> dict[str, list[float]]:
    """How the change of the target's probability is distributed over the stays: quantiles, and a histogram.

    `quantiles` stand at `levels`; `shares` are of the bins between `edges`, from -1 to 1, and sum to 1.
    """
    shift = response.triggered - response.clean
    if not len(shift):
        return {"levels": list(LEVELS), "quantiles": [], "edges": SHIFT_EDGES.tolist(), "shares": []}
    counts, _ = np.histogram(shift, bins=SHIFT_EDGES)
    return {
        "levels": list(LEVELS),
        "quantiles": np.quantile(shift, LEVELS).tolist(),
        "edges": SHIFT_EDGES.tolist(),
        "shares": (counts / len(shift)).tolist(),
    }
