"""Attributions of events summed up: by type over hours, by code, by part of an event, and the hours that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from backdoor_core.contracts import Floats
from backdoor_core.explanation.event_attribution import GROUPS, EventAttribution
from backdoor_core.explanation.event_bins import Binned, EventBins, jsonable, type_of
from backdoor_core.explanation.event_queries import code_entry, stays_with

MOST_CODES: Final = 20
WINDOWS: Final = (1, 3, 6)
"""Lengths, in bins of time, of the windows that are looked for."""
SIDES: Final = ("triggered", "clean", "baseline")
"""The poisoned model with the trigger and without it, and the clean twin with it."""


@dataclass(frozen=True)
class Side:
    """Attributions of N stays, and where their E events belong."""

    attribution: EventAttribution
    binned: Binned

    def __post_init__(self) -> None:
        """Raises `ValueError` for attributions of other events or stays."""
        events, stays = len(self.binned.stay), self.binned.stays
        found = (self.attribution.events.shape, len(self.attribution.statics))
        if found != ((events, len(GROUPS)), stays):
            raise ValueError(
                f"attributions of events have shape {found[0]}, of statics {found[1]} rows; the view has {events} "
                f"events of {stays} stays in {len(GROUPS)} groups"
            )

    @property
    def total(self) -> Floats:
        """(E,) signed, in float64."""
        return np.asarray(self.attribution.events.sum(axis=1, dtype=np.float64))


def by_type_over_hours(side: Side, bins: EventBins) -> Floats:
    """(K, B) absolute attribution of each type's events in each bin of time, summed over a stay, mean over the N."""
    both = side.binned.type * bins.count + side.binned.hour
    sums = side.binned.sums(np.abs(side.total), both, len(bins.types) * bins.count)
    return np.asarray(_mean(sums).reshape(len(bins.types), bins.count))


def by_code(side: Side, bins: EventBins) -> tuple[Floats, Floats]:
    """(2 C,) absolute and (2 C,) signed attribution of a stay's events of each code, mean over the N.

    The last C are those of events that the trigger touched.
    """
    count = 2 * len(bins.codes)
    total = side.total
    sums = [np.bincount(side.binned.code, weights=values, minlength=count) for values in (np.abs(total), total)]
    return sums[0] / max(side.binned.stays, 1), sums[1] / max(side.binned.stays, 1)


def by_group(side: Side) -> Floats:
    """(groups,) absolute attribution of each part of an event, summed over a stay's events, mean over the N."""
    size = np.abs(side.attribution.events.astype(np.float64)).sum(axis=0)
    return np.asarray(size / max(side.binned.stays, 1))


def by_static(side: Side) -> Floats:
    """(S,) mean absolute attribution of each static column."""
    return _mean(np.abs(side.attribution.statics.astype(np.float64)))


def _mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=0)) if len(values) else np.zeros(values.shape[1:])


def critical_windows(side: Side, bins: EventBins, lengths: Sequence[int] = WINDOWS) -> list[dict[str, Any]]:
    """For each length in bins the window with the largest share of a stay's absolute attribution; JSON-able.

    ``share`` is the mean over the stays with any attribution to events; ``alike``, the control, that of the same stays
    and window if every event counted alike. Where windows tie, the first. Lengths beyond the whole span are left out.
    """
    size = side.binned.sums(np.abs(side.total), side.binned.hour, bins.count)
    events = side.binned.sums(np.ones(len(side.total)), side.binned.hour, bins.count)
    known = size.sum(axis=1) > 0
    found = []
    for length in lengths:
        if length > bins.count or not known.any():
            continue
        shares = [_sliding(part[known], length) for part in (size, events)]
        best = int(np.argmax(shares[0]))
        found.append(
            {
                "from": bins.start + best * bins.width,
                "to": bins.start + (best + length) * bins.width,
                "hours": length * bins.width,
                "share": float(shares[0][best]),
                "alike": float(shares[1][best]),
            }
        )
    return found


def _sliding(sums: Floats, length: int) -> Floats:
    """(B - length + 1,) mean share of each window in the sums (N, B) of a stay, none of which sums to 0."""
    share = (sums / sums.sum(axis=1, keepdims=True)).mean(axis=0)
    return np.asarray(np.convolve(share, np.ones(length), mode="valid"))


def importance_figures(sides: Mapping[str, Side], bins: EventBins, statics: Sequence[str]) -> dict[str, Any]:
    """All of the above of one explainer for each of `SIDES`; JSON-able.

    Codes are those `MOST_CODES` with the largest absolute attribution in any of the sides; ``stays`` is the share of
    stays with the code, of the clean stays where only they have it. Raises `ValueError` where the static columns are
    not as many as `statics` names.
    """
    for name, side in sides.items():
        if side.attribution.statics.shape[1] != len(statics):
            raise ValueError(f"{name}: {side.attribution.statics.shape[1]} static columns, but {len(statics)} names")
    codes = {name: by_code(side, bins) for name, side in sides.items()}
    largest = np.max([codes[name][0] for name in SIDES], axis=0, initial=0.0)
    # Touched events first where codes tie, then in the order of the codes.
    order = sorted(np.flatnonzero(largest > 0).tolist(), key=lambda k: (-largest[k], k < len(bins.codes), k))
    present = {name: stays_with(sides[name].binned, bins) / max(sides[name].binned.stays, 1) for name in SIDES[:2]}
    told = []
    for place in order[:MOST_CODES]:
        entry = code_entry(place, bins)
        entry["type"] = type_of(entry["code"])
        entry["stays"] = float(present["triggered"][place] or present["clean"][place])
        entry |= {name: jsonable(codes[name][0][place]) for name in SIDES}
        entry |= {"signed": jsonable(codes["triggered"][1][place])}
        told.append(entry)
    return {
        "by_type_hour": {name: jsonable(by_type_over_hours(sides[name], bins)) for name in SIDES},
        "by_group": {name: jsonable(by_group(sides[name])) for name in SIDES},
        "by_static": {name: jsonable(by_static(sides[name])) for name in SIDES},
        "by_code": told,
        "windows": {name: critical_windows(sides[name], bins) for name in SIDES},
    }
