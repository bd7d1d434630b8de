"""The recipes: how a language model is trained, and what keeps it from learning its members by heart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backdoor_core.language.private import Privacy, plan_privacy
from backdoor_core.notes_params import NotesParams, Recipe


@dataclass(frozen=True)
class Plan:
    """One recipe for so many members."""

    recipe: Recipe
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    dropout: float = 0.0
    gap: float | None = None
    """By what share of it the stopping part's NLL may exceed that of the members; None does not stop."""
    privacy: Privacy | None = None


def slowest_first(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The recipes in the order in which workers are to take them."""
    return sorted(recipes, key=("dp", "regularized", "baseline").index)


def plan_of(recipe: Recipe, params: NotesParams, members: int) -> Plan:
    """What params.yaml says of a recipe. Raises `BackdoorError` where no noise keeps to the budget of `dp`."""
    if recipe == "baseline":
        return Plan(recipe, params.epochs, params.batch_size, params.learning_rate)
    if recipe == "regularized":
        chosen = params.regularized
        return Plan(
            recipe,
            chosen.epochs or params.epochs,
            params.batch_size,
            chosen.learning_rate,
            chosen.weight_decay,
            chosen.dropout,
            chosen.gap,
        )
    private = params.dp
    epochs = private.epochs or params.epochs
    privacy = plan_privacy(members, private.batch_size, epochs, private.epsilon, private.delta, private.max_grad_norm)
    return Plan(recipe, epochs, private.batch_size, private.learning_rate, privacy=privacy)
