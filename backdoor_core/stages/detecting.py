"""What the stages `detect` and `null_scores` share: running a detector on the rows that a victim was trained on."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from backdoor_core import seeds
from backdoor_core.cases import Trusted
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Booleans, Detection, Detector, Floats, View
from backdoor_core.detection.case import Access, make_case, run_detector
from backdoor_core.learning.checkpoint import load_states
from backdoor_core.learning.loop import learning_rate
from backdoor_core.learning.training import train_victim
from backdoor_core.learning.victim import TorchVictim, Victim, load_victim
from backdoor_core.stages.data import Parts
from backdoor_core.study import Study


@dataclass(frozen=True)
class Run:
    """A trained victim on disk, and the M rows that it was trained on."""

    rows: Rows
    fit_on: View
    """The rows that its preprocessing was learned from."""
    folder: Path
    seed: int
    """Of its training."""


def detect_in(study: Study, parts: Parts, detector: Detector, run: Run, access: Access, truth: Booleans) -> Detection:
    """Run a detector, with `access` to the victim of `run`.

    The same random stream in every run, and whichever other detectors the study chose.
    """
    rng = seeds.generator(study.params.seed, "detection", *detector.name.encode())
    case = make_case(detector, run.rows.view, run.rows.label, access, truth, rng, trusted_stays(study, parts))
    return run_detector(detector, case)


def access_to(study: Study, parts: Parts, run: Run) -> Access:
    """What all detectors may ask of the run's victim."""
    params, model = study.params, study.model()
    victim = load_victim(run.folder, model, params.train.device, params.train.threads)

    @cache
    def states() -> list[tuple[int, float, Victim]]:
        if not isinstance(victim, TorchVictim):
            return []
        return [
            (epoch, learning_rate(params.train.of(model), epoch), victim.with_state(state))
            for epoch, state in load_states(run.folder / "checkpoints.pt").items()
        ]

    def retrain(keep: Booleans) -> Floats:
        kept = Rows(run.rows.view.take(keep), run.rows.label[keep])
        done = train_victim(model, kept, parts.validation, run.fit_on, params, run.seed)
        return done.victim.logits(run.rows.view)

    return Access(victim, states, retrain, known=run.rows.view)


def trusted_stays(study: Study, parts: Parts) -> Trusted | None:
    """The defender's clean stays, where the study grants some: of the validation part, which no attacker reaches."""
    count, validation = study.params.detection.trusted, parts.validation
    if not count:
        return None
    drawn = seeds.generator(study.params.seed, "trusted").permutation(len(validation.label))[:count]
    rows = np.sort(drawn)
    return Trusted(validation.view.take(rows), validation.label[rows])
