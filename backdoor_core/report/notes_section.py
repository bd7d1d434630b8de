"""What the page tells of a language model of notes: use and leak by recipe, and every audit's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

PICTURE: Final = "comparison_plots"
_LEVELS: Final = (0.1, 0.01)


def of_notes(results: Mapping[str, Any] | None, pictures: Mapping[str, str]) -> dict[str, Any] | None:
    """What the template needs of the stage `leakage`'s comparison.json; None where there is none."""
    if results is None:
        return None
    recipes = results["recipes"]
    return {
        "corpus": results["corpus"],
        "references": results["references"],
        "chosen": results["study"]["notes"],
        "picture": Markup(pictures[PICTURE]) if PICTURE in pictures else None,
        "recipes": [(name, found["utility"], found["kept_epochs"]) for name, found in recipes.items()],
        "rows": [_row(recipe, name, audit) for recipe, f in recipes.items() for name, audit in f["audits"].items()],
        "differences": results["differences"],
        "privacy": next((found["privacy"] for found in recipes.values() if found["privacy"]), None),
        "withheld": any(
            audit["verdict"] and audit["verdict"]["word"] == "withheld"
            for found in recipes.values()
            for audit in found["audits"].values()
        ),
    }


def _row(recipe: str, name: str, audit: Mapping[str, Any]) -> dict[str, Any]:
    said = audit["verdict"]
    points = {point["fpr"]: point for point in audit["tpr"]}
    return {
        "recipe": recipe,
        "audit": name,
        "control": audit["control"],
        "auc": audit["auc"],
        "tpr": [points[level] for level in _LEVELS],
        "over_blind": audit["over_blind"],
        "word": None if said is None else said["word"],
        "text": None if said is None else " ".join([said["text"], *said["cautions"]]),
    }
