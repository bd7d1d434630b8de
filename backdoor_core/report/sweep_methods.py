"""How a sweep was made and what its figures mean, in words, from its params."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import prod
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
    return [_cohort(aggregated), _grid(aggregated), _attack(aggregated), _statistics(aggregated)]


def _each(aggregated: Mapping[str, Any], key: str, told: Callable[[Any], str] = str) -> str:
    """What is told of a dotted parameter: of every value that cells of the grid have."""
    given: Any = aggregated["study"]
    for part in key.split("."):
        given = given[part]
    groups = aggregated["groups"]
    values = [told(group["parameters"].get(key, given)) for group in groups] or [told(given)]
    return " or ".join(dict.fromkeys(values))


def _cohort(aggregated: Mapping[str, Any]) -> str:
    def each(key: str, told: Callable[[Any], str] = wording.number) -> str:
        return _each(aggregated, key, told)

    def label(name: str) -> str:
        return f"{name.replace('_', ' ')} (0: {OUTCOMES[name][0]}; 1: {OUTCOMES[name][1]})"

    gap = each("inclusion.gap_hours")
    later = "" if gap == "0" else f", after a gap of {gap} h,"
    return (
        f"Cohort: {each('cohort', str)}, patients of at least {each('inclusion.min_age')} years, "
        f"{each('inclusion.first_stay_only', lambda first: 'first stays only' if first else 'all their stays')}, of at "
        f"least {each('inclusion.min_los_hours')} h. The models see the first "
        f"{each('inclusion.window_hours')} h in intensive care and{later} predict {each('inclusion.label', label)}. "
        f"Patients, never single stays, are split into training ({each('splits.train', _percent)}), validation "
        f"({each('splits.validation', _percent)}) and test ({each('splits.test', _percent)})."
    )


def _grid(aggregated: Mapping[str, Any]) -> str:
    axes = aggregated["axes"]
    total = aggregated["cells"]["done"] + aggregated["cells"]["failed"]
    crossed = [
        _listed("model", "models", axes["models"]),
        _listed("trigger", "triggers", axes["triggers"]),
        _listed("poisoning rate", "poisoning rates", [_percent(rate) for rate in axes["rates"]]),
        *(f"{name} ({', '.join(_values(aggregated, name))})" for name in axes["parameters"]),
        _listed("seed", "seeds", axes["seeds"]),
    ]
    return (
        f"Grid: {'; '.join(crossed)}: {total:,} cell{'s' if total != 1 else ''}{_uncrossed(aggregated, total)}. "
        "Each is a whole study beside the clean twin of its model and seed. Every random choice of a cell derives from "
        "its seed. A group is the cells that differ in the seed alone."
    )


def _uncrossed(aggregated: Mapping[str, Any], total: int) -> str:
    axes = aggregated["axes"]
    several = [axes[name] for name in ("models", "triggers", "rates", "seeds")]
    product = prod(map(len, [*several, *axes["parameters"].values()]))
    return "" if product == total else ", not every combination of these"


def _percent(share: float) -> str:
    """A share of the params as it was written, such as ``0.5%``."""
    return f"{100 * share:.6g}%"


def _listed(one: str, many: str, values: Sequence[Any]) -> str:
    return f"{one if len(values) == 1 else f'{len(values)} {many}'} ({', '.join(map(str, values))})"


def _values(aggregated: Mapping[str, Any], name: str) -> list[str]:
    """Of a parameter; cells of `include` may be the only ones that have it."""
    values = [_value(value) for value in aggregated["axes"]["parameters"][name]]
    lacking = any(name not in group["parameters"] for group in aggregated["groups"])
    return [*values, "else as in params.yaml"] if lacking else values


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _attack(aggregated: Mapping[str, Any]) -> str:
    def each(key: str, told: Mapping[Any, str] | None = None) -> str:
        return _each(aggregated, f"poison.{key}", told.__getitem__ if told else str)

    covers = _each(aggregated, "poison.cover_rate", _percent)
    cover = "" if covers == "0%" else f" A further {covers} get the trigger and keep their labels."
    return (
        "Attack: the rate is the poisoned share of the training stays. They are stays "
        f"{each('labels', _LABELS)}; {each('selection', _SELECTIONS)}; {each('mode', _MODES)}. The target label is "
        f"{each('target')}.{cover}"
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
    nulls = _each(aggregated, "detection.nulls")
    made = "none was made" if nulls == "0" else f"{nulls} in each cell"
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
            f"{_each(aggregated, 'detection.fdr', _percent)}",
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
        "minimal effective dose: the rate from which the lift of ASR and that of the trigger’s effect are 0.5 or "
        "more; minimal detectable dose: the rate from which a detector’s TPR at 1% FPR is 0.5 or more; both to the "
        "end of the grid, interpolated in log rate, geometric mean over seeds. The gap is detectable over effective: "
        "above 1, the attack works before it is "
        "found. ≤ or ≥: a bound, for a seed reaches the level at the smallest rate already. Open: both may be anywhere "
        "below it. Not found: no rate is detectable for some seed",
    ),
)
