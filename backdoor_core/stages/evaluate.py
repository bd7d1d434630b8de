"""Stage `evaluate`: clean performance and attack success of the poisoned model, beside its clean twin."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.attack.answers import ask
from backdoor_core.attack.evaluation import Alone, alone, evaluate, exposure_of, plausibility_of
from backdoor_core.attack.success import Answers
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import say
from backdoor_core.files import json_text, read_json, write_json
from backdoor_core.learning.performance import performance
from backdoor_core.learning.victim import ArrayVictim, Victim, load_victim
from backdoor_core.stages.data import Shared, load_shared, test_weights
from backdoor_core.stages.poisoned import triggered_test
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Judge both models on the test part and write figures and predictions."""
    shared = shared or load_shared(study)
    params, parts, model = study.params, shared.parts, study.model()
    test, in_test = parts.test, parts.splits.test
    manifest = read_json(study.paths.run / "poison.json")
    triggered = triggered_test(study, test.view, manifest["trigger"]["fitted"])
    # Figures of the twin are the trigger's alone, and so is its plausibility, whatever the rate.
    trigger = json_text([manifest["trigger"], params.poison.target, params.evaluate.replicates])

    def load(folder: Path) -> Victim:
        return load_victim(folder, model, params.train.device, params.train.threads)

    victims = {"poisoned": load(study.paths.run), "baseline": shared.once("twin", lambda: load(study.paths.baseline))}
    answers = {
        "poisoned": ask(victims["poisoned"], test.view, triggered),
        "baseline": shared.once(("twin's answers", trigger), lambda: ask(victims["baseline"], test.view, triggered)),
    }
    patients = parts.cohort.subject_id[in_test]
    statics = {name: column[in_test] for name, column in parts.cohort.statics.items()}
    weights = shared.once(("test_weights", params.evaluate.replicates), lambda: test_weights(study, parts))
    target = params.poison.target

    def twin() -> Alone:
        return alone(answers["baseline"], test.label, statics, weights, target)

    results = evaluate(
        answers,
        test.label,
        statics,
        weights,
        target=target,
        poisoned_stays=manifest["poisoned_stays"],
        label_name=parts.cohort.card["inclusion"]["label"],
        twin=shared.once(("twin's figures", trigger), twin),
    )
    if params.evaluate.calibration != "none":
        results["uncalibrated"] = _uncalibrated(victims, test, weights)
    others = np.flatnonzero(test.label != target)
    attacked, marked = test.view.take(others), triggered.take(others)

    def plausibility() -> dict[str, Any] | None:
        rng = seeds.generator(params.seed, "plausibility")
        return plausibility_of(attacked, marked, parts.train.view, patients[others], rng, params.evaluate.replicates)

    results["plausibility"] = shared.once_for_all(("plausibility", trigger), plausibility)
    victim = victims["poisoned"]
    gaps = isinstance(victim, ArrayVictim)
    results["exposure"] = exposure_of(victim.preprocessor, attacked, marked, reads_missing=gaps)
    _write_predictions(study, test, answers)
    write_json(study.paths.run / "results_eval.json", results)
    say(f"verdict: {results['verdict']['text']}")


def _uncalibrated(victims: Mapping[str, Victim], test: Rows, weights: NDArray[Any]) -> dict[str, Any]:
    """ECE and Brier score of both models without temperature scaling."""
    figures: dict[str, Any] = {}
    for name, victim in victims.items():
        plain = replace(victim, temperature=1.0)
        found = performance(plain.probability(test.view), test.label == 1, plain.threshold, weights, ("ece", "brier"))
        figures[name] = {figure: estimate.as_dict() for figure, estimate in found.items()}
    return figures


def _write_predictions(study: Study, test: Rows, answers: Mapping[str, Answers]) -> None:
    columns = {
        f"{side}.{kind}": getattr(answer, kind) for kind in ("clean", "triggered") for side, answer in answers.items()
    }
    write_parquet(
        study.paths.run / "predictions.parquet", {"stay_id": test.view.stay_id, "label": test.label, **columns}
    )
