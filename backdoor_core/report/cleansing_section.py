"""What the page tells of cleansing: attack and model after each filter and repair, as a table and two charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backdoor_core.report.cleansing_charts import Outcome, outcome_chart
from backdoor_core.words import decimal, percent

PERFECT: Final = "perfect"
FIGURES: Final = {
    "asr": "ASR",
    "asr_lift": "ASR lift",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "ece": "ECE",
}

Oracles = Mapping[str, bool]
"""Whether a detector was told the truth."""


def cleansing(results: Mapping[str, Any], baseline: Mapping[str, Any], oracles: Oracles) -> dict[str, Any]:
    """The table's rows, whether there is anything to draw, and which filters remove nothing.

    `results` is results_cleanse.json, `baseline` the clean twin's performance without trigger.
    """
    ordered = _ordered(results["filters"])
    undefended = results["undefended"]["figures"]
    twin = [undefended["asr_baseline"], None, *(baseline[key] for key in ("auroc", "auprc", "ece"))]
    return {
        "calibrated": results["flags"] == "calibrated",
        "undefended": [undefended[key] for key in FIGURES],
        "twin": twin,
        "filters": [_row(name, results["filters"][name], oracles) for name in ordered],
        "repairs": [_repair(name, entry) for name, entry in results["repairs"].items()],
        "drawn": bool(results["repairs"]) or any(drawn(entry) for entry in results["filters"].values()),
        "idle": [_shown(name) for name in ordered if not results["filters"][name]["removed"]],
    }


def cleansing_charts(results: Mapping[str, Any], baseline: Mapping[str, Any], oracles: Oracles) -> dict[str, str]:
    """Lift and AUROC after each filter that removes something, and after each repair."""
    filters, undefended = results["filters"], results["undefended"]["figures"]
    names = [name for name in _ordered(filters) if drawn(filters[name])]

    def of(figure: str) -> list[Outcome]:
        filtered = [
            Outcome(
                name=_shown(name),
                oracle=_told(name, oracles),
                after=filters[name]["figures"][figure],
                control=filters[name]["random"] and filters[name]["random"][figure],
            )
            for name in names
        ]
        repaired = [
            Outcome(name=f"repair: {name}", oracle=False, after=entry["figures"][figure], control=None)
            for name, entry in results["repairs"].items()
        ]
        return filtered + repaired

    return {
        "cleanse_lift": outcome_chart("cleanse-lift", "ASR lift", of("asr_lift"), undefended["asr_lift"], 0.0),
        "cleanse_auroc": outcome_chart(
            "cleanse-auroc", "AUROC without trigger", of("auroc"), undefended["auroc"], baseline["auroc"]["value"]
        ),
    }


def drawn(entry: Mapping[str, Any]) -> bool:
    """Whether a filter made a model of its own."""
    return bool(entry["removed"]) and entry["figures"] is not None


def _shown(name: str) -> str:
    return "perfect removal" if name == PERFECT else name


def _told(name: str, oracles: Oracles) -> bool:
    return name == PERFECT or oracles.get(name, False)


def _ordered(filters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Perfect removal first, then those after which the lift is lowest; last those that made no model."""

    def place(name: str) -> tuple[bool, bool, float]:
        made = drawn(filters[name])
        lift = filters[name]["figures"]["asr_lift"]["value"] if made else None
        return name != PERFECT, not made, lift or 0.0

    return sorted(filters, key=place)


def _row(name: str, entry: Mapping[str, Any], oracles: Oracles) -> dict[str, Any]:
    """One filter; without figures of its own it has a note that says why."""
    made = drawn(entry)
    note = entry.get("note")
    if not entry["removed"]:
        what = "nothing was poisoned" if name == PERFECT else "flags nothing"
        note = f"{what}: the undefended model"
    return {
        "name": _shown(name),
        "oracle": _told(name, oracles),
        "removed": entry["removed"],
        "poisoned_removed": entry["poisoned_removed"],
        "figures": [entry["figures"][key] for key in FIGURES] if made else None,
        "random": [entry["random"][key] for key in FIGURES] if made and entry["random"] else None,
        "note": note,
    }


def _repair(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    figures = entry["figures"]
    return {
        "name": name,
        "figures": [figures[key] for key in FIGURES],
        "details": entry["details"],
        "promise": _promise(entry),
    }


def _promise(entry: Mapping[str, Any]) -> str | None:
    """What the repair promises of privacy, and what its canaries say of that; None where it promises nothing."""
    epsilon, bound = entry["details"].get("epsilon"), entry["privacy"]
    if epsilon is None or entry["details"].get("delta") is None:  # as `stages.mending.check_promise` has it
        return None
    promised = f"promises epsilon {decimal(epsilon)} for a single stay"
    if bound is None:
        return (
            f"{promised}, which was not checked: <code>audit.canaries</code> is 0, or the training part is too small."
        )
    verdict = "contradicts the promise" if bound["epsilon"] > bound["promised"]["epsilon"] else "contradicts nothing"
    return (
        f"{promised}. One more run, with {bound['canaries']:,} mislabeled stays each put in by the toss of a coin, "
        f"promised {decimal(bound['promised']['epsilon'])} and shows at least {decimal(bound['epsilon'])} "
        f"({percent(bound['confidence'])} confidence; at most {decimal(bound['ceiling'])} could have been shown): "
        f"this {verdict}."
    )
