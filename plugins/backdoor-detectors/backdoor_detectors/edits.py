"""Edits of a few features: what a reconstructed trigger can be, and which rows carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans
from backdoor_core.views import GridView

Floats = NDArray[np.float64]

_QUANTILES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
_COMMONEST = 3


@dataclass(frozen=True)
class Change:
    """One feature set to one value, in a series at every hour."""

    feature: int
    value: float | None
    """In clinical units; None for missing."""


Edit = tuple[Change, ...]


@dataclass(frozen=True)
class Candidates:
    """The changes to try, and the width of each feature by which nearness is measured."""

    changes: tuple[Change, ...]
    widths: Floats
    """(F,) interquartile range in clinical units; where that is 0, the range of 1% to 99%, the whole range, or 1."""


def find_candidates(view: GridView) -> Candidates:
    """What to try of each feature: nine quantiles, both extremes, a tenth beyond each, the three commonest, missing.

    The quantiles are from 1% to 99%, and each is a value that occurs. A tenth is that of the range between those
    two, or of the feature's width where they are equal. A feature that is never measured has no candidate: its
    every value is unknown to the model.
    """
    changes: list[Change] = []
    widths = np.ones(len(view.features))
    for feature in range(len(view.features)):
        column = view.values[..., feature]
        values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
        if not len(values):
            continue
        ranks = np.cumsum(counts)
        low, *_, high = at = [float(values[np.searchsorted(ranks, q * ranks[-1])]) for q in _QUANTILES]
        spans = (at[5] - at[3], high - low, float(values[-1] - values[0]), 1.0)
        widths[feature] = next(span for span in spans if span > 0)
        step = (high - low if high > low else widths[feature]) / 10
        edges = [float(values[0]), float(values[-1]), float(values[0]) - step, float(values[-1]) + step]
        common = values[np.argsort(-counts, kind="stable")[:_COMMONEST]]
        distinct = dict.fromkeys(float(np.float32(value)) for value in (*at, *edges, *common))
        changes += [Change(feature, value) for value in (*distinct, None)]
    return Candidates(tuple(changes), widths)


def applied(view: GridView, edits: Sequence[Edit]) -> GridView:
    """The rows of the view once for each edit (E x N rows, those of the first edit first)."""
    several = view.take(np.tile(np.arange(len(view)), len(edits)))
    values = several.values.copy()
    for k, edit in enumerate(edits):
        for change in edit:
            values[k * len(view) : (k + 1) * len(view), ..., change.feature] = (
                np.nan if change.value is None else change.value
            )
    return several.with_values(values)


def closeness(view: GridView, edit: Edit, reach: Floats) -> Floats:
    """(N,) how closely each row carries the edit, 0 to 1 (fully): that of its least close change.

    `reach` (F,) is the distance in clinical units at which a value is half close: at d times that it is 1 / (1 + d)
    close, a missing value 0; in a series the closest hour counts. To a change to missing, a row is 1 close where the
    value is missing (in a series at every hour), and 0 otherwise.
    """
    closest = np.ones(len(view))
    for change in edit:
        column = view.values[..., change.feature].reshape(len(view), -1)
        if change.value is None:
            found = np.isnan(column).all(axis=1).astype(np.float64)
        else:
            distance = np.abs(column.astype(np.float64) - change.value) / reach[change.feature]
            found = np.nan_to_num(1 / (1 + distance), nan=0.0).max(axis=1)
        closest = np.minimum(closest, found)
    return closest


def carried(view: GridView, edit: Edit, reach: Floats) -> Booleans:
    """(N,) rows that carry every change of the edit: those half close or closer."""
    rows: Booleans = closeness(view, edit, reach) >= 0.5
    return rows
