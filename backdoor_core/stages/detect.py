"""Stage `detect`: what the detectors find, judged against the truth and against the null run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import progress
from backdoor_core.contracts import Detection, Detector
from backdoor_core.detection.case import make_case, run_detector
from backdoor_core.detection.judge import judge
from backdoor_core.files import write_json
from backdoor_core.learning.victim import Victim, load_victim
from backdoor_core.stages.data import load_parts
from backdoor_core.stages.poisoned import load_poisoning, victims_rows
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Run every chosen detector on the poisoned training part, and on the clean one with the clean twin (null run).

    On the null run nothing is poisoned: its flags are false alarms, and its scores are judged against the
    rows that the attack would have taken, on which a sound detector does no better than chance.
    """
    params, parts, model = study.params, load_parts(study), study.model()
    poisoning, _ = load_poisoning(study, parts.train)
    taken = np.isin(np.arange(len(parts.train.label)), poisoning.rows)
    victim = load_victim(study.paths.run, model, params.train.device, params.train.threads)
    twin = load_victim(study.paths.baseline, model, params.train.device, params.train.threads)
    sides: Mapping[str, tuple[Rows, Victim, Any]] = {
        "poisoned": (victims_rows(parts.train, poisoning), victim, taken),
        "null": (parts.train, twin, np.zeros_like(taken)),
    }
    patients = parts.cohort.subject_id[parts.splits.train]
    rng = seeds.generator(params.seed, "bootstrap", 1)
    weights = cluster_bootstrap_weights(patients, params.evaluate.replicates, rng, strata=taken.astype(np.int8))
    results: dict[str, Any] = {}
    columns: dict[str, Any] = {
        "stay_id": parts.train.view.stay_id,
        "label": sides["poisoned"][0].label,
        "poisoned": taken,
    }
    detectors = study.detectors()
    with progress("detectors", 2 * len(detectors)) as advance:
        for detector in detectors:
            figures: dict[str, Any] = {"oracle": "truth" in detector.requires}
            for side, (rows, model_of_side, truth) in sides.items():
                found = _detect(study, detector, rows, model_of_side, truth)
                judged = judge(found, taken, rows.label, weights)
                columns[f"{detector.name}.{side}.score"] = found.scores
                columns[f"{detector.name}.{side}.flagged"] = found.flagged
                figures[side] = {**judged, "details": dict(found.details)}
                advance(f"{detector.name}, {side} run: {judged['flagged']:,} flagged")
            results[detector.name] = figures
    write_parquet(study.paths.run / "detect" / "scores.parquet", columns)
    write_json(study.paths.run / "results_detect.json", results)


def _detect(study: Study, detector: Detector, rows: Rows, victim: Victim, truth: Any) -> Detection:
    # The same stream for both runs, and for whichever other detectors the study chose.
    rng = seeds.generator(study.params.seed, "detection", *detector.name.encode())
    return run_detector(detector, make_case(detector, rows.view, rows.label, victim, truth, rng))
