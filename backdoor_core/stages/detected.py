"""What the stage `detect` judges: the poisoned run and the null run, and what a detector says of each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.attack.subgroups import groups_of
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Booleans, Detection, Detector, Integers, View
from backdoor_core.detection.calibrate import Scored, flag, p_values
from backdoor_core.detection.case import Access
from backdoor_core.detection.judge import filter_bias, judge, judge_flags
from backdoor_core.stages.data import Parts, Shared
from backdoor_core.stages.detecting import Run, access_to, detect_in
from backdoor_core.stages.poisoned import load_poisoning, victims_rows
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Study

Groups = dict[str, dict[str, Booleans]]
"""Rows (M,) by what they have in common and by name: by sex, age band and care unit."""


@dataclass(frozen=True)
class Side:
    """The poisoned run or the null run: M rows with the model that was trained on them."""

    run: Run
    access: Callable[[], Access]
    """To its model, which is read when the first detector asks."""
    truth: Booleans
    """(M,) which rows are poisoned: all False in the null run."""
    judged: Booleans
    """(M,) the rows that scores are judged against; in the null run those that the attack would have taken."""
    patients: Integers
    """(M,) whose rows they are."""
    groups: Callable[[], Groups]
    null: bool
    """Whether it is the null run."""


@dataclass(frozen=True)
class Answer:
    """What a detector says of the M rows of a run."""

    found: Detection
    p: NDArray[np.float64]
    """(M,) by the clean retrains; NaN without any."""
    calibrated: Booleans
    """(M,) flags at the false-discovery rate."""


def answer_of(study: Study, shared: Shared, detector: Detector, side: Side, nulls: dict[str, NDArray[Any]]) -> Answer:
    """What a detector says of a run, with p-values by the scores of the clean retrains, `nulls`."""

    def find() -> Answer:
        found = detect_in(study, shared.parts, detector, side.run, side.access(), side.truth)
        return Answer(found, *_calibrated(study, detector, found, side, nulls))

    # What is said of the clean twin does not depend on the poison.
    return shared.once(("null run", detector.name), find) if side.null else find()


def figures_of(
    study: Study,
    shared: Shared,
    detector: Detector,
    side: Side,
    answer: Answer,
    weights: Callable[[], NDArray[Any]],
) -> dict[str, Any]:
    """How good the answer is; `weights` draws the resamples (replicates, M) of the run's patients."""

    def find() -> dict[str, Any]:
        drawn, groups = weights(), side.groups()
        return {
            **judge(answer.found, side.judged, side.run.rows.label, drawn),
            "calibrated": judge_flags(answer.calibrated, side.judged, drawn),
            "bias": filter_bias(answer.found.flagged, side.judged, groups, drawn),
            "details": dict(answer.found.details),
        }

    if not side.null:
        return find()
    # Of the poison these depend on which stays it takes, and on no trigger.
    judged = side.judged.tobytes()
    return shared.once_for_all(("null figures", detector.name, study.params.evaluate.replicates, judged), find)


def sides_of(study: Study, parts: Parts) -> dict[str, Side]:
    """The runs `poisoned` and `null`."""
    clean, count = parts.train, len(parts.train.label)
    poisoning, _ = load_poisoning(study, clean)
    patients = parts.cohort.subject_id[parts.splits.train]
    seed = seeds.integer(study.params.seed, "training")
    victims = victims_rows(clean, poisoning)
    fit_on = victims.view if study.params.preprocess.fit_on == "poisoned" else clean.view

    def trained(rows: Rows, fit_on: View, folder: Path) -> tuple[Run, Callable[[], Access]]:
        run = Run(rows=rows, fit_on=fit_on, folder=folder, seed=seed)
        return run, cache(lambda: access_to(study, parts, run))

    poisoned, opened = trained(victims, fit_on, study.paths.run)
    twin, twin_opened = trained(clean, clean.view, study.paths.baseline)

    # Cover stays carry the trigger with their true labels: they are no poison, and to flag them is a false alarm.
    truth = poisoning.truth(count)
    taken = np.isin(np.arange(count), poisoning.rows[~poisoning.cover])
    every = np.arange(count)

    def grouped(positions: Integers) -> Callable[[], Groups]:
        return cache(lambda: _groups(parts, positions))

    return {
        "poisoned": Side(
            run=poisoned,
            access=opened,
            truth=truth,
            judged=truth,
            patients=poisoning.victims(patients),
            groups=grouped(poisoning.victims(every)),
            null=False,
        ),
        "null": Side(
            run=twin,
            access=twin_opened,
            truth=np.zeros(count, dtype=np.bool_),
            judged=taken,
            patients=patients,
            groups=grouped(every),
            null=True,
        ),
    }


def _calibrated(
    study: Study, detector: Detector, found: Detection, side: Side, nulls: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], Booleans]:
    """(M,) p-value of each row and whether it is flagged at the false-discovery rate; none without null runs."""
    params = study.params.detection
    if not params.nulls:
        return np.full(len(found.scores), np.nan), np.zeros(len(found.scores), dtype=np.bool_)
    runs = [Scored(nulls[f"{detector.name}.{number}"], nulls["label"]) for number in range(params.nulls)]
    labels = side.run.rows.label
    p = p_values(Scored(found.scores, labels), runs, detector.absolute)
    return p, flag(p, labels, params.fdr)


def _groups(parts: Parts, positions: Integers) -> Groups:
    """As far as the cohort knows them; `positions` (M,) is the training stay that each row is, or is a copy of."""
    stays = parts.splits.train[positions]
    groups: Groups = {}
    for group in groups_of({name: column[stays] for name, column in parts.cohort.statics.items()}):
        groups.setdefault(group.by, {})[group.value] = group.rows
    return groups


def weights_of(study: Study, shared: Shared, side: Side) -> NDArray[Any]:
    """(replicates, M) resamples of a run's patients: drawn once for all detectors, and all triggers of one rate."""
    replicates, strata = study.params.evaluate.replicates, side.judged.astype(np.int8)

    def draw() -> NDArray[Any]:
        rng = seeds.generator(study.params.seed, "bootstrap", 1)
        return cluster_bootstrap_weights(side.patients, replicates, rng, strata=strata)

    return shared.once_lately(("training resamples", replicates, side.patients.tobytes(), strata.tobytes()), draw)
