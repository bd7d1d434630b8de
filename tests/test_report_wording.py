from backdoor_core.report.wording import estimate, number, share, units
from backdoor_core.words import decimal, percent, plain

NOTHING = {"value": None, "low": None, "high": None}


def test_numbers_in_words():
    assert [decimal(x) for x in (0.91249, -0.0001, -0.25, 1)] == ["0.912", "0.000", "−0.250", "1.000"]
    assert [number(x) for x in (12331, 9999.0, 0.1)] == ["12,331", "9999", "0.1"]
    assert [percent(x) for x in (0.02, 0.00042, 0, 1)] == ["2.0%", "0.042%", "0.0%", "100.0%"]


def test_missing_figures_are_explained():
    assert "not defined" in estimate(NOTHING)
    assert "–" in estimate(NOTHING).striptags()
    assert "no interval" in estimate({"value": 0.5, "low": None, "high": None})


def test_exposure_figures_are_short_and_may_be_missing():
    assert [units(x) for x in (1234.567, -0.5, -0.001)] == ["1,234.57", "−0.50", "0.00"]
    assert share(0.25) == "25.0%"
    assert "no such cell" in units(None)
    assert "no such cell" in share(None)


def test_estimates_in_running_text():
    assert plain({"value": 0.5, "low": 0.4, "high": 0.6}) == "0.500 [0.400, 0.600]"
    assert plain({"value": 0.5, "low": None, "high": None}) == "0.500 (no interval)"
    assert plain(NOTHING) == "not defined"
