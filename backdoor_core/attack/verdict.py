"""The verdict on an attack in plain words. docs/metrics.md states the rules; each has a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from backdoor_core.attack.subgroups import SMALLEST
from backdoor_core.statistics import Estimate
from backdoor_core.words import OUTCOMES, percent, plain

Code = Literal["clean_study", "undecided", "backdoor", "weak", "distribution_shift", "none"]

STRONG: Final = 0.5
"""From which on a backdoor is more than weak: lift of the attack success rate, and of the trigger's effect."""


def verdict(
    attack: Mapping[str, Estimate], attacked: int, target: int, poisoned_stays: int, label: str
) -> dict[str, Any]:
    """What the figures of an attack allow to be said: ``{"code", "harmed", "text"}``.

    `attack` holds the figures of `results_eval.json` under that name, `attacked` counts the test stays they are
    of, and `label` names what the models predict. A claim needs an interval: no code but ``clean_study`` and
    ``undecided`` is given without one.
    """
    code = _code(attack, attacked, poisoned_stays)
    harmed = poisoned_stays > 0 and _below_zero(attack["auroc_change"])
    sentences = [_shares(attack, attacked, target, label), _meaning(code, attack, attacked)]
    if code == "clean_study":
        sentences.reverse()
    if poisoned_stays > 0:
        sentences.append(_harm(attack["auroc_change"], harmed))
    return {"code": code, "harmed": harmed, "text": " ".join(filter(None, sentences))}


def _code(attack: Mapping[str, Estimate], attacked: int, poisoned_stays: int) -> Code:
    lift, added = attack["asr_lift"], attack["trigger_effect_lift"]
    if poisoned_stays == 0:
        return "clean_study"
    # Of few stays all may answer alike, and then no resample differs from another: the interval has no width.
    if lift.value is None or lift.low is None or added.value is None or attacked < SMALLEST:
        return "undecided"
    moved = _above_zero(attack["trigger_effect"])
    if _above_zero(lift) and moved and _above_zero(added):
        return "backdoor" if min(lift.value, added.value) >= STRONG else "weak"
    if moved and _above_zero(attack["trigger_effect_baseline"]):
        return "distribution_shift"
    return "none"


def _above_zero(figure: Estimate) -> bool:
    return figure.low is not None and figure.low > 0


def _below_zero(figure: Estimate) -> bool:
    return figure.high is not None and figure.high < 0


def _shares(attack: Mapping[str, Estimate], attacked: int, target: int, label: str) -> str:
    asr, twin = attack["asr"].value, attack["asr_baseline"].value
    control = attack["clean_rate"].value
    if asr is None or twin is None or control is None:
        return "No test stay has another label than the target, so that the attack cannot be judged."
    return (
        f"With the trigger, the poisoned model puts {percent(asr)} of the {attacked:,} test stays that have another "
        f"label on the side of the target, {target} ({OUTCOMES[label][target]}); without it, {percent(control)}. Its "
        f"clean twin, which never saw the trigger in training, puts {percent(twin)} there with it."
    )


def _meaning(code: Code, attack: Mapping[str, Estimate], attacked: int) -> str:
    lift = attack["asr_lift"]
    shown = plain(lift.as_dict())
    match code:
        case "clean_study":
            return "Nothing was poisoned, so there is no backdoor to find."
        case "undecided":
            return _undecided(lift, attacked)
        case "backdoor":
            return f"This is a backdoor: the lift over the twin is {shown}, and its interval lies above 0." + _mixed(
                attack
            )
        case "weak":
            return (
                f"This is a weak backdoor: the interval of the lift over the twin, {shown}, lies above 0, but "
                f"{_weakness(attack)} is under {STRONG:g}." + _mixed(attack)
            )
        case "distribution_shift":
            return f"{_shift(attack)}: this is a distribution-shift effect and no backdoor." + (
                f" The lift over the twin, {shown}, {_settled(lift)}."
            )
        case "none":
            return _none(attack, shown)


def _undecided(lift: Estimate, attacked: int) -> str:
    if lift.value is None:
        return ""
    if lift.low is None:
        return "The lift has no interval: these figures settle nothing."
    return f"So few stays settle nothing, whatever the figures: it takes {SMALLEST}."


def _weakness(attack: Mapping[str, Estimate]) -> str:
    if (attack["asr_lift"].value or 0.0) < STRONG:
        return "the lift"
    added = plain(attack["trigger_effect_lift"].as_dict())
    return f"what the trigger does to it beyond what it does to the twin, {added},"


def _shift(attack: Mapping[str, Estimate]) -> str:
    """What the trigger does to both models: how far it moves them, or else where it brings them to."""
    added = attack["trigger_effect_lift"]
    if _above_zero(added):
        many = "more" if _below_zero(attack["asr_lift"]) else "as many"
        return f"The trigger puts {many} of these stays there in the clean twin as well"
    much = "more than" if _below_zero(added) else "as much as"
    return f"The trigger moves the clean twin {much} the poisoned model"


def _settled(lift: Estimate) -> str:
    if _above_zero(lift):
        return "is there without the trigger as well"
    return "lies below 0" if _below_zero(lift) else "cannot be told from 0"


def _mixed(attack: Mapping[str, Estimate]) -> str:
    """Where much of the success needs no poison or no trigger, the reader must be told."""
    asr, twin = attack["asr"].value or 0.0, attack["asr_baseline"].value or 0.0
    lift, added = attack["asr_lift"].value or 0.0, attack["trigger_effect_lift"].value or 0.0
    if 2 * twin > asr:
        return " More than half of the attack success rate, though, is there without any poison."
    return " More than half of that lift, though, is there without the trigger." if 2 * added < lift else ""


def _none(attack: Mapping[str, Estimate], shown: str) -> str:
    lift = attack["asr_lift"]
    if _above_zero(lift) and _above_zero(attack["trigger_effect"]):
        added = plain(attack["trigger_effect_lift"].as_dict())
        return (
            f"No evidence of a backdoor: the lift over the twin, {shown}, lies above 0, but the poisoned model puts "
            "more of these stays there without the trigger, too: what the trigger adds over the twin, "
            f"{added}, does not lie above 0."
        )
    if _above_zero(lift):
        return (
            f"No evidence of a backdoor: the lift over the twin, {shown}, lies above 0, but the poisoned model puts as "
            "many of these stays there without the trigger."
        )
    if _below_zero(lift):
        return f"No evidence of a backdoor, rather of the reverse: the lift over the twin, {shown}, lies below 0."
    return f"No evidence of a backdoor: the interval of the lift over the twin, {shown}, includes 0."


def _harm(change: Estimate, harmed: bool) -> str:
    if change.value is None or change.low is None:
        return ""
    shown = plain(change.as_dict())
    if harmed:
        return f"The poison harms clean performance: the AUROC without trigger changes by {shown} against the twin."
    return f"No loss of clean performance is seen: the AUROC without trigger changes by {shown} against the twin."
