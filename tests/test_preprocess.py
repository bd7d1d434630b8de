import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler
from small import make_view

from backdoor_core.cohort.preprocess import Preprocessor, fit_preprocessor
from backdoor_core.cohort.scaling import QUANTILES, to_normal, training_quantiles
from backdoor_core.contracts import Feature, SeriesView, TableView
from backdoor_core.files import json_text
from backdoor_core.params import PreprocessParams
from backdoor_core.testing.views import series_view

OUTLIERS, SCALINGS, MISSING = (
    ("keep", "winsorize", "clip", "null"),
    ("standard", "robust", "quantile"),
    ("indicator", "median", "sentinel"),
)
EVERY = [
    pytest.param({"outliers": o, "scaling": s, "missing": m}, id=f"{o}-{s}-{m}")
    for o in OUTLIERS
    for s in SCALINGS
    for m in MISSING
]
options = st.fixed_dictionaries(
    {"outliers": st.sampled_from(OUTLIERS), "scaling": st.sampled_from(SCALINGS), "missing": st.sampled_from(MISSING)}
)


def view_of(values: np.ndarray, low: float = -1e9, high: float = 1e9) -> TableView:
    features = tuple(Feature(f"f{j}", "", low, high) for j in range(values.shape[1]))
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


@pytest.mark.parametrize("chosen", EVERY)
def test_json_round_trip_is_exact(chosen):
    view, _ = make_view(300)
    fitted = fit_preprocessor(view, PreprocessParams(**chosen))
    again = Preprocessor.from_json(json.loads(json_text(fitted.as_json())))
    for field in dataclasses.fields(Preprocessor):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(fitted, field.name))
    np.testing.assert_array_equal(again.transform(view), fitted.transform(view))


def test_content_without_the_later_keys_is_clipped_standardized_and_filled_with_the_median():
    view, _ = make_view(300)
    fitted = fit_preprocessor(view, PreprocessParams())
    content = fitted.as_json()
    for key in ("outside", "sentinel", "quantiles"):
        del content[key]
    np.testing.assert_array_equal(Preprocessor.from_json(content).transform(view), fitted.transform(view))


arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
)


@given(arrays, arrays, options)
def test_output_is_finite_whatever_the_input(values, others, chosen):
    view = view_of(values, low=-1000, high=1000)
    fitted = fit_preprocessor(view, PreprocessParams(**chosen))
    blocks = 2 if chosen["missing"] == "indicator" else 1
    later = np.resize(others, (7, values.shape[1]))
    for rows in (values, later, later[:0]):
        out = fitted.transform(view_of(rows))
        assert np.isfinite(out).all()
        assert out.shape == (len(rows), blocks * values.shape[1])


