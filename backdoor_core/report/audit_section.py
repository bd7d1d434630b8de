"""What the page tells of the stage `audit`: which stays the models were trained on, and what the backdoor adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from backdoor_core.report.audit_charts import auc_chart, roc_chart
from backdoor_core.report.wording import number


def leakage(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs of results_audit.json."""
    audits = results["audits"]
    if not audits:
        return {"note": results["note"]}
    sighted = [name for name, found in audits.items() if not found["control"]]
    return {
        "note": None,
        "auc": Markup(auc_chart(audits)),
        "roc": Markup(roc_chart(audits)) if sighted else None,
        "rows": [_row(name, found, side) for name, found in audits.items() for side in ("poisoned", "baseline")],
        "levels": [level["fpr"] for level in next(iter(audits.values()))["poisoned"]["tpr"]],
        "verdicts": [
            (name, found["poisoned"]["verdict"], found["difference"])
            for name, found in audits.items()
            if found["poisoned"]["verdict"]
        ],
        "subgroups": [(name, audits[name]["subgroups"]) for name in sighted],
        "smallest": next(iter(audits.values()))["poisoned"]["smallest_fpr"],
        "references": references_in_words(results["references"]),
    }


def references_in_words(count: int) -> str:
    """What a reader is told of the reference models."""
    if count == 0:
        return "No audit here needs reference models, and none was trained."
    return f"{number(count)} reference models were trained on random halves of the same patients."


def _row(name: str, found: Mapping[str, Any], side: str) -> dict[str, Any]:
    figures = found[side]
    return {
        "name": name,
        "control": found["control"],
        "side": "poisoned model" if side == "poisoned" else "clean twin",
        "auc": figures["auc"],
        "tpr": figures["tpr"],
    }
