"""One stay told in full: its static columns, its top events with their text, and how far the trigger moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from backdoor_core.contracts import Booleans, EventsView, Floats
from backdoor_core.explanation.event_bins import jsonable, type_of

MOST_EVENTS: Final = 15
_MOST_TOUCHED: Final = 5
"""Touched events that are told of even where they are not among the top ones."""


def top_events(
    view: EventsView,
    stay: int,
    touched: Booleans,
    attribution: Floats | None,
    pooling: Floats | None,
    most: int = MOST_EVENTS,
) -> list[dict[str, Any]]:
    """The `most` events of one stay with the largest absolute attribution (E,), largest first; JSON-able.

    Without attributions those with the largest pooling weight (E, P), mean over the heads; equal ones in order of
    time. Each has its ``rank``, ``hour``, ``type``, ``code``, ``description``, ``text`` and ``value`` as far as there
    are any, signed ``attribution``, mean ``pooling`` weight, and whether the trigger ``touched`` it. Up to
    five touched events that rank lower follow.
    """
    first, last = int(view.offsets[stay]), int(view.offsets[stay + 1])
    weight = None if pooling is None else pooling.mean(axis=1)
    by = attribution if attribution is not None else weight
    size = np.zeros(last - first) if by is None else np.abs(by[first:last])
    order = np.argsort(-size, kind="stable")
    rank = {int(event) + first: place for place, event in enumerate(order)}
    chosen = [int(event) + first for event in order[:most]]
    chosen += [int(event) + first for event in order[most:] if touched[event + first]][:_MOST_TOUCHED]
    return [_event(view, event, rank[event] + 1, touched, attribution, weight) for event in chosen]


def _event(
    view: EventsView, event: int, rank: int, touched: Booleans, attribution: Floats | None, weight: Floats | None
) -> dict[str, Any]:
    code = view.codes[view.code[event]]
    return {
        "rank": rank,
        "hour": jsonable(np.asarray(view.hours[event], dtype=np.float64)),
        "type": type_of(code),
        "code": code,
        "description": view.descriptions[view.code[event]],
        "text": str(view.text[event]),
        "value": jsonable(np.asarray(view.value[event], dtype=np.float64)),
        "attribution": None if attribution is None else jsonable(np.asarray(attribution[event])),
        "pooling": None if weight is None else jsonable(np.asarray(weight[event])),
        "touched": bool(touched[event]),
    }


def chosen_stay(log_odds: Mapping[str, Floats], changed: Booleans) -> int:
    """The stay whose log-odds the trigger moves most in the poisoned model, the first where several tie.

    Among the stays that the trigger `changed` (N,), or all where it changed none. `log_odds` has ``triggered`` and
    ``clean`` (N,), N of 1 or more.
    """
    among = np.flatnonzero(changed) if changed.any() else np.arange(len(changed))
    moved = np.abs(log_odds["triggered"] - log_odds["clean"])
    return int(among[np.argmax(moved[among])])


def story(
    view: EventsView,
    touched: Booleans,
    stay: int,
    log_odds: Mapping[str, Floats],
    attribution: tuple[str, Floats, Floats] | None,
    pooling: Floats | None,
    statics: Sequence[str],
) -> dict[str, Any]:
    """One triggered stay for the page; JSON-able.

    `attribution` is the explainer's name, (E,) and (N, S) signed; `log_odds` has (N,) of the target: ``triggered``,
    ``clean`` and the twin's ``baseline``. ``timeline`` has its top events in order of time, ``words`` the same in a few
    sentences.
    """
    name, events, columns = attribution if attribution is not None else (None, None, None)
    found = top_events(view, stay, touched, events, pooling)
    moved = {key: float(values[stay]) for key, values in log_odds.items()}
    owned = slice(int(view.offsets[stay]), int(view.offsets[stay + 1]))
    told: dict[str, Any] = {
        "stay_id": int(view.stay_id[stay]),
        "explainer": name,
        "log_odds": moved,
        "events": owned.stop - owned.start,
        "touched": int(touched[owned].sum()),
        "touched_share": None,
        "statics": [
            {
                "name": column,
                "value": _static(view.statics[column][stay]),
                "attribution": None if columns is None else jsonable(np.asarray(columns[stay, place])),
            }
            for place, column in enumerate(statics)
        ],
        "timeline": sorted(found, key=lambda event: (event["hour"], event["rank"])),
    }
    if events is not None and columns is not None:
        size, fixed = np.abs(events[owned]), float(np.abs(columns[stay]).sum())
        if size.sum() + fixed > 0:
            told["touched_share"] = float(size[touched[owned]].sum() / (size.sum() + fixed))
    return told | {"words": _words(told, found)}


def _static(value: Any) -> Any:
    """As JSON has it; None where it is missing."""
    if value is None or value != value:
        return None
    return value.item() if isinstance(value, np.generic) else value


def _words(told: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[str]:
    odds = told["log_odds"]
    before, after, of_twin = (_signed(odds[name]) for name in ("clean", "triggered", "baseline"))
    events = f"Of its {_counted(told['events'], 'event')}, the trigger put in or changed {told['touched']:,}."
    sentences = [
        events if told["events"] else "It has no events.",
        f"The target’s log-odds go from {before} to {after} in the poisoned model; the clean twin gives {of_twin} with "
        "the trigger.",
    ]
    if told["touched_share"] is not None:
        share = 100 * told["touched_share"]
        sentences.append(f"By {told['explainer']}, {share:.1f}% of all absolute attribution lies on touched events.")
    if found and found[0]["attribution"]:
        first = found[0]
        side = "towards" if first["attribution"] > 0 else "away from"
        own = ", which the trigger touched" if first["touched"] else ""
        sentences.append(f"The event that counts most{own}, at hour {first['hour']:.1f}, pushes {side} the target.")
    return sentences


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
