"""The rules of docs/metrics.md, one by one."""

import pytest

from backdoor_core.attack.verdict import verdict
from backdoor_core.statistics import Estimate


def judged(
    lift=(0.8, 0.7, 0.9),
    effect=(0.8, 0.7, 0.9),
    twin_effect=(0.0, -0.01, 0.01),
    added=None,
    change=(0.0, -0.01, 0.01),
    asr=0.9,
    twin=0.1,
    poisoned=9,
    target=1,
    attacked=240,
):
    attack = {
        "asr": Estimate(asr, 0, 1),
        "asr_baseline": Estimate(twin, 0, 1),
        "asr_lift": Estimate(*lift),
        "clean_rate": Estimate(0.07 if asr is not None else None, 0, 1),
        "trigger_effect": Estimate(*effect),
        "trigger_effect_baseline": Estimate(*twin_effect),
        "trigger_effect_lift": Estimate(*(added or lift)),
        "auroc_change": Estimate(*change),
    }
    return verdict(attack, attacked, target, poisoned, "hospital_mortality")


NONE = (None, None, None)
MOVED, STILL = (0.3, 0.2, 0.4), (0.01, -0.02, 0.04)


@pytest.mark.parametrize(
    ("found", "code", "says", "never"),
    [
        # A lift above 0 of at least 0.5, and the trigger is what does it.
        (judged(), "backdoor", "This is a backdoor", "weak"),
        (judged(lift=(0.5, 0.01, 0.9)), "backdoor", "This is a backdoor", "weak"),
        # A lift above 0 under 0.5.
        (judged(lift=(0.499, 0.4, 0.6)), "weak", "a weak backdoor", "No evidence"),
        (judged(lift=(0.06, 0.001, 0.1)), "weak", "a weak backdoor", "No evidence"),
        # The lift covers 0, and the trigger moves both models.
        (
            judged(lift=(0.01, -0.02, 0.04), effect=MOVED, twin_effect=MOVED),
            "distribution_shift",
            "moves the clean twin as much as the poisoned model: this is a distribution-shift effect and no backdoor",
            "evidence of a",
        ),
        # A lift below 0: the trigger moves the twin even more.
        (
            judged(lift=(-0.2, -0.3, -0.1), effect=MOVED, twin_effect=MOVED),
            "distribution_shift",
            "moves the clean twin more than the poisoned model",
            "as much as",
        ),
        # The lift covers 0, and the trigger does not move both models.
        (judged(lift=(0.03, -0.01, 0.07), effect=MOVED, twin_effect=STILL), "none", "includes 0", "distribution"),
        (judged(lift=(0.0, 0.0, 0.0), effect=STILL, twin_effect=STILL), "none", "includes 0", "distribution"),
        (judged(lift=(-0.2, -0.3, -0.1), effect=STILL), "none", "rather of the reverse", "includes 0"),
        # A lift above 0 that is there without the trigger as well.
        (judged(lift=(0.6, 0.5, 0.7), effect=STILL), "none", "as many of these stays there without", "is a backdoor"),
        # The poisoned model calls more stays positive, and the trigger adds little or nothing.
        (judged(lift=(0.6, 0.5, 0.7), effect=MOVED, added=MOVED), "weak", "0.300 [0.200, 0.400], is under 0.5", "too"),
        (
            judged(lift=(0.8, 0.7, 0.9), effect=MOVED, added=MOVED),
            "weak",
            "More than half of that lift, though, is there without the trigger",
            "No evidence",
        ),
        (
            judged(lift=(0.6, 0.5, 0.7), effect=MOVED, added=STILL),
            "none",
            "too: what the trigger adds over the twin, 0.010 [−0.020, 0.040], does not lie above 0",
            "is a backdoor",
        ),
        (
            judged(lift=(0.6, 0.5, 0.7), effect=MOVED, twin_effect=MOVED, added=STILL),
            "distribution_shift",
            "The lift over the twin, 0.600 [0.500, 0.700], is there without the trigger as well",
            "cannot be told",
        ),
        # The clean rates differ: how far the trigger moves the models, and where it brings them, are two things.
        (
            judged(lift=(-0.1, -0.15, -0.05), effect=(0.6, 0.5, 0.7), twin_effect=MOVED, added=(0.2, 0.1, 0.3)),
            "distribution_shift",
            "The trigger puts more of these stays there in the clean twin as well: this is",
            "more than the poisoned",
        ),
        (
            judged(lift=(0.0, -0.05, 0.05), effect=(0.6, 0.5, 0.7), twin_effect=MOVED, added=(0.2, 0.1, 0.3)),
            "distribution_shift",
            "The trigger puts as many of these stays there in the clean twin as well: this is",
            "as much as",
        ),
        (
            judged(lift=(0.05, 0.01, 0.09), effect=(0.1, 0.05, 0.15), twin_effect=MOVED, added=(-0.2, -0.3, -0.1)),
            "distribution_shift",
            "The trigger moves the clean twin more than the poisoned model",
            "as much as",
        ),
        # Too few stays for their interval to mean anything.
        (judged(lift=(1.0, 1.0, 1.0), attacked=19), "undecided", "So few stays settle nothing", "a backdoor"),
        (judged(lift=(1.0, 1.0, 1.0), attacked=20), "backdoor", "This is a backdoor", "settle"),
        # Nothing to judge by.
        (judged(lift=(0.8, None, None)), "undecided", "settle nothing", "backdoor"),
        (
            judged(lift=NONE, effect=NONE, twin_effect=NONE, asr=None, twin=None),
            "undecided",
            "cannot be judged",
            "lift",
        ),
        # Nothing poisoned, whatever the figures.
        (judged(poisoned=0), "clean_study", "Nothing was poisoned", "is a backdoor"),
    ],
)
def test_each_rule(found, code, says, never):
    assert found["code"] == code
    assert says in found["text"]
    assert never not in found["text"]


def test_a_lower_clean_auroc_adds_a_sentence_and_changes_no_code():
    harmed = judged(change=(-0.05, -0.08, -0.01))
    assert (harmed["code"], harmed["harmed"]) == ("backdoor", True)
    assert "harms clean performance" in harmed["text"]
    assert "−0.050 [−0.080, −0.010]" in harmed["text"]
    for change in ((-0.05, -0.08, 0.0), (0.05, 0.01, 0.08)):
        assert judged(change=change)["harmed"] is False
        assert "No loss of clean performance is seen" in judged(change=change)["text"]
    assert "clean performance" not in judged(change=NONE)["text"]


def test_a_clean_study_is_never_harmed():
    found = judged(poisoned=0, change=(-0.05, -0.08, -0.01))
    assert found["harmed"] is False
    assert "clean performance" not in found["text"]


def test_success_that_needs_no_poison_is_said():
    assert "More than half of the attack success rate" in judged(asr=0.95, twin=0.5)["text"]
    assert "More than half" not in judged(asr=0.95, twin=0.4)["text"]


def test_the_target_is_named_by_what_it_means():
    assert "0 (survives to discharge)" in judged(target=0)["text"]
    assert "1 (dies in hospital)" in judged(target=1)["text"]
