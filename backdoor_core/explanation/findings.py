"""What `results_explain.json` tells of one explainer: a pure function of its attributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backdoor_core.contracts import Booleans
from backdoor_core.explanation.case import LARGE_DELTA, Explained
from backdoor_core.explanation.folding import by_feature
from backdoor_core.explanation.trigger_ratio import Looked, tar_figures, touched_features, without_attribution
from backdoor_core.statistics import Weights


@dataclass(frozen=True)
class EventCells:
    """Which of the cells of N stays of events the trigger changed."""

    touched: Booleans
    """(N, cells) of the triggered stays: events that the clean stay does not have."""
    touched_clean: Booleans
    """(N, cells) of the clean stays: events that the triggered stay does not have."""
    present: Booleans
    """(N, cells) of the triggered stays: which there are."""
    touched_codes: Booleans
    """(N, F) codes with a touched event in the triggered stay; static columns are never touched."""


def explainer_findings(
    looked: Looked, answers: Sequence[Explained], touched: Booleans, weights: Weights
) -> dict[str, Any]:
    """TAR by cell and, of a series, by feature; rows without attribution; convergence and the explainer's details.

    `touched` (N, F) or (N, T, F), `weights` (replicates, N); `answers` are of all models and kinds of stays, that of
    the poisoned model with the trigger first. JSON-able.
    """
    convergence = _worst(answers)
    return {
        "figures": _json(looked, touched, weights),
        # A value is carried forward to later hours, where the trigger touched no cell: they count here.
        "by_feature": None if touched.ndim == 2 else _json(looked.map(by_feature), touched_features(touched), weights),
        "without_attribution": without_attribution(looked),
        "convergence": convergence,
        "warning": _warning(convergence),
        "details": answers[0].details,
    }


def event_findings(
    looked: Looked,
    by_code: Looked,
    answers: Sequence[Explained],
    cells: EventCells,
    weights: Weights,
) -> dict[str, Any]:
    """Likewise of events: TAR by event and by code.

    `looked` holds (N, cells) attributions, one cell for each event and static column, and `by_code` (N, F) sums of
    absolute ones over each stay's events of a code.
    """
    convergence = _worst(answers)
    figures = tar_figures(looked, cells.touched, weights, touched_clean=cells.touched_clean, present=cells.present)
    return {
        "figures": {name: found.as_dict() for name, found in figures.items()},
        "by_feature": _json(by_code, cells.touched_codes, weights),
        "without_attribution": without_attribution(looked),
        "convergence": convergence,
        "warning": _warning(convergence),
        "details": answers[0].details,
    }


def _json(looked: Looked, touched: Booleans, weights: Weights) -> dict[str, Any]:
    return {name: found.as_dict() for name, found in tar_figures(looked, touched, weights).items()}


def _worst(answers: Sequence[Explained]) -> dict[str, float] | None:
    """The convergence of the model and kind of stays where it is worst."""
    told = [answer.convergence for answer in answers if answer.convergence is not None]
    return max(told, key=lambda found: found["relative"]) if told else None


def _warning(convergence: dict[str, float] | None) -> str | None:
    if convergence is None or convergence["relative"] <= LARGE_DELTA:
        return None
    return (
        f"attributions miss the explained change by {convergence['relative']:.1%} of it on average; raise explain.steps"
    )
