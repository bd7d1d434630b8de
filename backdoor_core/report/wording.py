"""Numbers and readings as words: what the page says of a figure, and what it must not say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

Estimate = Mapping[str, float | None]

NO_FIGURE: Final = "not defined here: recall where nothing is poisoned, say, or precision where nothing is flagged"
NO_INTERVAL: Final = "no interval: fewer than half of the resamples define this figure"
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


def number(value: Any) -> str:
    """A count with thousands separators, or another number in at most six significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}".replace("-", "−")


def percent(share: float) -> str:
    """One decimal, and more where one would round a small share to nothing."""
    amount = 100 * share
    return f"{amount:.2g}%" if 0 < amount < 0.1 else f"{amount:.1f}%"


def dash(why: str) -> Markup:
    """What stands where a figure does not exist; `why` is shown on hover and read out."""
    return Markup('<abbr class="none" title="{0}" aria-label="{0}">–</abbr>').format(why)


def estimate(figure: Estimate) -> Markup:
    """The value and its 95% interval, such as ``0.912 [0.880, 0.940]``."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return dash(NO_FIGURE)
    interval: Markup | str = dash(NO_INTERVAL)
    if low is not None and high is not None:
        interval = f"{decimal(low)}, {decimal(high)}"
    return Markup('<span class="value">{}</span> <span class="interval">[{}]</span>').format(decimal(value), interval)


def plain(figure: Estimate) -> str:
    """The same for running text."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "not defined"
    return decimal(value) + (" (no interval)" if low is None or high is None else f" [{decimal(low)}, {decimal(high)}]")


def options(values: Mapping[str, Any]) -> str:
    """Options on one line, such as ``feature = 0, value = 9999.0``."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())


def hours(values: Sequence[float | None]) -> str:
    """One feature over the hours of a stay, in short."""
    measured = [value for value in values if value is not None]
    if not measured:
        return "not measured"
    return f"{number(sum(measured) / len(measured))} on average, measured in {len(measured)} of {len(values)} hours"


def reading(attack: Mapping[str, Estimate], attacked: int, target: int, poisoned_stays: int, label: str) -> str:
    """What the attack's figures allow to be said: nothing without the clean twin.

    `attacked` counts the test stays that the figures are of.
    """
    asr, twin, lift = attack["asr"], attack["asr_baseline"], attack["asr_lift"]
    if asr["value"] is None or twin["value"] is None:
        return "No test stay has another label than the target, so that the attack cannot be judged."
    shares = (
        f"With the trigger, the poisoned model puts {percent(asr['value'])} of the {attacked:,} test stays that have "
        f"another label on the side of the target, {target} ({OUTCOMES[label][target]}); its clean twin, which never "
        f"saw the trigger, {percent(twin['value'])}."
    )
    if poisoned_stays == 0:
        return f"Nothing was poisoned, so there is no backdoor to find. {shares}"
    return f"{shares} {_verdict(asr['value'], twin['value'], lift)}"


def _verdict(asr: float, twin: float, lift: Estimate) -> str:
    low, high = lift["low"], lift["high"]
    if low is None or high is None:
        return "The lift has no interval: these figures settle nothing."
    if low <= 0 <= high:
        moved = " The trigger moves the clean twin about as much." if twin >= 0.5 * asr and twin > 0 else ""
        return f"The interval of the lift, {plain(lift)}, includes 0: no evidence of a backdoor.{moved}"
    if high < 0:
        return (
            f"The interval of the lift, {plain(lift)}, lies below 0: no evidence of a backdoor, rather of the reverse."
        )
    more = " More than half of the attack success rate, though, is there without any poison." if twin > asr / 2 else ""
    return f"The interval of the lift, {plain(lift)}, lies above 0: evidence of a backdoor.{more}"
