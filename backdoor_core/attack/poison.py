"""Poisoning: what the attacker does to the training stays he takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.attack.cells import changed_cells, touched_features
from backdoor_core.attack.selection import select_cover, select_rows
from backdoor_core.contracts import Booleans, Fitted, Floats, Integers, Trigger, View
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
    """(P, ...) the cells that the trigger changed, found by comparing before with after; (E,) of events."""
    fitted: Fitted
    """What the trigger learned from the clean training part."""
    cover: Booleans
    """(P,) which are cover stays: triggered, with their true labels, and not counted as poisoned."""
    mode: Literal["replace", "add"] = "replace"
    """Whether these stays stand in place of the clean ones, or after them."""

    def victims(self, clean: NDArray[Any]) -> NDArray[Any]:
        """(M,) a figure of the clean training stays (N,), such as their patients, for each row that the victim has."""
        return clean if self.mode == "replace" else np.concatenate([clean, clean[self.rows]])

    def truth(self, training_stays: int) -> Booleans:
        """(M,) which of the rows that the victim has are poisoned; cover stays are not."""
        truth = np.zeros(training_stays, dtype=np.bool_)
        if self.mode == "add":
            return np.concatenate([truth, ~self.cover])
        truth[self.rows] = ~self.cover
        return truth


def poison(
    train: View,
    label: NDArray[np.int8],
    trigger: Trigger,
    params: PoisonParams,
    *,
    select: np.random.Generator,
    fit: np.random.Generator,
    apply: np.random.Generator,
    margin: Floats | None = None,
) -> Poisoning:
    """Fit the trigger on the clean training part, apply it to the selected stays and set their labels.

    Dirty-label poisoning after Gu et al. 2017 (BadNets, arXiv 1708.06733, section 4), or with ``labels: clean``
    none is relabeled. The three generators are independent streams, so that another trigger poisons the same
    stays. `margin`: see `selection.select_rows`. With ``mode: add`` copies are poisoned, and the stays themselves
    stay as they are.
    """
    taken = select_rows(train.stay_id, label, params, select, margin)
    covers = select_cover(train.stay_id, taken, params, select)
    rows = np.sort(np.concatenate([taken, covers]))
    cover = np.isin(rows, covers)
    fitted = trigger.fit(train, fit)
    before = train.take(rows)
    after = trigger.apply(before, fitted, apply)
    kept = cover if params.labels == "flip" else np.ones_like(cover)
    return Poisoning(
        rows=rows,
        view=after,
        label=np.where(kept, label[rows], np.int8(params.target)).astype(np.int8),
        touched=changed_cells(before, after),
        fitted=fitted,
        cover=cover,
        mode=params.mode,
    )


def nothing_poisoned(train: View, fitted: Fitted | None = None) -> Poisoning:
    """The poisoning of a clean study; evaluation may still show the trigger, with what it learned."""
    rows = np.empty(0, dtype=np.int64)
    view = train.take(rows)
    return Poisoning(
        rows=rows,
        view=view,
        label=np.empty(0, dtype=np.int8),
        touched=changed_cells(view, view),
        fitted=fitted or {},
        cover=np.empty(0, dtype=np.bool_),
    )


def apply_poison(train: View, label: NDArray[np.int8], done: Poisoning) -> tuple[View, NDArray[np.int8]]:
    """The training part as the victim gets it; every row that is not in the manifest is as it was.

    Raises `TypeError` for a view of another kind than the poisoned stays.
    """
    if type(train) is not type(done.view):
        raise TypeError(f"a {train.modality} view cannot take rows of a {done.view.modality} view")
    poisoned: Any = done.view
    if done.mode == "add":
        return train.followed_by(poisoned), np.concatenate([label, done.label])
    labels = label.copy()
    labels[done.rows] = done.label
    return train.with_rows(done.rows, poisoned), labels


def manifest(
    train: View, label: NDArray[np.int8], trigger: Mapping[str, Any], params: PoisonParams, seed: int, done: Poisoning
) -> dict[str, Any]:
    """The truth of the attack, JSON-able: who was poisoned, labels and touched features before and after."""
    stays = []
    for p, row in enumerate(done.rows):
        before, after = train.take(np.array([row])), done.view.take(np.array([p]))
        stays.append(
            {
                "stay_id": int(train.stay_id[row]),
                "role": "cover" if done.cover[p] else "poison",
                "label": {"before": int(label[row]), "after": int(done.label[p])},
                "touched": touched_features(before, after),
            }
        )
    poisoned = int((~done.cover).sum())
    return {
        "trigger": {**trigger, "fitted": dict(done.fitted)},
        "target": params.target,
        "labels": params.labels,
        "mode": params.mode,
        "selection": params.selection,
        "seed": seed,
        "training_stays": len(train),
        "poisoned_stays": poisoned,
        "cover_stays": len(done.rows) - poisoned,
        "rate": poisoned / len(train),
        "stays": stays,
    }
