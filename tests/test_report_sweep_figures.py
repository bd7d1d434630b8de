"""The figures of a sweep as files: what is drawn, in every empty case, with equal bytes."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from example_sweep import make_sweep
from matplotlib.figure import Figure

from backdoor_core.report import sweep_figures as module
from backdoor_core.report.sweep_figures import RateAxis, Series, sweep_figures

NAMES = ("attack_success", "lift", "clean_performance", "detector_tpr")
SMALL = {"models": ("mlp",), "triggers": ("rare_value",), "seeds": (42, 43, 44)}


def aggregated(**changes):
    return make_sweep(**{**SMALL, **changes})["aggregated"]


def words(picture):
    return [text for text in ET.fromstring(picture.svg).itertext() if text.strip()]


@pytest.fixture(scope="module")
def example():
    return aggregated(triggers=("rare_value", "missingness"))


@pytest.fixture(scope="module")
def figures(example):
    return sweep_figures(example)


def test_four_figures_as_svg_and_png(figures):
    assert tuple(figures) == NAMES
    for picture in figures.values():
        assert picture.png.startswith(b"\x89PNG")
        assert ET.fromstring(picture.svg).get("aria-label").startswith(("A", "C", "T"))


def test_equal_content_gives_equal_bytes(example, figures):
    again = sweep_figures(example)
    assert all(again[name] == figures[name] for name in NAMES)


def test_every_combination_has_a_panel_and_every_mark_a_name(figures):
    for picture in figures.values():
        assert {"mlp, rare_value", "mlp, missingness"} <= set(words(picture))
    assert {"clean twin", "poisoned model", "clean retrains (null): middle 95%"} <= set(
        words(figures["attack_success"])
    )
    assert {"AUROC", "AUPRC", "ECE"} <= set(words(figures["clean_performance"]))
    legend = {"range_rule", "perfect_filter (oracle)", "dashed: their null runs"}
    assert legend <= set(words(figures["detector_tpr"]))
    assert {"0", "0.1%", "10%"} <= set(words(figures["lift"]))


def test_no_figure_tells_of_time(figures):
    assert not [word for picture in figures.values() for word in words(picture) if "second" in word]


def drawn(panel, found):
    """The axes that a panel drew of the first series, and the series."""
    axes = Figure().add_subplot()
    [series] = module._series(found["groups"])
    panel(RateAxis([group["rate"] for group in series.groups]), series)(axes, series)
    return axes, series


def ends(axes):
    """(lines, 2) of the vertical lines over intervals."""
    return np.array(
        [
            segment[:, 1]
            for lines in axes.collections
            if hasattr(lines, "get_segments")
            for segment in lines.get_segments()
        ]
    )


def test_lift_is_drawn_with_its_interval_and_the_null_beside_it():
    found = aggregated(rates=(0.001, 0.02))
    axes, series = drawn(lambda rate, of: module._lift(rate, (-1, 1)), found)
    groups = found["groups"]
    means = [group["metrics"]["asr_lift"]["mean"] for group in groups]
    [line] = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 2]
    np.testing.assert_allclose(line.get_ydata(), means)
    np.testing.assert_allclose(line.get_xdata(), [-3, np.log10(0.02)])
    expected = [[group["metrics"]["asr_lift"][key] for key in ("t_low", "t_high")] for group in groups]
    np.testing.assert_allclose(ends(axes), expected)
    band = next(fill for fill in axes.collections if not hasattr(fill, "get_segments") and len(fill.get_paths()))
    height = band.get_paths()[0].get_extents()
    lows, highs = zip(*((group["null_lift"]["low"], group["null_lift"]["high"]) for group in groups), strict=True)
    assert (height.y0, height.y1) == pytest.approx((min(lows), max(highs)))
    dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "."]
    assert [list(values) for values in dots] == [group["null_lift"]["values"] for group in groups]
    assert series.name == "mlp, rare_value"


def test_the_null_band_of_the_asr_is_that_of_the_clean_retrains():
    found = aggregated(rates=(0.02,))
    axes, _ = drawn(lambda rate, of: module._attack(rate), found)
    [group] = found["groups"]
    band = next(fill for fill in axes.collections if not hasattr(fill, "get_segments") and len(fill.get_paths()))
    expected = [group["null_asr"][key] for key in ("low", "high")]
    assert (band.get_paths()[0].get_extents().y0, band.get_paths()[0].get_extents().y1) == pytest.approx(expected)


def test_lines_break_between_zero_and_the_smallest_rate():
    found = aggregated(rates=(0.0, 0.001, 0.01))
    axes, series = drawn(lambda rate, of: module._lift(rate, (-1, 1)), found)
    lengths = [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert lengths == [1, 2, 0]
    rate = RateAxis([0.0, 0.001, 0.01])
    assert rate.at([0.0, 0.001, 0.01]) == pytest.approx([-4, -3, -2])
    rate.draw(axes)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.1%", "1%"]
    assert isinstance(series, Series)


def test_many_rates_get_few_ticks():
    axes = Figure().add_subplot()
    rates = [0.0, *np.geomspace(0.0001, 0.5, 20).tolist()]
    RateAxis(rates).draw(axes)
    assert 3 <= len(axes.get_xticks()) <= 8
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert axes.get_xticklabels()[-1].get_text() == "50%"


@pytest.mark.parametrize(
    ("changes", "figure", "said"),
    [
        ({"rates": (0.02,), "detectors": ()}, "detector_tpr", "No detector ran."),
        ({"rates": (0.0,)}, "detector_tpr", "Nothing was poisoned"),
        ({"rates": (0.02,), "failed": (0, 1, 2)}, "lift", "No cell is done"),
        ({"rates": (0.02,), "seeds": (42,)}, "attack_success", "2%"),
        ({"rates": (0.02,), "nulls": 0}, "lift", "2%"),
        ({"rates": (0.0, 0.02), "failed": (0, 1, 2)}, "clean_performance", "2%"),
        ({"rates": (0.02,), "parameters": {"train.epochs": [1, 2]}}, "lift", "mlp, rare_value, train.epochs=2"),
    ],
)
def test_empty_and_lonely_cases_are_drawn(changes, figure, said):
    found = sweep_figures(aggregated(**changes))
    assert tuple(found) == NAMES
    assert any(said in word for word in [*words(found[figure]), ET.fromstring(found[figure].svg).get("aria-label")])


def test_one_seed_has_no_interval():
    axes, _ = drawn(lambda rate, of: module._lift(rate, (-1, 1)), aggregated(rates=(0.001, 0.02), seeds=(42,)))
    assert len(ends(axes)) == 0


def test_more_combinations_than_fit_are_said(monkeypatch):
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    found = aggregated(models=("m1", "m2", "m3"), rates=(0.02,), seeds=(1,), detectors=())
    shown = sweep_figures(found)["lift"]
    assert "the first 2 of 3 combinations" in ET.fromstring(shown.svg).get("aria-label")
    assert "m2, rare_value" in words(shown)
    assert "m3, rare_value" not in words(shown)
