import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small import make_view

from backdoor_core.cohort.preprocess import Preprocessor, fit_preprocessor
from backdoor_core.contracts import Feature, SeriesView, TableView
from backdoor_core.files import json_text
from backdoor_core.params import PreprocessParams


def view_of(values: np.ndarray) -> TableView:
    features = tuple(Feature(f"f{j}", "", -1e9, 1e9) for j in range(values.shape[1]))
    return TableView(np.arange(len(values)), features, values.astype(np.float32))


def test_standardizes_what_the_model_sees():
    view, _ = make_view(2000)
    out = fit_preprocessor(view, PreprocessParams()).transform(view)
    assert out.shape == (2000, 12)
    measured = ~np.isnan(view.values)
    for j in range(6):
        assert abs(out[measured[:, j], j].mean()) < 1e-4
        assert abs(out[measured[:, j], j].std() - 1) < 1e-4
    np.testing.assert_array_equal(out[:, 6:], ~measured)


def test_equals_a_plain_restatement():
    view, _ = make_view(500, seed=3)
    fitted = fit_preprocessor(view, PreprocessParams())
    column = view.values[:, 5].astype(np.float64)
    low, high = np.quantile(column[~np.isnan(column)], [0.001, 0.999])
    clipped = np.clip(column, low, high)
    measured = clipped[~np.isnan(column)]
    expected = (np.where(np.isnan(column), np.median(measured), clipped) - measured.mean()) / measured.std()
    np.testing.assert_allclose(fitted.transform(view)[:, 5], expected, rtol=1e-5, atol=1e-6)


def test_winsorizing_on_clean_rows_removes_a_rare_value_and_on_poisoned_rows_keeps_it():
    """The preprocessing is part of the threat model: reference B against A."""
    view, _ = make_view(2000)
    poisoned = view.values.copy()
    poisoned[:40, 0] = 9999.0
    trigger = view.with_values(poisoned)
    on_clean = fit_preprocessor(view, PreprocessParams()).transform(trigger)[:40, 0]
    on_poisoned = fit_preprocessor(trigger, PreprocessParams()).transform(trigger)[:40, 0]
    kept = fit_preprocessor(view, PreprocessParams(outliers="keep")).transform(trigger)[:40, 0]
    assert on_clean.max() < 4
    assert 5 < on_poisoned.max() < 10
    assert kept.max() > 500


def test_constants_come_from_the_given_rows_only():
    view, _ = make_view(1000)
    train = view.take(np.arange(700))
    fitted = fit_preprocessor(train, PreprocessParams())
    changed = view.values.copy()
    changed[700:] *= 50
    again = fit_preprocessor(view.with_values(changed).take(np.arange(700)), PreprocessParams())
    np.testing.assert_array_equal(fitted.center, again.center)
    np.testing.assert_array_equal(fitted.high, again.high)


def test_features_never_measured_or_constant_become_zero():
    values = np.full((50, 2), np.nan, dtype=np.float32)
    values[:, 1] = 7.3
    view = view_of(values)
    out = fit_preprocessor(view, PreprocessParams()).transform(view)
    np.testing.assert_array_equal(out[:, :2], 0)
    np.testing.assert_array_equal(out[:, 2:], [[1, 0]] * 50)
    # A value turns up later in the feature that was never measured: it passes, unscaled, and nothing breaks.
    late = view.with_values(np.full((50, 2), 3.0, dtype=np.float32))
    assert np.isfinite(fit_preprocessor(view, PreprocessParams()).transform(late)).all()


def test_without_indicators_the_input_has_one_channel_a_feature():
    view, _ = make_view(100)
    fitted = fit_preprocessor(view, PreprocessParams(missing="median"))
    assert fitted.transform(view).shape == (100, 6)
    assert fitted.spec.channels == 6


@pytest.mark.parametrize("outliers", ["winsorize", "keep"])
def test_json_round_trip_is_exact(outliers):
    view, _ = make_view(300)
    fitted = fit_preprocessor(view, PreprocessParams(outliers=outliers))
    content = fitted.as_json()
    json_text(content)
    again = Preprocessor.from_json(content)
    for field in dataclasses.fields(Preprocessor):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(fitted, field.name))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
    )
)
def test_output_is_finite_whatever_the_input(values):
    view = view_of(values)
    out = fit_preprocessor(view, PreprocessParams()).transform(view)
    assert np.isfinite(out).all()
    assert out.shape == (len(values), 2 * values.shape[1])


def series(n=30, hours=6):
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 2, (n, hours, 2)).astype(np.uint16)
    values = np.where(counts > 0, rng.normal(100, 10, counts.shape), np.nan).astype(np.float32)
    features = (Feature("a", "", 0, 999), Feature("b", "", 0, 999))
    return SeriesView(np.arange(n), features, values, counts)


def test_a_series_has_values_missingness_and_hours_since():
    view = series()
    fitted = fit_preprocessor(view, PreprocessParams(outliers="keep"))
    out = fitted.transform(view)
    assert out.shape == (30, 6, 6)
    assert (fitted.spec.blocks, fitted.spec.steps, fitted.spec.channels) == (3, 6, 6)
    np.testing.assert_array_equal(out[:, :, 2:4], np.isnan(view.values))
    np.testing.assert_allclose(out[:, :, 4:6], view.hours_since_measured() / 6)
    measured = view.values[~np.isnan(view.values[:, :, 0]), 0].astype(np.float64)
    for n in range(30):
        last = np.median(measured)
        for t in range(6):
            last = view.values[n, t, 0] if not np.isnan(view.values[n, t, 0]) else last
            assert out[n, t, 0] == pytest.approx((last - measured.mean()) / measured.std(), abs=1e-4)


def test_no_hour_sees_a_later_one():
    view = series()
    fitted = fit_preprocessor(view, PreprocessParams())
    late = view.values.copy()
    late[:, 4:] = 150
    np.testing.assert_array_equal(fitted.transform(view)[:, :4], fitted.transform(view.with_values(late))[:, :4])


def test_unscaled_keeps_units_and_missing_values():
    view, _ = make_view(200)
    fitted = fit_preprocessor(view, PreprocessParams(lower=0.01, upper=0.99))
    out = fitted.unscaled(view)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(view.values))
    assert np.nanmax(out[:, 0]) == pytest.approx(np.quantile(view.values[:, 0].astype(np.float64), 0.99), rel=1e-5)
