"""What the page tells of the stage `explain`: the trigger's share by explainer, and the figures with their reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from backdoor_core.report.event_section import event_section
from backdoor_core.report.explain_charts import ATTENTION_ROLLOUT
from backdoor_core.words import percent

FIGURES: Final = {
    "tar": "TAR",
    "tar_baseline": "twin’s TAR",
    "tar_clean": "TAR without trigger",
    "chance": "chance",
    "tar_lift": "TAR lift",
    "tar_lift_seeds": "TAR lift over seeds",
    "recall_at_k": "recall at k",
    "recall_at_k_baseline": "twin’s recall at k",
}
BASELINES: Final = {
    "median": "the median clean training stay",
    "zero": "inputs of zero",
    "clean": "a sample of clean training stays",
    "events": "a stay whose events say nothing but that they are there, its static columns at the training mean",
}
_CAPTIONS: Final = {
    "features": "By feature, with the trigger and without it: a feature (orange name: touched by the trigger) whose "
    "circle lies far to the right of its diamond is what the trigger makes the poisoned model look at.",
    "twins": "The triggered stays in both models: where the circle lies to the right of the square, the poison, and "
    "not the odd value alone, makes the model look there.",
    "stays": "Each dot is a stay: orange dots to the right of 0 push towards the target, and a touched feature whose "
    "orange dots stand together apart from the gray ones works the same in every stay.",
    "hours_clean": "By hour, the stays as they are: what the poisoned model looks at without the trigger.",
    "hours_triggered": "By hour, with the trigger, on the same color scale: what is dark here and light without the "
    "trigger is the trigger at work.",
}


def explanation(results: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    """What the template needs of results_explain.json and of the SVG of each figure."""
    attention = results["attention"]
    rows = [(name, found["figures"], found) for name, found in results["explainers"].items()]
    return {
        "note": results["note"],
        "reading": _reading(results),
        "columns": FIGURES,
        "rows": [_row(name, figures, found) for name, figures, found in rows] + _rollout(attention),
        "series": [
            (name, [found["by_feature"][key] for key in FIGURES]) for name, _, found in rows if found["by_feature"]
        ],
        "baseline": BASELINES.get(results.get("baseline", "")),
        "ratio": Markup(pictures["tar"]) if "tar" in pictures else None,
        "explainers": [_entry(name, found, pictures) for name, found in results["explainers"].items()],
        "attention": None if attention is None else _attention(attention, pictures),
        "events": event_section(results["events"], pictures) if results.get("events") else None,
    }


def _row(name: str, figures: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "cells": [figures[key] for key in FIGURES],
        "without": sum(found["without_attribution"].values()),
    }


def _rollout(attention: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if attention is None or attention["rollout"] is None:
        return []
    return [{"name": ATTENTION_ROLLOUT, "cells": [attention["rollout"][key] for key in FIGURES], "without": 0}]


def _reading(results: Mapping[str, Any]) -> str | None:
    """The first explainer's finding in a sentence or two; None where there is no ratio."""
    if not results["explainers"]:
        return None
    name, found = next(iter(results["explainers"].items()))
    figures = found["figures"]
    tar, twin, chance = (figures[key]["value"] for key in ("tar", "tar_baseline", "chance"))
    if tar is None or twin is None or chance is None:
        return "The trigger touches no cell of the explained stays, or nothing is looked at: there is no ratio."
    told = (
        f"By {name}, {percent(tar)} of what the poisoned model looks at in triggered stays is the trigger; "
        f"in its clean twin {percent(twin)}, and {percent(chance)} if every cell counted alike."
    )
    return f"{told} {_verdict(figures['tar_lift_seeds'])}"


def _verdict(lift: Mapping[str, float | None]) -> str:
    value, low, high = lift["value"], lift["low"], lift["high"]
    if value is None or low is None or high is None:
        return (
            "Without clean retrains (detection.nulls is 0) nothing tells whether another seed would differ as much "
            "from the twin."
        )
    if low > 0:
        return "That is more than clean models of other seeds differ by: the poisoned model looks at the trigger."
    if high < 0:
        return "That is less than clean models of other seeds look at it."
    return (
        "The difference from clean models may still be the training seed, by which they differ among themselves: more "
        "clean retrains (detection.nulls) tell more."
    )


def _entry(name: str, found: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    drawn = [(pictures[f"{kind}_{name}"], words) for kind, words in _CAPTIONS.items() if f"{kind}_{name}" in pictures]
    return {
        "name": name,
        "figures": [{"svg": Markup(svg), "caption": words} for svg, words in drawn],
        "warning": found["warning"],
        "convergence": found["convergence"],
        "details": found["details"],
    }


def _attention(attention: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    layers = [f"attention_layer_{number}" for number in range(1, attention["layers"] + 1)]
    return {
        "layers": [Markup(pictures[name]) for name in layers],
        "head_shift": Markup(pictures["head_shift"]),
        "rollout": Markup(pictures["rollout"]) if "rollout" in pictures else None,
        "most_moved": ", ".join(f"layer {head['layer']} head {head['head']}" for head in attention["most_moved"]),
        "shift": attention["shift"],
        "averaged": attention["averaged"],
        "cls": attention["tokens"][0] == "CLS",
    }