@given(arrays, options, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(values, chosen, random):
    view = view_of(values, low=-1000, high=1000)
    order = np.array(random.sample(range(len(values)), len(values)))
    fitted = fit_preprocessor(view, PreprocessParams(**chosen))
    np.testing.assert_array_equal(fitted.transform(view)[order], fitted.transform(view.take(order)))
    shuffled = fit_preprocessor(view.take(order), PreprocessParams(**chosen))
    for name in ("low", "high", "median", "quantiles"):
        np.testing.assert_array_equal(getattr(fitted, name), getattr(shuffled, name))
    np.testing.assert_allclose(shuffled.center, fitted.center, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(shuffled.scale, fitted.scale, rtol=1e-6)


@given(arrays, st.floats(0, 0.4), st.floats(0.6, 1))
def test_nothing_lies_beyond_the_limits_of_winsorizing(values, lower, upper):
    fitted = fit_preprocessor(view_of(values), PreprocessParams(lower=lower, upper=upper))
    seen = fitted.unscaled(view_of(values * 3))
    for j in range(values.shape[1]):
        measured = values[~np.isnan(values[:, j]), j].astype(np.float64)
        if len(measured):
            low, high = np.quantile(measured, [lower, upper]).astype(np.float32)
            inside = seen[~np.isnan(seen[:, j]), j]
            assert ((inside >= low) & (inside <= high)).all()
            assert measured.min() <= fitted.median[j] <= measured.max()


def test_clipping_goes_to_the_plausible_range_and_not_to_the_percentiles():
    values = np.array([[1.0], [2], [3], [4], [9999], [-7], [np.nan]], dtype=np.float32)
    fitted = fit_preprocessor(view_of(values, low=0, high=300), PreprocessParams(outliers="clip"))
    np.testing.assert_array_equal(fitted.unscaled(view_of(values))[:, 0], [1, 2, 3, 4, 300, 0, np.nan])
    seen = np.array([1.0, 2, 3, 4, 300, 0])
    assert fitted.center[0] == pytest.approx(seen.mean())
    assert fitted.scale[0] == pytest.approx(seen.std())


def test_null_makes_an_implausible_value_missing_before_all_else():
    values = np.array([[1.0], [2], [9], [9999], [-7], [np.nan]], dtype=np.float32)
    fitted = fit_preprocessor(view_of(values, low=0, high=300), PreprocessParams(outliers="null"))
    assert (fitted.median[0], fitted.center[0]) == (2, 4)
    out = fitted.transform(view_of(values))
    np.testing.assert_array_equal(out[:, 1], [0, 0, 0, 1, 1, 1])
    spread = np.std([1.0, 2, 9])
    np.testing.assert_allclose(out[:, 0], (np.array([1, 2, 9, 2, 2, 2]) - 4) / spread, rtol=1e-6)
    np.testing.assert_array_equal(fitted.unscaled(view_of(values))[:, 0], [1, 2, 9, np.nan, np.nan, np.nan])


def test_the_ends_of_the_plausible_range_belong_to_it_in_single_precision():
    ends = np.array([[0.7], [0.8], [0.75]], dtype=np.float32)
    assert float(ends[0, 0]) < 0.7
    assert float(ends[1, 0]) > 0.8
    fitted = fit_preprocessor(view_of(ends, low=0.7, high=0.8), PreprocessParams(outliers="null"))
    np.testing.assert_array_equal(fitted.unscaled(view_of(ends)), ends)
    assert fitted.median[0] == pytest.approx(0.75)


def test_an_open_plausible_range_has_no_limit():
    values = np.array([[-1e30], [0], [1e30]], dtype=np.float32)
    for outliers in ("clip", "null"):
        fitted = fit_preprocessor(view_of(values, low=-np.inf, high=np.inf), PreprocessParams(outliers=outliers))
        np.testing.assert_array_equal(fitted.unscaled(view_of(values)), values)


def test_a_feature_with_implausible_values_only_counts_as_never_measured_and_keeps_its_range():
    values = np.full((20, 1), 9999, dtype=np.float32)
    fitted = fit_preprocessor(view_of(values, low=0, high=300), PreprocessParams(outliers="null"))
    assert (fitted.median[0], fitted.center[0], fitted.scale[0], fitted.high[0]) == (0, 0, 1, 300)
    np.testing.assert_array_equal(fitted.transform(view_of(values)), [[0, 1]] * 20)


@pytest.mark.parametrize(
    ("scaling", "transformer"),
    [
        ("standard", StandardScaler()),
        ("robust", RobustScaler()),
        ("quantile", QuantileTransformer(n_quantiles=1000, subsample=None, output_distribution="normal")),
    ],
)
@pytest.mark.parametrize("rows", [300, 2500])
def test_scaling_equals_sklearn(scaling, transformer, rows):
    view, _ = make_view(rows)
    later, _ = make_view(800, seed=9)
    if scaling == "quantile":
        transformer.set_params(n_quantiles=min(1000, rows))
    wanted = transformer.fit(view.values.astype(np.float64)).transform(later.values.astype(np.float64))
    fitted = fit_preprocessor(view, PreprocessParams(outliers="keep", scaling=scaling))
    out = fitted.transform(later)[:, :6]
    measured = ~np.isnan(later.values)
    np.testing.assert_allclose(out[measured], wanted[measured], rtol=1e-4, atol=1e-5)


def test_quantiles_are_as_many_as_rows_and_never_more_than_the_cap():
    for rows, kept in ((1, 1), (40, 40), (2500, QUANTILES)):
        view, _ = make_view(rows)
        quantiles = fit_preprocessor(view, PreprocessParams(scaling="quantile")).quantiles
        assert quantiles.shape == (kept, 6)
        assert (np.diff(quantiles, axis=0) >= 0).all()


def test_quantile_scaling_of_ties_and_beyond_the_training_values():
    measured = np.array([0.0, 1, 1, 1, 2])
    quantiles = training_quantiles(measured, 5)
    out = to_normal(np.array([-50, 0, 0.5, 1, 2, 70, np.nan]), quantiles)
    edge = norm.ppf(1e-7)
    np.testing.assert_allclose(out, [edge, edge, norm.ppf(0.125), 0, -edge, -edge, np.nan], atol=1e-6)


def test_a_constant_or_never_measured_feature_is_zero_under_quantile_scaling():
    values = np.column_stack([np.full(50, 7.3), np.full(50, np.nan)]).astype(np.float32)
    fitted = fit_preprocessor(view_of(values), PreprocessParams(scaling="quantile", missing="median"))
    np.testing.assert_array_equal(fitted.transform(view_of(values)), np.zeros((50, 2)))


def test_more_than_half_ties_are_only_centered_under_robust_scaling():
    values = np.array([[4.0]] * 9 + [[10.0]], dtype=np.float32)
    fitted = fit_preprocessor(view_of(values), PreprocessParams(scaling="robust", outliers="keep", missing="median"))
    np.testing.assert_array_equal(fitted.transform(view_of(values))[:, 0], [0] * 9 + [6])


def test_the_median_equals_sklearns_imputer():
    view, _ = make_view(400, seed=5)
    imputed = SimpleImputer(strategy="median").fit_transform(view.values)
    fitted = fit_preprocessor(view, PreprocessParams(outliers="keep", missing="median"))
    np.testing.assert_allclose(fitted.transform(view), (imputed - fitted.center) / fitted.scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_sentinel_stands_in_scaled_units_and_the_rest_is_as_without(scaling):
    view, _ = make_view(300)
    params = PreprocessParams(scaling=scaling, missing="sentinel", sentinel=-8.5)
    out = fit_preprocessor(view, params).transform(view)
    assert out.shape == (300, 6)
    absent = np.isnan(view.values)
    assert (out[absent] == -8.5).all()
    plain = fit_preprocessor(view, PreprocessParams(scaling=scaling, missing="median")).transform(view)
    np.testing.assert_array_equal(out[~absent], plain[~absent])


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


def test_in_a_series_a_sentinel_is_not_carried_forward():
    view = series()
    fitted = fit_preprocessor(view, PreprocessParams(missing="sentinel", outliers="keep"))
    out = fitted.transform(view)
    assert (fitted.spec.blocks, out.shape) == (2, (30, 6, 4))
    np.testing.assert_array_equal(out[:, :, :2] == -5, np.isnan(view.values))
    np.testing.assert_allclose(out[:, :, 2:], view.hours_since_measured() / 6)


@pytest.mark.parametrize("missing", MISSING)
def test_null_in_a_series_is_as_if_the_hour_had_no_measurement(missing):
    """Also for what is carried forward and for the hours since the last measurement."""
    view = series()
    odd = view.values.copy()
    odd[:, 3, 0], odd[::2, 1, 1] = 9999, -4
    gone = view.values.copy()
    gone[:, 3, 0], gone[::2, 1, 1] = np.nan, np.nan
    params = PreprocessParams(outliers="null", missing=missing)
    of_odd = fit_preprocessor(view.with_values(odd), params)
    of_gone = fit_preprocessor(view.with_values(gone), params)
    np.testing.assert_array_equal(of_odd.transform(view.with_values(odd)), of_gone.transform(view.with_values(gone)))
    assert (of_odd.limited(view.with_values(odd)).counts[:, 3, 0] == 0).all()


@pytest.mark.parametrize("chosen", EVERY)
def test_the_input_stays_untouched(chosen):
    view = series()
    values, counts = view.values.copy(), view.counts.copy()
    fitted = fit_preprocessor(view, PreprocessParams(**chosen))
    fitted.transform(view)[:] = 0
    fitted.unscaled(view)[:] = 0
    np.testing.assert_array_equal(view.values, values)
    np.testing.assert_array_equal(view.counts, counts)


@pytest.mark.parametrize("written", [None, "null"])
def test_null_is_a_word_in_params_whether_yaml_reads_it_so_or_not(written):
    params = PreprocessParams.model_validate({"outliers": written})
    assert params.outliers == "null"
    assert params.model_dump(mode="json")["outliers"] == "null"


@pytest.mark.parametrize(("key", "value"), [("outliers", "drop"), ("scaling", None), ("sentinel", np.inf)])
def test_other_words_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        PreprocessParams.model_validate({key: value})


def test_unscaled_keeps_units_and_missing_values():
    view, _ = make_view(200)
    fitted = fit_preprocessor(view, PreprocessParams(lower=0.01, upper=0.99))
    out = fitted.unscaled(view)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(view.values))
    assert np.nanmax(out[:, 0]) == pytest.approx(np.quantile(view.values[:, 0].astype(np.float64), 0.99), rel=1e-5)


def test_unscaled_shows_nothing_missing_where_the_median_is_to_hide_it():
    view, _ = make_view(200)
    fitted = fit_preprocessor(view, PreprocessParams(missing="median", outliers="keep"))
    missing = np.isnan(view.values)
    assert missing.any()
    medians = np.broadcast_to(np.nanmedian(view.values, axis=0), view.values.shape)
    np.testing.assert_allclose(fitted.unscaled(view), np.where(missing, medians, view.values), rtol=1e-6)
    series = series_view(20)
    filled = fit_preprocessor(series, PreprocessParams(missing="median", outliers="keep")).unscaled(series)
    assert np.isnan(series.values).any()
    assert not np.isnan(filled).any()
