"""By what the events of several views are told apart: type, code, hour, and whether the trigger put them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, EventsView, Floats

TRIGGER: Final = "trigger"
"""The type of the events that the trigger touched, whatever their code."""
MOST_BINS: Final = 48
"""Bins of time; a longer span gets bins of several hours."""


@dataclass(frozen=True)
class EventBins:
    """Types, codes and bins of time that several views share."""

    types: tuple[str, ...]
    """K of them: the part of a code before the first ``//``, sorted, then `TRIGGER`."""
    codes: tuple[str, ...]
    """C codes, sorted."""
    descriptions: tuple[str, ...]
    """A readable text for each code."""
    start: int
    """Hour since ICU admission at which the first bin starts: 0, or earlier where an event is."""
    width: int
    """Hours of a bin."""
    count: int
    """B bins of time."""

    def of(self, view: EventsView, touched: Booleans) -> Binned:
        """Where the events of one of the views belong; `touched` (E,)."""
        if touched.shape != view.code.shape:
            raise ValueError(f"touched has shape {touched.shape}, the view has {len(view.code)} events")
        place = {code: k for k, code in enumerate(self.codes)}
        kinds = {kind: k for k, kind in enumerate(self.types)}
        used = np.unique(view.code)
        code = np.zeros(len(view.codes), dtype=np.int64)
        kind = np.zeros(len(view.codes), dtype=np.int64)
        code[used] = [place[view.codes[k]] for k in used]
        kind[used] = [kinds[type_of(view.codes[k])] for k in used]
        bins = np.floor((view.hours.astype(np.float64) - self.start) / self.width).astype(np.int64)
        return Binned(
            stays=len(view),
            stay=view.stay_of_event,
            type=np.where(touched, len(self.types) - 1, kind[view.code]),
            code=code[view.code] + len(self.codes) * touched,
            hour=np.clip(bins, 0, self.count - 1),
            touched=touched,
        )

    def as_json(self) -> dict[str, Any]:
        """JSON-able content, without the codes."""
        return {"types": list(self.types), "start": self.start, "width": self.width, "bins": self.count}


@dataclass(frozen=True)
class Binned:
    """Of E events of N stays the position of each one's stay, type, code and bin of time, all (E,) int64."""

    stays: int
    stay: NDArray[np.int64]
    type: NDArray[np.int64]
    """Of `EventBins.types`."""
    code: NDArray[np.int64]
    """Of `EventBins.codes`; C more where the trigger touched the event."""
    hour: NDArray[np.int64]
    touched: Booleans

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) events of each stay."""
        return np.bincount(self.stay, minlength=self.stays)

    def sums(self, values: Floats, by: NDArray[np.int64], bins: int) -> Floats:
        """(N, bins) sum of `values` (E,) over each stay's events of each bin of `by` (E,)."""
        flat = np.bincount(self.stay * bins + by, weights=values.astype(np.float64), minlength=self.stays * bins)
        return np.asarray(flat.reshape(self.stays, bins))


def event_bins(views: Sequence[EventsView]) -> EventBins:
    """Bins that every event of `views` falls into; of no event at all, one bin of one hour."""
    known: dict[str, str] = {}
    for view in views:
        known |= {view.codes[k]: view.descriptions[k] for k in np.unique(view.code)}
    codes = tuple(sorted(known))
    hours = np.concatenate([np.zeros(1), *(view.hours.astype(np.float64) for view in views)])
    start = min(0, int(np.floor(hours.min())))
    span = int(np.floor(hours.max())) + 1 - start
    width = -(-span // MOST_BINS)
    return EventBins(
        types=(*sorted({type_of(code) for code in codes}), TRIGGER),
        codes=codes,
        descriptions=tuple(known[code] for code in codes),
        start=start,
        width=width,
        count=-(-span // width),
    )


def type_of(code: str) -> str:
    """An event's type: the part of its code before the first ``//``."""
    return code.partition("//")[0]


def jsonable(values: Floats) -> Any:
    """Nested lists of six significant digits, None for NaN."""
    if values.ndim:
        return [jsonable(np.asarray(part)) for part in values]
    return None if np.isnan(values) else float(f"{float(values):.6g}")
