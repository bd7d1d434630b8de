"""What a trigger changed: cells of a table or series, events of a sequence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, EventsView, GridView, View
from backdoor_core.views import as_grid

Event = tuple[str, float, float | None, str]
"""Code, hour, value (None where there is none) and text."""


def changed_cells(before: View, after: View) -> Booleans:
    """Which cells of `after` differ from `before`, the same stays; two missing values are equal.

    The shape is that of the values, or (E,) for the events of `after`: True for an event that the stay did not
    have, or had less often. A removed event leaves no cell. Raises `TypeError` for views of two kinds.
    """
    if isinstance(before, EventsView) and isinstance(after, EventsView):
        return _new_events(before, after)
    if isinstance(before, EventsView) or isinstance(after, EventsView) or type(before) is not type(after):
        raise TypeError(f"a {before.modality} view cannot be compared with a {after.modality} view")
    changed: Booleans = (before.values != after.values) & ~(np.isnan(before.values) & np.isnan(after.values))
    return changed


def touched_features(before: View, after: View) -> dict[str, dict[str, Any]]:
    """Of one stay (views of one row): each feature that changed, with its value before and after.

    A feature of a table has one value, of a series one for each hour; missing is None. Of events, each code whose
    events changed, with the list of its events, each hour, value and text.
    """
    if isinstance(before, EventsView) and isinstance(after, EventsView):
        return _touched_codes(before, after)
    before, after = as_grid(before), as_grid(after)
    features = np.flatnonzero(changed_cells(before, after).reshape(-1, len(before.features)).any(axis=0))
    return {
        before.features[j].name: {"before": _numbers(before, j), "after": _numbers(after, j)} for j in features.tolist()
    }


def _new_events(before: EventsView, after: EventsView) -> Booleans:
    changed = np.zeros(len(after.code), dtype=np.bool_)
    known, found = events_of(before), events_of(after)
    for row in range(len(after)):
        left = Counter(known[before.offsets[row] : before.offsets[row + 1]])
        for position in range(int(after.offsets[row]), int(after.offsets[row + 1])):
            changed[position] = left[found[position]] == 0
            left[found[position]] -= 1
    return changed


def _touched_codes(before: EventsView, after: EventsView) -> dict[str, dict[str, Any]]:
    sides = [Counter(events_of(before)), Counter(events_of(after))]
    changed = {event[0] for event in (sides[0] - sides[1]) + (sides[1] - sides[0])}
    touched = {}
    for code in sorted(changed):
        both = [[list(e[1:]) for e in events_of(view) if e[0] == code] for view in (before, after)]
        touched[code] = {"before": both[0], "after": both[1]}
    return touched


def events_of(view: EventsView) -> list[Event]:
    """(E,) the events as plain values, so that equal ones are equal."""
    codes = [view.codes[code] for code in view.code]
    values = [None if np.isnan(value) else value for value in view.value.tolist()]
    return list(zip(codes, view.hours.tolist(), values, view.text.tolist(), strict=True))


def _numbers(view: GridView, feature: int) -> float | list[float | None] | None:
    """One number, or one for each hour; missing is None."""
    values: NDArray[np.float32] = view.values[0, ..., feature]
    numbers = [None if np.isnan(value) else float(value) for value in np.atleast_1d(values)]
    return numbers if np.ndim(values) else numbers[0]
