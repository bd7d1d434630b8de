"""The case that a detector is given, and its answer checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cases import Checkpoint, DetectionCase, Trusted
from backdoor_core.contracts import Booleans, Detection, Detector, Floats, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text
from backdoor_core.learning.victim import Victim


@dataclass(frozen=True)
class Access:
    """What the bench does with a victim for a detector (`contracts.VictimAccess`)."""

    victim: Victim
    states: Callable[[], Sequence[tuple[int, float, Victim]]] = list
    """Epoch, learning rate and victim of each checkpoint."""
    retrain: Callable[[Booleans], Floats] | None = None
    """Trains the same model on the rows of a mask, and answers with the log-odds of all rows."""
    known: View | None = None
    """The training rows, where several detectors are to see them: their embedding and logits are found once."""
    _found: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def inputs(self, view: View) -> NDArray[np.float32]:
        """What the model reads."""
        return np.asarray(self.victim.inputs(view))

    def embedding(self, view: View) -> NDArray[np.float32]:
        """(N, D) penultimate activations."""
        return self._of(view, "embedding", lambda: self.victim.embedding(view))

    def logits(self, view: View) -> Floats:
        """(N,) log-odds of label 1."""
        return self._of(view, "logits", lambda: self.victim.logits(view))

    def gradient(self, view: View) -> NDArray[np.float32]:
        """Of the logit by each input."""
        return self.victim.gradient(view)

    def checkpoints(self, view: View) -> list[Checkpoint]:
        """The victim after each epoch whose state was kept. Raises `BackdoorError` where none was."""
        states = self.states()
        if not states:
            raise BackdoorError("the model has no checkpoints; set train.checkpoints to true in params.yaml")
        return [Checkpoint(e, rate, state.logits(view), state.embedding(view)) for e, rate, state in states]

    def retrained(self, keep: Booleans) -> Floats:
        """(N,) log-odds for all training rows by the same model, trained anew on those of the mask."""
        if self.retrain is None:
            raise BackdoorError("this case cannot train a model anew")
        return self.retrain(keep)

    def _of(self, view: View, name: str, find: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if view is not self.known:
            return find()
        if name not in self._found:
            self._found[name] = find()
        # A copy: one detector may write into it, and the next must not see that.
        return self._found[name].copy()


def make_case(
    detector: Detector,
    view: View,
    label: NDArray[np.int8],
    access: Access,
    truth: Booleans,
    rng: np.random.Generator,
    trusted: Trusted | None = None,
) -> DetectionCase:
    """A case that holds what `detector` declared and nothing else."""
    granted = detector.requires
    return DetectionCase(
        view=view,
        rng=rng,
        granted=granted,
        _labels=label,
        _victim=access,
        _truth=truth if "truth" in granted else None,
        _trusted=trusted if "trusted" in granted else None,
    )


def run_detector(detector: Detector, case: DetectionCase) -> Detection:
    """Run it and check its answer. Raises `BackdoorError` naming the detector whose answer breaks the contract."""
    found = detector.detect(case)
    if not isinstance(found, Detection):
        raise BackdoorError(f"detector {detector.name}: answers with {type(found).__name__}; return a Detection")
    try:
        json_text(dict(found.details))
    except (TypeError, ValueError) as error:
        raise BackdoorError(
            f"detector {detector.name}: details cannot be written as JSON ({' '.join(str(error).split())}); "
            "give plain numbers, text, lists and mappings"
        ) from None
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
