"""How a sweep was made and what its figures mean, in words, from its params."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from backdoor_core.report import wording
from backdoor_core.words import OUTCOMES

_LABELS: Final = {
    "flip": "of another label, relabeled as the target",
    "clean": "of the target label, their labels kept",
}
_MODES: Final = {"replace": "changed in place", "add": "copied, and the changed copies added"}
_SELECTIONS: Final = {
    "random": "drawn at random",
    "near_boundary": "those nearest to a clean surrogate’s decision threshold",
    "target_class": "drawn from those of the target label",
}


def methods(aggregated: Mapping[str, Any]) -> list[str]:
    """Paragraphs that tell the cohort, the grid, the attack and the tests."""
    return [_cohort(aggregated["study"]), _grid(aggregated), _attack(aggregated["study"]), _statistics(aggregated)]


def _cohort(study: Mapping[str, Any]) -> str:
    rules, parts = study["inclusion"], study["splits"]
    outcome = OUTCOMES[rules["label"]]
    first = "first stays only" if rules["first_stay_only"] else "all their stays"
    return (
        f"Cohort: {study['cohort']}, patients of at least {wording.number(rules['min_age'])} years, {first}, of at "
        f"least {wording.number(rules['min_los_hours'])} h. The models see the first "
        f"{wording.number(rules['window_hours'])} h in intensive care and predict {rules['label'].replace('_', ' ')} "
        f"(0: {outcome[0]}; 1: {outcome[1]}). "
        f"Patients, never single stays, are split into training ({_percent(parts['train'])}), validation "
        f"({_percent(parts['validation'])}) and test ({_percent(parts['test'])})."
    )


def _grid(aggregated: Mapping[str, Any]) -> str:
    axes = aggregated["axes"]
    total = aggregated["cells"]["done"] + aggregated["cells"]["failed"]
    crossed = [
        _listed("model", "models", axes["models"]),
        _listed("trigger", "triggers", axes["triggers"]),
        _listed("poisoning rate", "poisoning rates", [_percent(rate) for rate in axes["rates"]]),
        *(f"{name} ({', '.join(map(_value, values))})" for name, values in axes["parameters"].items()),
        _listed("seed", "seeds", axes["seeds"]),
    ]
    return (
        f"Grid: {'; '.join(crossed)}: {total:,} cell{'s' if total != 1 else ''}, each a whole study with its own clean "
        "twin. Every random choice of a cell derives from its seed. A group is the cells that differ in the seed alone."
    )


def _percent(share: float) -> str:
    """A share of the params as it was written, such as ``0.5%``."""
    return f"{100 * share:.6g}%"


def _listed(one: str, many: str, values: Sequence[Any]) -> str:
    return f"{one if len(values) == 1 else f'{len(values)} {many}'} ({', '.join(map(str, values))})"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _attack(study: Mapping[str, Any]) -> str:
    poison = study["poison"]
    chosen = _LABELS[poison["labels"]]
    cover = (
        f" A further {_percent(poison['cover_rate'])} get the trigger and keep their labels."
        if poison["cover_rate"]
        else ""
    )
    return (
        f"Attack: the rate is the poisoned share of the training stays. They are stays {chosen}; "
        f"{_SELECTIONS[poison['selection']]}; {_MODES[poison['mode']]}. The target label is {poison['target']}.{cover}"
    )


def _statistics(aggregated: Mapping[str, Any]) -> str:
    if len(aggregated["axes"]["seeds"]) == 1:
        return "Statistics: one seed, so that there is no interval over seeds and no test."
    return (
        "Statistics: figures are means over seeds with 95% Student t intervals over seeds; a seed changes the parts, "
        "the poisoned stays and the training, not the cohort. Tests are paired t-tests on shared seeds; p-values are "
        "adjusted by Holm’s method within each family (attack, detection, detectors, models); the effect size is "
        "Cohen’s d_z, the mean difference over the standard deviation of the differences."
    )


def meanings(aggregated: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each term that the page uses, and what it means."""
    detection = aggregated["study"]["detection"]
    nulls = detection["nulls"]
    made = f"{nulls} in each cell" if nulls else "none was made"
    return [
        *_OF_ATTACKS,
        (
            "Null of the lift",
            "what the lift is where nothing was poisoned: ASR of each clean retrain with another seed "
            f"({made}) less the twin’s. The band holds the middle 95% of the values of all seeds; a lift within it is "
            "no evidence of a backdoor",
        ),
        *_OF_DETECTORS,
        (
            "Calibrated FPR on null",
            "share of the null run’s stays that calibrated flags call poison, at a false-discovery rate of "
            f"{_percent(detection['fdr'])}",
        ),
        *_OF_BOTH,
    ]


_OF_ATTACKS: Final = (
    ("Clean twin", "the same cohort, parts, seed and model, trained without poison"),
    (
        "ASR",
        "attack success rate: share of the test stays of another label than the target that the model, shown the "
        "trigger, puts on the target’s side of its decision threshold",
    ),
    ("Lift", "ASR of the poisoned model less that of its clean twin, on the same stays with the same trigger"),
    (
        "Told apart",
        "AUROC of a classifier that tells triggered from clean test stays; 0.5 is an invisible, most plausible trigger",
    ),
)
_OF_DETECTORS: Final = (
    (
        "TPR at 1% FPR",
        "largest share of the poisoned training stays that a detector finds while it flags at most 1% of the others",
    ),
    (
        "Null run",
        "the detector on the clean training part with the clean twin; truth is the same stays, unpoisoned. A sound "
        "detector finds about 1% of them there",
    ),
    ("Oracle", "a detector told the truth: the best that can be and no real defense, so it stands beside the ranking"),
)
_OF_BOTH: Final = (
    (
        "TAR",
        "trigger attribution ratio: share of the absolute attribution that lies on what the trigger changed, mean "
        "over triggered stays",
    ),
    (
        "Doses",
        "minimal effective dose: the rate from which the lift is 0.5 or more; minimal detectable dose: the rate from "
        "which a detector’s TPR at 1% FPR is 0.5 or more; both to the end of the grid, interpolated in log rate, "
        "geometric mean over seeds. The gap is detectable over effective: above 1, the attack works before it is found",
    ),
)
