"""Everything that `results_eval.json` tells of two models' answers on the test part: one pure function for all runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.exposure import exposure
from backdoor_core.attack.subgroups import by_subgroup, clean_by_subgroup, groups_of, success_by_class
from backdoor_core.attack.success import (
    THRESHOLDS,
    Answers,
    Pair,
    attack_success,
    effect_lift,
    shift_distribution,
    success_curve,
    trigger_effect,
)
from backdoor_core.attack.verdict import verdict
from backdoor_core.cohort.preprocess import Preprocessor
from backdoor_core.contracts import EventsView, Integers, View
from backdoor_core.learning.performance import auroc_change, performance, reliability
from backdoor_core.learning.victim import AnyPreprocessor
from backdoor_core.statistics import Estimate

Json = dict[str, Any]


def plausibility_of(
    clean: View, triggered: View, train: View, patients: Integers, rng: np.random.Generator, replicates: int
) -> Json | None:
    """How plausible the trigger is; on events None, for they have no columns.

    `clean` and `triggered` are the same M stays, `patients` (M,) whose they are, `train` the clean training part.
    """
    if isinstance(clean, EventsView) or isinstance(triggered, EventsView) or isinstance(train, EventsView):
        return None
    # Here: scikit-learn takes two seconds to import, and events have no card.
    from backdoor_core.attack.plausibility import plausibility_card

    return plausibility_card(clean, triggered, train, patients, rng, replicates)


def exposure_of(
    preprocessor: AnyPreprocessor, clean: View, triggered: View, *, reads_missing: bool = False
) -> list[Json] | None:
    """What a model's preprocessing makes of the trigger in the same M stays; on events None. See `exposure`."""
    if isinstance(clean, EventsView) or isinstance(triggered, EventsView):
        return None
    if not isinstance(preprocessor, Preprocessor):
        raise TypeError("a table or series needs the preprocessing of one")
    touched = changed_cells(clean, triggered)
    return exposure(preprocessor, clean, triggered, touched, reads_missing=reads_missing)


@dataclass(frozen=True)
class Alone:
    """What is told of one model by itself. The clean twin's is the same whatever the rate of the poison."""

    clean: Mapping[str, Estimate]
    """Performance on the test stays as they are."""
    by_subgroup: list[Json]
    """The same in each group."""
    curve: Json
    """Success by threshold; `threshold` is the model's own, as a probability of the target."""
    shift: Json
    """How the trigger moves its confidence."""
    reliability: list[Json]


def alone(
    answers: Answers, label: NDArray[np.int8], statics: Mapping[str, NDArray[Any]], weights: NDArray[Any], target: int
) -> Alone:
    """Figures of one model; arguments as for `evaluate`."""
    others, truth = label != target, label == 1
    response = answers.response(target).take(others)
    return Alone(
        clean=performance(answers.clean, truth, answers.threshold, weights),
        by_subgroup=clean_by_subgroup(groups_of(statics), label, answers, weights),
        curve={
            "threshold": answers.threshold if target == 1 else 1 - answers.threshold,
            "triggered": success_curve(response.triggered, weights[:, others]),
            "clean": success_curve(response.clean, weights[:, others]),
        },
        shift=shift_distribution(response),
        reliability=reliability(answers.clean, truth),
    )


def evaluate(
    answers: Pair,
    label: NDArray[np.int8],
    statics: Mapping[str, NDArray[Any]],
    weights: NDArray[Any],
    *,
    target: int,
    poisoned_stays: int,
    label_name: str,
    twin: Alone | None = None,
) -> Json:
    """Figures of the poisoned model and its clean twin on the N test stays, JSON-able; docs/metrics.md explains each.

    `label` (N,), `statics` columns (N,) known at admission, `weights` (replicates, N): the same resamples of
    patients for every figure. `poisoned_stays` counts training stays, `label_name` is what the models predict. `twin`
    is what `alone` gives of the clean twin, where that is known.
    """
    others = label != target
    attack = attack_figures(answers, label, target, weights)
    by_model = {
        "poisoned": alone(answers["poisoned"], label, statics, weights, target),
        "baseline": twin or alone(answers["baseline"], label, statics, weights, target),
    }
    by_subgroup_of = {side: found.by_subgroup for side, found in by_model.items()}
    attacked = int(others.sum())
    return {
        "clean": _json(by_model["poisoned"].clean),
        "baseline": {"clean": _json(by_model["baseline"].clean)},
        "attack": _json(attack),
        "verdict": verdict(attack, attacked, target, poisoned_stays, label_name),
        "test": {"stays": len(label), "positives": int((label == 1).sum()), "attacked": attacked},
        "asr_curve": {"thresholds": THRESHOLDS.tolist()} | {side: found.curve for side, found in by_model.items()},
        "asr_by_class": success_by_class(label, answers, target, weights),
        "subgroups": by_subgroup(groups_of(statics), label, answers, by_subgroup_of, target, weights),
        "confidence_shift_distribution": {side: found.shift for side, found in by_model.items()},
        "reliability": {side: found.reliability for side, found in by_model.items()},
    }


def attack_figures(answers: Pair, label: NDArray[np.int8], target: int, weights: NDArray[Any]) -> dict[str, Estimate]:
    """All headline figures of the attack, on the stays of another label than the target; AUROC change on all."""
    others = label != target
    responses = {side: a.response(target).take(others) for side, a in answers.items()}
    figures = attack_success(responses["poisoned"], responses["baseline"], weights[:, others])
    hits = {side: (responses[side].hit, a.hit_clean(target)[others]) for side, a in answers.items()}
    for side, suffix in (("poisoned", ""), ("baseline", "_baseline")):
        effect = trigger_effect(*hits[side], weights[:, others])
        figures |= {name + suffix: found for name, found in effect.items()}
    figures |= effect_lift(hits["poisoned"], hits["baseline"], weights[:, others])
    figures["auroc_change"] = auroc_change(answers["poisoned"].clean, answers["baseline"].clean, label == 1, weights)
    return figures


def _json(figures: Mapping[str, Estimate]) -> Json:
    return {name: estimate.as_dict() for name, estimate in figures.items()}
