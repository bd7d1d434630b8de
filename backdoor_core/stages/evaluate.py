"""Stage `evaluate`: clean performance and attack success of the poisoned model, beside its clean twin."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.attack.success import Response, attack_success
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import say
from backdoor_core.contracts import View
from backdoor_core.files import read_json, write_json
from backdoor_core.learning.performance import performance
from backdoor_core.learning.victim import Victim, load_victim
from backdoor_core.stages.data import load_parts
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Judge both models on the test part and write figures and predictions."""
    params, parts, model = study.params, load_parts(study), study.model()
    test, target = parts.test, params.poison.target
    fitted = read_json(study.paths.run / "poison.json")["trigger"]["fitted"]
    triggered = study.trigger().apply(test.view, fitted, seeds.generator(params.seed, "trigger_apply", 1))
    victims = {
        "poisoned": load_victim(study.paths.run, model, params.train.device, params.train.threads),
        "baseline": load_victim(study.paths.baseline, model, params.train.device, params.train.threads),
    }
    patients = parts.cohort.subject_id[parts.splits.test]
    rng = seeds.generator(params.seed, "bootstrap", 0)
    weights = cluster_bootstrap_weights(patients, params.evaluate.replicates, rng, strata=test.label)
    probability = {name: victim.probability(test.view) for name, victim in victims.items()}
    clean = {
        name: performance(probability[name], test.label == 1, victim.threshold, weights)
        for name, victim in victims.items()
    }
    others = test.label != target
    responses = {name: _response(victim, test.view, triggered, others, target) for name, victim in victims.items()}
    attack = attack_success(responses["poisoned"], responses["baseline"], weights[:, others])
    results: dict[str, Any] = {
        "clean": {name: estimate.as_dict() for name, estimate in clean["poisoned"].items()},
        "baseline": {"clean": {name: estimate.as_dict() for name, estimate in clean["baseline"].items()}},
        "attack": {name: estimate.as_dict() for name, estimate in attack.items()},
        "test": {"stays": len(test.label), "positives": int(test.label.sum()), "attacked": int(others.sum())},
    }
    if params.evaluate.calibration != "none":
        results["uncalibrated"] = _uncalibrated(victims, test, weights)
    write_parquet(
        study.paths.run / "predictions.parquet",
        {
            "stay_id": test.view.stay_id,
            "label": test.label,
            **{f"{name}.clean": probability[name] for name in victims},
            **{f"{name}.triggered": victim.probability(triggered) for name, victim in victims.items()},
        },
    )
    write_json(study.paths.run / "results_eval.json", results)
    asr, twin, lift = (attack[name].value for name in ("asr", "asr_baseline", "asr_lift"))
    say(f"attack: ASR {asr:.3f}, clean twin {twin:.3f}, lift {lift:.3f}; AUROC {clean['poisoned']['auroc'].value:.3f}")


def _uncalibrated(victims: Mapping[str, Victim], test: Rows, weights: NDArray[Any]) -> dict[str, Any]:
    """ECE and Brier score of both models without temperature scaling."""
    figures: dict[str, Any] = {}
    for name, victim in victims.items():
        plain = replace(victim, temperature=1.0)
        found = performance(plain.probability(test.view), test.label == 1, plain.threshold, weights)
        figures[name] = {figure: found[figure].as_dict() for figure in ("ece", "brier")}
    return figures


def _response(victim: Victim, clean: View, triggered: View, rows: NDArray[Any], target: int) -> Response:
    def of_target(view: View) -> NDArray[Any]:
        probability = victim.probability(view.take(rows))
        return probability if target == 1 else 1 - probability

    return Response(of_target(clean), of_target(triggered), victim.decides(triggered.take(rows), target))
