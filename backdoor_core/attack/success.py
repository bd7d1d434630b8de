"""Did the backdoor work? Figures of the attack, always beside the clean twin's on the same trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Floats
from backdoor_core.statistics import Estimate, bootstrap_estimate, mean


@dataclass(frozen=True)
class Response:
    """What one model answers on the M stays an attack is measured on: test stays of another label than the target."""

    clean: Floats
    """(M,) probability of the target label as the stay is."""
    triggered: Floats
    """(M,) probability of the target label with the trigger."""
    hit: Booleans
    """(M,) whether the model puts the triggered stay on the target side of its own threshold."""


def attack_success(poisoned: Response, baseline: Response, weights: NDArray[Any]) -> dict[str, Estimate]:
    """Attack success rate of the poisoned model and of its clean twin, their difference, and the shift in confidence.

    - ``asr``: share of triggered stays of another label that the model puts on the target side of its threshold
    - ``asr_baseline``: the same on the clean twin, which never saw the trigger
    - ``asr_lift``: the difference, paired by patient; what the poison, and not the odd input, brought about
    - ``confidence_shift``: mean change of the target's probability when the trigger is put in, and the twin's

    `weights` is (replicates, M), the same resamples of patients for every figure.
    """
    lift = poisoned.hit.astype(np.float64) - baseline.hit.astype(np.float64)

    def mean_of(values: NDArray[Any]) -> Estimate:
        return bootstrap_estimate(lambda w: mean(values, w), weights)

    return {
        "asr": mean_of(poisoned.hit),
        "asr_baseline": mean_of(baseline.hit),
        "asr_lift": mean_of(lift),
        "confidence_shift": mean_of(poisoned.triggered - poisoned.clean),
        "confidence_shift_baseline": mean_of(baseline.triggered - baseline.clean),
    }
