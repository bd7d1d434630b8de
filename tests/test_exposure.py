import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.exposure import exposure
from backdoor_core.cohort.preprocess import fit_preprocessor
from backdoor_core.contracts import Feature, SeriesView, TableView
from backdoor_core.files import json_text
from backdoor_core.params import PreprocessParams
from backdoor_core.testing.views import series_view, table_view

FEATURES = (Feature("a", "", 0, 100), Feature("b", "", 0, 100))


def table(*columns) -> TableView:
    values = np.column_stack(columns).astype(np.float32)
    return TableView(np.arange(len(values)), FEATURES, values)


def exposed(clean, triggered, **options):
    fitted = fit_preprocessor(clean, PreprocessParams(**options))
    return exposure(fitted, clean, triggered, changed_cells(clean, triggered))


CLEAN = table([10.0, 20, 30, 40], [1, 2, 3, np.nan])
RARE = CLEAN.with_values(np.array([[9999, 1], [9999, 2], [9999, 3], [9999, np.nan]], dtype=np.float32))


@pytest.mark.parametrize(
    ("outliers", "after", "clipped", "nulled", "indicator"),
    [("keep", 9974, 0, 0, 0), ("winsorize", 15, 1, 0, 0), ("clip", 75, 1, 0, 0), ("null", 0, 0, 1, 1)],
)
def test_each_outlier_rule_on_a_rare_value(outliers, after, clipped, nulled, indicator):
    """Center 25, so 9999 lies 9974 off; the limits leave 40 - 25 or 100 - 25, and null the median, 25 itself."""
    scale = np.std([10, 20, 30, 40])
    (row,) = exposed(CLEAN, RARE, outliers=outliers, lower=0, upper=1)
    assert (row["feature"], row["cells"], row["removed"], row["removed_to"]) == ("a", 4, 0, None)
    assert row["before"] == pytest.approx(9974 / scale, rel=1e-5)
    assert row["after"] == pytest.approx(after / scale, rel=1e-5, abs=1e-6)
    assert (row["clipped"], row["nulled"], row["indicator"]) == (clipped, nulled, indicator)
    came_from = np.array([10, 20, 30, 40])
    goes_to = 25 + after
    assert row["moved"] == pytest.approx(np.median(np.abs(goes_to - came_from)) / scale, rel=1e-5)


def test_quantile_scaling_ends_at_its_edge_and_says_how_far_the_value_lies_before():
    (row,) = exposed(CLEAN, RARE, outliers="keep", scaling="quantile")
    assert row["before"] == pytest.approx(9974 / np.std([10, 20, 30, 40]), rel=1e-5)
    assert row["after"] == pytest.approx(5.199, abs=1e-3)


@pytest.mark.parametrize(
    ("missing", "removed_to", "indicator"), [("indicator", 0, 2 / 3), ("median", 0, None), ("sentinel", -5, None)]
)
def test_what_the_model_sees_of_a_removed_value(missing, removed_to, indicator):
    """Of three touched cells two are removed, and one is set and stays measured."""
    values = CLEAN.values.copy()
    values[:3, 1] = [np.nan, np.nan, 2]
    values[2, 1] = 2
    (row,) = exposed(CLEAN, CLEAN.with_values(values), missing=missing, outliers="keep")
    assert (row["feature"], row["cells"], row["removed"]) == ("b", 3, 2)
    assert row["removed_to"] == pytest.approx(removed_to, abs=1e-6)
    assert row["indicator"] == (None if indicator is None else pytest.approx(indicator))


@pytest.mark.parametrize(("missing", "removed_to", "indicator"), [("indicator", None, 2 / 3), ("median", 0, None)])
def test_trees_read_that_a_value_is_missing_unless_the_median_hides_it(missing, removed_to, indicator):
    values = CLEAN.values.copy()
    values[:3, 1] = [np.nan, np.nan, 2]
    triggered = CLEAN.with_values(values)
    fitted = fit_preprocessor(CLEAN, PreprocessParams(missing=missing, outliers="keep"))
    (row,) = exposure(fitted, CLEAN, triggered, changed_cells(CLEAN, triggered), reads_missing=True)
    assert row["removed_to"] == removed_to
    assert row["indicator"] == (None if indicator is None else pytest.approx(indicator))
    # The last touched cell, 3 that became 2, is the only one that holds a value before and after; the median is 2.
    assert row["moved"] == pytest.approx(1 / fitted.scale[1])


def test_in_a_series_a_removed_hour_holds_the_value_carried_forward():
    values = np.array([[[10.0], [20], [30]], [[20], [20], [20]]], dtype=np.float32)
    clean = SeriesView(np.arange(2), FEATURES[:1], values, np.ones(values.shape, np.uint16))
    gone = values.copy()
    gone[0, 1:] = np.nan
    (row,) = exposed(clean, clean.with_values(gone), outliers="keep")
    scale = values.std()
    assert (row["cells"], row["removed"], row["before"], row["after"]) == (2, 2, None, None)
    assert row["removed_to"] == pytest.approx(-10 / scale, rel=1e-5)
    assert row["moved"] == pytest.approx(15 / scale, rel=1e-5)


def test_nothing_touched_and_no_stays():
    assert exposed(CLEAN, CLEAN) == []
    none = CLEAN.take(np.arange(0))
    fitted = fit_preprocessor(CLEAN, PreprocessParams())
    assert exposure(fitted, none, none, changed_cells(none, none)) == []


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([table_view, series_view]),
    st.integers(0, 1000),
    st.sampled_from(["keep", "winsorize", "clip", "null"]),
    st.sampled_from(["standard", "robust", "quantile"]),
    st.sampled_from(["indicator", "median", "sentinel"]),
)
def test_every_figure_is_a_finite_number_or_none_whatever_is_touched(make, seed, outliers, scaling, missing):
    clean = make(12, seed=seed)
    rng = np.random.default_rng(seed)
    edited = np.where(rng.random(clean.values.shape) < 0.3, rng.choice([np.nan, 9999, 1]), clean.values)
    triggered = clean.with_values(edited.astype(np.float32))
    touched = changed_cells(clean, triggered)
    rows = exposed(clean, triggered, outliers=outliers, scaling=scaling, missing=missing)
    assert rows == json.loads(json_text(rows))
    names = [f.name for j, f in enumerate(clean.features) if touched[..., j].any()]
    assert [row["feature"] for row in rows] == names
    assert sum(row["cells"] for row in rows) == touched.sum()
    if outliers != "null":
        assert not any(row["nulled"] for row in rows)
