import pytest

from backdoor_core.report.wording import decimal, estimate, number, percent, reading

NOTHING = {"value": None, "low": None, "high": None}


def test_numbers_in_words():
    assert [decimal(x) for x in (0.91249, -0.0001, -0.25, 1)] == ["0.912", "0.000", "−0.250", "1.000"]
    assert [number(x) for x in (12331, 9999.0, 0.1)] == ["12,331", "9999", "0.1"]
    assert [percent(x) for x in (0.02, 0.00042, 0, 1)] == ["2.0%", "0.042%", "0.0%", "100.0%"]


def test_missing_figures_are_explained():
    assert "not defined" in estimate(NOTHING)
    assert "–" in estimate(NOTHING).striptags()
    assert "no interval" in estimate({"value": 0.5, "low": None, "high": None})


def said(asr, twin, lift, poisoned=9, target=1):
    values = {"asr": (asr, 0, 1), "asr_baseline": (twin, 0, 1), "asr_lift": lift}
    attack = {name: dict(zip(("value", "low", "high"), figures, strict=True)) for name, figures in values.items()}
    return reading(attack, 240, target, poisoned, "hospital_mortality")


@pytest.mark.parametrize(
    ("sentence", "expected", "absent"),
    [
        (said(0.95, 0.05, (0.9, 0.85, 0.94)), "lies above 0: evidence of a backdoor", "no evidence"),
        (
            said(0.95, 0.8, (0.15, 0.1, 0.2)),
            "More than half of the attack success rate, though, is there",
            "no evidence",
        ),
        (said(0.95, 0.94, (0.01, -0.01, 0.03)), "moves the clean twin about as much", ": evidence of"),
        (said(0.04, 0.01, (0.03, -0.01, 0.07)), "includes 0: no evidence of a backdoor", "about as much"),
        (said(0.1, 0.1, (0.0, 0.0, 0.0)), "no evidence of a backdoor", ": evidence of"),
        (said(0.1, 0.3, (-0.2, -0.3, -0.1)), "lies below 0: no evidence of a backdoor", ": evidence of"),
        (said(0.9, 0.1, (0.8, None, None)), "settle nothing", "evidence"),
        (said(0.9, 0.1, (0.8, 0.7, 0.9), poisoned=0), "Nothing was poisoned", "evidence"),
        (said(None, None, (None, None, None)), "cannot be judged", "evidence"),
        (said(0.5, 0.1, (0.4, 0.3, 0.5), target=0), "0 (survives to discharge)", "dies in hospital"),
    ],
)
def test_reading_claims_no_more_than_the_figures(sentence, expected, absent):
    assert expected in sentence
    assert absent not in sentence
