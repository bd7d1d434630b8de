"""Figures by true class and by subgroup of the patients: whom does the attack hit, and whom does the model fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.attack.success import Answers, Pair, success_rates
from backdoor_core.contracts import Booleans
from backdoor_core.learning.performance import performance
from backdoor_core.statistics import Estimate

SMALLEST: Final = 20
"""Stays; a smaller group gets no figure."""
TOO_FEW: Final = f"fewer than {SMALLEST} stays"
ONE_OUTCOME: Final = "one outcome only"
UNITS: Final = 6
"""Care units shown by name, the largest of the test part; the rest are one group."""
UNKNOWN: Final = "unknown"
PERFORMANCE: Final = ("auroc", "auprc", "ece", "brier")
_AGES: Final = ((0, 18), (18, 45), (45, 65), (65, 80), (80, np.inf))
_RATES: Final = ("asr", "asr_baseline", "asr_lift")
_NOTHING: Final = Estimate(None, None, None).as_dict()


@dataclass(frozen=True)
class Group:
    """Some of the N test stays that have something in common."""

    by: str
    """What the stays were grouped by: sex, age or care unit."""
    value: str
    rows: Booleans
    """(N,)"""


# ------------------------------------------------------------------------------------------------------- groups
def groups_of(statics: Mapping[str, NDArray[Any]]) -> list[Group]:
    """Test stays by sex, age band and first care unit, from the cohort's static columns (N,) each.

    A column that the cohort lacks, or that is unknown for every stay, gives no group.
    """
    values: dict[str, tuple[Callable[[NDArray[Any]], tuple[NDArray[Any], list[str]]], str]] = {
        "sex": (_names, "sex"),
        "age": (_age_bands, "age"),
        "care unit": (_units, "first_careunit"),
    }
    groups = []
    for by, (named, column) in values.items():
        if column not in statics:
            continue
        names, order = named(statics[column])
        if order != [UNKNOWN]:
            groups += [Group(by, name, names == name) for name in order]
    return groups


def _names(column: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    names = np.array([UNKNOWN if value is None or value != value else str(value) for value in column], dtype=object)
    return names, _unknown_last(sorted(set(names)))


def _unknown_last(names: list[str]) -> list[str]:
    return [name for name in names if name != UNKNOWN] + [name for name in names if name == UNKNOWN]


def _age_bands(column: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    ages = np.array([np.nan if age is None else float(age) for age in column])
    names = np.full(len(ages), UNKNOWN, dtype=object)
    order = []
    for low, high in _AGES:
        name = f"{low}–{high - 1:.0f}" if np.isfinite(high) else f"{low}+"
        name = f"under {high}" if low == 0 else name
        inside = (ages >= low) & (ages < high)
        names[inside] = name
        order += [name] if inside.any() else []
    return names, order + ([UNKNOWN] if np.isnan(ages).any() else [])


def _units(column: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    names, found = _names(column)
    known = [name for name in found if name != UNKNOWN]
    largest = sorted(known, key=lambda name: (-int((names == name).sum()), name))[:UNITS]
    rest = ~np.isin(names, [*largest, UNKNOWN])
    names[rest] = "other"
    order = largest + (["other"] if rest.any() and "other" not in largest else [])
    return names, order + ([UNKNOWN] if UNKNOWN in found else [])


# ------------------------------------------------------------------------------------------------------ figures
def success_in(rows: Booleans, answers: Pair, target: int, weights: NDArray[Any]) -> dict[str, Any]:
    """`success_rates` on some test stays (N,) as JSON, with their number; null figures and a note where too few."""
    stays = int(rows.sum())
    if stays < SMALLEST:
        return {"stays": stays, **dict.fromkeys(_RATES, _NOTHING), "note": TOO_FEW}
    poisoned, baseline = (answers[side].response(target).take(rows) for side in ("poisoned", "baseline"))
    found = success_rates(poisoned, baseline, weights[:, rows])
    return {"stays": stays, **{name: found[name].as_dict() for name in _RATES}, "note": None}


def success_by_class(
    label: NDArray[np.int8], answers: Pair, target: int, weights: NDArray[Any]
) -> list[dict[str, Any]]:
    """Share of triggered stays on the target's side, for the test stays of each true label (N,).

    For the target's own label this is no success of the attack, but tells whether the trigger also keeps such
    stays where they belong.
    """
    return [{"label": value, **success_in(label == value, answers, target, weights)} for value in (0, 1)]


def by_subgroup(
    groups: list[Group],
    label: NDArray[np.int8],
    answers: Pair,
    clean: Mapping[str, Sequence[dict[str, Any]]],
    target: int,
    weights: NDArray[Any],
) -> list[dict[str, Any]]:
    """Attack and clean performance in each group, on the same resamples `weights` (replicates, N).

    The attack is measured on the group's stays of another label than the target, clean performance on all: it is
    given by model, from `clean_by_subgroup`.
    """
    return [
        {
            "group": group.by,
            "value": group.value,
            "attack": success_in(group.rows & (label != target), answers, target, weights),
            "clean": _clean_in(label[group.rows], {side: found[k] for side, found in clean.items()}),
        }
        for k, group in enumerate(groups)
    ]


def clean_by_subgroup(
    groups: list[Group], label: NDArray[np.int8], answer: Answers, weights: NDArray[Any]
) -> list[dict[str, Any]]:
    """How well one model predicts in each group; null figures where the group has too few stays."""
    found = []
    for rows in (group.rows for group in groups):
        if rows.sum() < SMALLEST:
            found.append(dict.fromkeys(PERFORMANCE, _NOTHING))
            continue
        truth = label[rows] == 1
        figures = performance(answer.clean[rows], truth, answer.threshold, weights[:, rows], PERFORMANCE)
        found.append({name: figures[name].as_dict() for name in PERFORMANCE})
    return found


def _clean_in(label: NDArray[np.int8], by_model: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    stays, positives = len(label), int((label == 1).sum())
    note = TOO_FEW if stays < SMALLEST else ONE_OUTCOME if positives in (0, stays) else None
    return {"stays": stays, "positives": positives, **by_model, "note": note}
