"""Numbers as the page shows them, and what stands where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from backdoor_core.words import Figure, decimal, percent

NO_FIGURE: Final = (
    "not defined here: too few rows, one outcome only, recall where nothing is poisoned, or precision where nothing is "
    "flagged"
)
NO_INTERVAL: Final = "no interval: fewer than half of the resamples define this figure"


def number(value: Any) -> str:
    """A count with thousands separators, or another number in at most six significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}".replace("-", "−")


def dash(why: str) -> Markup:
    """What stands where a figure does not exist; `why` is shown on hover and read out."""
    return Markup('<abbr class="none" title="{0}" aria-label="{0}">–</abbr>').format(why)


def estimate(figure: Figure) -> Markup:
    """The value and its 95% interval, such as ``0.912 [0.880, 0.940]``."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return dash(NO_FIGURE)
    interval: Markup | str = dash(NO_INTERVAL)
    if low is not None and high is not None:
        interval = f"{decimal(low)}, {decimal(high)}"
    return Markup('<span class="value">{}</span> <span class="interval">[{}]</span>').format(decimal(value), interval)


def units(value: float | None) -> str | Markup:
    """A distance in scaled units with two decimals, or a dash."""
    if value is None:
        return dash("no such cell")
    text = f"{value:,.2f}"
    return text.removeprefix("-") if round(value, 2) == 0 else text.replace("-", "−")


def share(value: float | None) -> str | Markup:
    """A share in percent, or a dash."""
    return dash("no such cell, or no missing flags") if value is None else percent(value)


def options(values: Mapping[str, Any]) -> str:
    """Options on one line, such as ``feature = 0, value = 9999.0``."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())


_EVENTS: Final = 4
"""Events of one code that are told one by one."""


def hours(values: Sequence[Any]) -> str:
    """One feature over the hours of a stay, or the events of one code (each hour, value and text), in short."""
    if not values:
        return "no such event"
    if isinstance(values[0], Sequence):
        told = [_event(*event) for event in values[:_EVENTS]]
        return "; ".join(told) + (f"; and {len(values) - _EVENTS:,} more" if len(values) > _EVENTS else "")
    measured = [value for value in values if value is not None]
    if not measured:
        return "not measured"
    return f"{number(sum(measured) / len(measured))} on average, measured in {len(measured)} of {len(values)} hours"


def _event(hour: float, value: float | None, text: str) -> str:
    told = " ".join(part for part in ("" if value is None else number(value), text) if part)
    return f"{told or 'no value'} at {number(hour)} h"
