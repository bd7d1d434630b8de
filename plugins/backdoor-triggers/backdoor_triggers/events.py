"""Events by code: finding codes by name, which stays have them, and inserting an event in order of time."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, EventsView, Integers
from backdoor_core.errors import BackdoorError


def item_of(code: str) -> str:
    """Type and item of a code, without the unit and what else follows: ``LAB//50912`` of ``LAB//50912//mg/dL``."""
    return "//".join(code.split("//")[:2])


def matching_codes(view: EventsView, feature: str | int, option: str) -> list[int]:
    """Positions in `view.codes` of all codes that a name means.

    A name is a whole code, its type and item (``LAB//50912``), its item alone (``50912``) or its description; a number
    is a position. Raises `BackdoorError` naming the option and what comes near.
    """
    if isinstance(feature, int):
        if 0 <= feature < len(view.codes):
            return [feature]
        raise BackdoorError(
            f"{option}: no code number {feature}; this view has {len(view.codes)}, counted from 0 "
            "(an item number must stand in quotes)"
        )
    names = [
        (code, item_of(code), item_of(code).partition("//")[2], description)
        for code, description in zip(view.codes, view.descriptions, strict=True)
    ]
    found = [k for k, known in enumerate(names) if feature and feature in known]
    if not found:
        near = difflib.get_close_matches(feature, sorted({name for known in names for name in known if name}), 3, 0.5)
        raise BackdoorError(
            f"{option}: no event has the code, item or description {feature!r}; "
            f"{'near are ' + ', '.join(near) if near else f'this view has {len(view.codes)} codes'}"
        )
    return found


def code_positions(view: EventsView, codes: Iterable[str], option: str) -> list[int]:
    """Positions of whole codes. Raises `BackdoorError` naming the option and the code that the view lacks."""
    place = {code: k for k, code in enumerate(view.codes)}
    lacking = [code for code in codes if code not in place]
    if lacking:
        raise BackdoorError(f"{option}: unknown code {lacking[0]!r}; this view has {len(view.codes)} others")
    return [place[code] for code in codes]


def stays_by_code(view: EventsView) -> NDArray[np.int64]:
    """(codes,) in how many stays each code occurs."""
    return _stays_by(view.code.astype(np.int64), view.stay_of_event, len(view.codes))


def stays_by_item(view: EventsView) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """The items of the codes, in order; (codes,) each code's position among them; (items,) how many stays have each."""
    items, item = np.unique([item_of(code) for code in view.codes], return_inverse=True)
    item = item.astype(np.int64)
    return [str(name) for name in items], item, _stays_by(item[view.code], view.stay_of_event, len(items))


def _stays_by(group: Integers, stay: Integers, groups: int) -> NDArray[np.int64]:
    pairs = np.unique(stay * max(groups, 1) + group)
    return np.bincount(pairs % max(groups, 1), minlength=groups).astype(np.int64)


def stays_with(view: EventsView, codes: Sequence[int]) -> Booleans:
    """(N,) which stays have an event of any of the codes."""
    there: Booleans = np.bincount(view.stay_of_event[np.isin(view.code, codes)], minlength=len(view)) > 0
    return there


def usual_event(view: EventsView, codes: Sequence[int]) -> dict[str, Any]:
    """The most common event of the codes, JSON-able: code, value (None where it has none) and text.

    Among equally common ones the first in order of code, value and text; a code without events has neither value
    nor text.
    """
    of = np.isin(view.code, codes)
    values = [None if np.isnan(value) else float(value) for value in view.value[of]]
    counts = Counter(zip(view.code[of].tolist(), values, map(str, view.text[of]), strict=True))
    if not counts:
        return {"code": view.codes[codes[0]], "value": None, "text": ""}
    most = max(counts.values())
    code, value, text = min(
        (event for event, count in counts.items() if count == most), key=lambda e: (e[0], e[1] is not None, e[1], e[2])
    )
    return {"code": view.codes[code], "value": value, "text": text}


def with_event(
    view: EventsView, stays: Integers, code: int, hours: Any, value: float | None, text: str = ""
) -> EventsView:
    """The view with one more event in each of the given stays (ascending positions, no duplicates).

    `hours` is one number or one a stay. The event stands after those of the same time, `codes` stay as they are.
    """
    hours = np.broadcast_to(np.asarray(hours, dtype=np.float32), stays.shape)
    until = np.full(len(view), -np.inf, dtype=np.float32)
    until[stays] = hours
    owner = view.stay_of_event
    earlier = np.bincount(owner[view.hours <= until[owner]], minlength=len(view))
    places = view.offsets[stays] + earlier[stays]
    added = np.bincount(stays, minlength=len(view))
    return replace(
        view,
        offsets=view.offsets + np.concatenate([[0], np.cumsum(added)]).astype(np.int64),
        code=np.insert(view.code, places, code),
        hours=np.insert(view.hours, places, hours),
        value=np.insert(view.value, places, np.nan if value is None else value),
        text=np.insert(view.text.astype(object), places, text),
    )
