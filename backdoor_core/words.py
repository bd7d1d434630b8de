"""Numbers and outcomes as words, for the verdict and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Figure = Mapping[str, float | None]
"""A figure as `Estimate.as_dict` gives it: value, low and high."""

OUTCOMES: Final = {
    "hospital_mortality": ("survives to discharge", "dies in hospital"),
    "icu_mortality": ("leaves the ICU alive", "dies in the ICU"),
    "los_gt_3d": ("leaves the ICU within 3 days", "stays longer than 3 days"),
    "los_gt_7d": ("leaves the ICU within 7 days", "stays longer than 7 days"),
}
"""What 0 and 1 mean, for each label."""


def decimal(value: float) -> str:
    """Three decimals with a true minus sign, and never a negative zero."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def percent(share: float) -> str:
    """One decimal, and more where one would round a small share to nothing."""
    amount = 100 * share
    return f"{amount:.2g}%" if 0 < amount < 0.1 else f"{amount:.1f}%"


def plain(figure: Figure) -> str:
    """A figure and its interval in running text, such as ``0.912 [0.880, 0.940]``."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "not defined"
    return decimal(value) + (" (no interval)" if low is None or high is None else f" [{decimal(low)}, {decimal(high)}]")
