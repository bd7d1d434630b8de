"""Poisoning: which training stays the attacker takes, and what he does to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Fitted, Integers, Trigger, View
from backdoor_core.errors import BackdoorError
from backdoor_core.params import PoisonParams


@dataclass(frozen=True)
class Poisoning:
    """The stays that differ from the clean training part, and how."""

    rows: Integers
    """(P,) their positions in the training part, ascending."""
    view: View
    """(P, ...) those stays after the trigger."""
    label: NDArray[np.int8]
    """(P,) their labels after poisoning."""
    touched: Booleans
    """(P, ...) the cells that the trigger changed, found by comparing before with after."""
    fitted: Fitted
    """What the trigger learned from the clean training part."""


def poison_count(params: PoisonParams, training_stays: int, eligible: int) -> int:
    """Number of stays to poison.

    Raises `BackdoorError` where the rate rounds to no stay, or more are asked for than are eligible.
    """
    if params.count is not None:
        asked, count = f"poison.count {params.count}", params.count
    else:
        asked, count = f"poison.rate {params.rate:g}", round(params.rate * training_stays)
        if params.rate > 0 and count == 0:
            smallest = 1 / training_stays
            raise BackdoorError(
                f"params.yaml: {asked} selects none of {training_stays} training stays; "
                f"use a rate from {smallest:.2g} to {eligible / training_stays:.2g}, or poison.count"
            )
    if count > eligible:
        raise BackdoorError(
            f"params.yaml: {asked} asks for {count} stays, but only {eligible} of {training_stays} training stays have "
            f"a label other than the target {params.target}; use a rate up to {eligible / training_stays:.2g} or a "
            f"count up to {eligible}"
        )
    return count


def select_rows(stay_id: Integers, label: NDArray[np.int8], params: PoisonParams, rng: np.random.Generator) -> Integers:
    """(P,) positions of the stays to poison: uniform among those whose label is not the target.

    The draw depends on the set of stays only, not on their order.
    """
    eligible = np.flatnonzero(label != params.target)
    eligible = eligible[np.argsort(stay_id[eligible], kind="stable")]
    count = poison_count(params, len(label), len(eligible))
    return np.sort(rng.permutation(eligible)[:count])


def changed_cells(before: View, after: View) -> Booleans:
    """Which cells differ, two missing values being equal; same shape as the values."""
    changed: Booleans = (before.values != after.values) & ~(np.isnan(before.values) & np.isnan(after.values))
    return changed


def poison(
    train: View,
    label: NDArray[np.int8],
    trigger: Trigger,
    params: PoisonParams,
    *,
    select: np.random.Generator,
    fit: np.random.Generator,
    apply: np.random.Generator,
) -> Poisoning:
    """Fit the trigger on the clean training part, apply it to the selected stays and relabel them.

    Dirty-label poisoning after Gu et al. 2017 (BadNets, arXiv 1708.06733, section 4). The three generators
    are independent streams, so that another trigger poisons the same stays.
    """
    rows = select_rows(train.stay_id, label, params, select)
    fitted = trigger.fit(train, fit)
    before = train.take(rows)
    after = trigger.apply(before, fitted, apply)
    return Poisoning(
        rows=rows,
        view=after,
        label=np.full(len(rows), params.target, dtype=np.int8),
        touched=changed_cells(before, after),
        fitted=fitted,
    )


def nothing_poisoned(train: View) -> Poisoning:
    """The poisoning of a clean study."""
    rows = np.empty(0, dtype=np.int64)
    view = train.take(rows)
    return Poisoning(rows, view, np.empty(0, dtype=np.int8), np.zeros(view.values.shape, dtype=np.bool_), {})


def apply_poison(train: View, label: NDArray[np.int8], poisoning: Poisoning) -> tuple[View, NDArray[np.int8]]:
    """The training part as the victim gets it: the poisoned stays replaced, every other row as it was."""
    if type(train) is not type(poisoning.view):
        raise TypeError(f"a {train.modality} view cannot take rows of a {poisoning.view.modality} view")
    labels = label.copy()
    labels[poisoning.rows] = poisoning.label
    return train.with_rows(poisoning.rows, poisoning.view), labels  # type: ignore[arg-type]  # same type: see above


def manifest(
    train: View, label: NDArray[np.int8], trigger: Mapping[str, Any], params: PoisonParams, seed: int, done: Poisoning
) -> dict[str, Any]:
    """The truth of the attack, JSON-able: who was poisoned, labels and touched features before and after.

    A feature of a table has one value before and one after; of a series, one for each hour. Missing is null.
    """
    stays = []
    for p, row in enumerate(done.rows):
        features = np.flatnonzero(done.touched[p].reshape(-1, len(train.features)).any(axis=0))
        touched = {
            train.features[j].name: {
                "before": _numbers(train.values[row, ..., j]),
                "after": _numbers(done.view.values[p, ..., j]),
            }
            for j in features
        }
        stays.append(
            {
                "stay_id": int(train.stay_id[row]),
                "label": {"before": int(label[row]), "after": int(done.label[p])},
                "touched": touched,
            }
        )
    return {
        "trigger": {**trigger, "fitted": dict(done.fitted)},
        "target": params.target,
        "labels": params.labels,
        "seed": seed,
        "training_stays": len(train),
        "poisoned_stays": len(done.rows),
        "rate": len(done.rows) / len(train),
        "stays": stays,
    }


def _numbers(values: NDArray[np.float32]) -> float | list[float | None] | None:
    """One number, or one for each hour; missing is None."""
    numbers = [None if np.isnan(value) else float(value) for value in np.atleast_1d(values)]
    return numbers if np.ndim(values) else numbers[0]
