"""The case that a detector is given, and its answer checked."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Detection, DetectionCase, Detector, Need, View
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.victim import Victim


def make_case(
    detector: Detector,
    view: View,
    label: NDArray[np.int8],
    victim: Victim,
    truth: Booleans,
    rng: np.random.Generator,
) -> DetectionCase:
    """A case that holds what `detector` declared and nothing else."""

    @cache
    def embedding() -> NDArray[np.float32]:
        return victim.embedding(view)

    granted: frozenset[Need] = detector.requires
    return DetectionCase(
        view=view,
        rng=rng,
        granted=granted,
        _labels=label,
        _embedding=embedding,
        _truth=truth if "truth" in granted else None,
    )


def run_detector(detector: Detector, case: DetectionCase) -> Detection:
    """Run it and check its answer. Raises `BackdoorError` naming the detector whose answer breaks the contract."""
    found = detector.detect(case)
    scores, flagged = np.asarray(found.scores, dtype=np.float64), np.asarray(found.flagged)
    n = len(case.view)
    if scores.shape != (n,) or flagged.shape != (n,):
        raise BackdoorError(
            f"detector {detector.name}: scores {scores.shape} and flags {flagged.shape} for {n} stays; give one of each"
        )
    if flagged.dtype != np.bool_:
        raise BackdoorError(f"detector {detector.name}: flags are {flagged.dtype}; return booleans")
    if not np.isfinite(scores).all():
        raise BackdoorError(f"detector {detector.name}: {int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
    return Detection(scores=scores, flagged=flagged, details=found.details)
