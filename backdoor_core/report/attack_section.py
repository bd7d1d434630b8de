"""What the page tells of the attack and of clean performance: figures, tables by group, and their charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.report.attack_charts import SIDES, group_chart, shift_chart, success_curve_chart
from backdoor_core.report.charts import Side, response_charts
from backdoor_core.report.drawing import shortened

PERFORMANCE: Final = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "ece": "ECE",
    "brier": "Brier score",
}
RATES: Final[Mapping[Side, str]] = {"poisoned": "asr", "baseline": "asr_baseline"}
VERDICTS: Final = {
    "backdoor": "backdoor",
    "weak": "weak backdoor",
    "distribution_shift": "distribution shift, no backdoor",
    "none": "no evidence of a backdoor",
    "clean_study": "clean study",
    "undecided": "undecided",
}
_WORDS: Final = {"sex": {"F": "women", "M": "men", "unknown": "sex unknown"}, "age": {"unknown": "age unknown"}}


def attack_charts(
    evaluation: Mapping[str, Any], predictions: Mapping[str, NDArray[Any]], target: int
) -> dict[str, str]:
    """The charts of the attack by name; `predictions` holds label and both models' probabilities of the test part."""
    attacked = predictions["label"] != target

    def of_target(side: Side, kind: str) -> NDArray[np.float64]:
        probability: NDArray[np.float64] = predictions[f"{side}.{kind}"][attacked]
        return probability if target == 1 else 1 - probability

    clean = {side: of_target(side, "clean") for side in SIDES}
    triggered = {side: of_target(side, "triggered") for side in SIDES}
    curve = evaluation["asr_curve"]
    responses = response_charts(clean, triggered, {side: curve[side]["threshold"] for side in SIDES})
    success = {side: evaluation["attack"][name]["value"] for side, name in RATES.items()}
    return {
        **{f"response_{side}": svg for side, svg in responses.items()},
        "asr_curve": success_curve_chart(curve, success),
        "shift": shift_chart({side: triggered[side] - clean[side] for side in SIDES}),
        "asr_groups": group_chart("asr-groups", "attack success rate", list(_success_rows(evaluation)), None),
        "auroc_groups": group_chart("auroc-groups", "AUROC without trigger", list(_auroc_rows(evaluation)), 0.5),
    }


def _success_rows(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[Side, Any]]]:
    for group in evaluation["subgroups"]:
        attack = group["attack"]
        yield _named(group, attack["stays"]), {side: attack[RATES[side]] for side in SIDES}


def _auroc_rows(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[Side, Any]]]:
    for group in evaluation["subgroups"]:
        clean = group["clean"]
        yield _named(group, clean["stays"]), {side: clean[side]["auroc"] for side in SIDES}


def _named(group: Mapping[str, Any], stays: int) -> str:
    return f"{shortened(group_name(group), 48)} ({stays:,})"


def group_name(group: Mapping[str, Any]) -> str:
    """A group in words, such as "women" or "age 65–79"."""
    by, value = group["group"], str(group["value"])
    known = _WORDS.get(by, {}).get(value)
    if known is not None:
        return known
    if by == "age":
        return f"age {value}"
    return f"{value} care unit" if by == "care unit" and value in ("other", "unknown") else value


def groups(evaluation: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """The subgroups as (what they are by, [(name, figures)]), in the order of the results."""
    return [
        (by, [(group_name(group), group) for group in members])
        for by, members in groupby(evaluation["subgroups"], key=lambda group: group["group"])
    ]
