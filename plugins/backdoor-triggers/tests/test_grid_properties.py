"""What holds for every trigger of tables and series, whatever the values: checked with arbitrary arrays."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from backdoor_core.contracts import Feature, SeriesView, TableView
from backdoor_core.errors import BackdoorError

NAMES = ("age", "sex", "heart_rate", "sbp", "resp_rate", "temperature", "spo2", "lactate")
FEATURES = tuple(Feature(name, "unit", -50, 300) for name in NAMES)
HOURS = 7
VITALS = {"heart_rate", "sbp", "resp_rate", "temperature"}
ALL = range(HOURS)

# Name, options, the features and the hours that may change.
CHOICES = [
    ("none", {}, set(), ()),
    ("rare_value", {}, {"age"}, ALL),
    ("rare_value", {"feature": "lactate", "value": -1e38}, {"lactate"}, ALL),
    ("missingness", {"features": ["sbp", "spo2"]}, {"sbp", "spo2"}, ALL),
    ("hybrid", {"triggers": [{"name": "rare_value"}, {"name": "feature_shift"}]}, {"age", "heart_rate"}, ALL),
    ("feature_shift", {"features": ["sbp", 7], "deviations": -2.5}, {"sbp", "lactate"}, ALL),
    ("feature_shift", {"deviations": 1000, "clip": False}, {"heart_rate"}, ALL),
    ("in_range", {}, {"heart_rate", "sbp", "temperature"}, ALL),
    ("in_range", {"features": [1], "values": [0.1]}, {"sex"}, ALL),
    ("correlation", {"relation": "follow", "follower": "spo2"}, {"spo2"}, ALL),
    ("correlation", {"feature": "sex", "follower": "age"}, {"age"}, ALL),
    ("correlation", {"relation": "break", "follower": "lactate"}, {"lactate"}, ALL),
    ("temporal_pattern", {"start": 1, "duration": 3}, {"heart_rate"}, (1, 2, 3)),
    ("temporal_pattern", {"shape": "ramp", "start": 4, "duration": 3, "clip": False}, {"heart_rate"}, (4, 5, 6)),
    ("temporal_pattern", {"shape": "sine", "duration": 5, "features": ["sbp", "spo2"]}, {"sbp", "spo2"}, (0, 1, 3, 4)),
    ("temporal_pattern", {"shape": "spike", "start": 2, "duration": 3, "measure": False}, {"heart_rate"}, (3,)),
    ("sampling_pattern", {"every": 3}, VITALS, ALL),
    ("sampling_pattern", {"hours": [6, 2], "features": ["lactate"]}, {"lactate"}, ALL),
]
RANDOM = {"correlation"}

anything = st.one_of(st.floats(width=32, allow_nan=True, allow_infinity=False), st.just(np.nan), st.just(80.0))


def grid(values):
    values = np.asarray(values, dtype=np.float32)
    stay_id = np.arange(len(values), dtype=np.int64) + 100
    if values.ndim == 2:
        return TableView(stay_id, FEATURES, values)
    counts = np.where(np.isnan(values), 0, 2).astype(np.uint16)
    return SeriesView(stay_id, FEATURES, values, counts)


def training(modality):
    shape = (60, len(NAMES)) if modality == "table" else (60, HOURS, len(NAMES))
    rng = np.random.default_rng(3)
    values = rng.normal(80, 10, shape).round(1)
    values[rng.random(shape) < 0.2] = np.nan
    return grid(values)


TRAINING = {modality: training(modality) for modality in ("table", "series")}
arrays = {
    "table": hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(len(NAMES))), elements=anything),
    "series": hnp.arrays(
        np.float32, st.tuples(st.integers(0, 3), st.just(HOURS), st.just(len(NAMES))), elements=anything
    ),
}


def same(one, other):
    counts = np.array_equal(one.counts, other.counts) if isinstance(one, SeriesView) else True
    return np.array_equal(one.values, other.values, equal_nan=True) and counts


@pytest.mark.parametrize(("name", "options", "touched", "hours"), CHOICES)
@pytest.mark.parametrize("modality", ["table", "series"])
def test_only_what_is_declared_changes_and_the_rest_holds(make, name, options, touched, hours, modality):
    trigger = make(name, **options)
    if modality not in trigger.modalities:
        assert name in {"temporal_pattern", "sampling_pattern"}
        return
    fitted = trigger.fit(TRAINING[modality], np.random.default_rng(0))

    def apply(view, seed=1):
        return trigger.apply(view, fitted, np.random.default_rng(seed))

    @given(values=arrays[modality])
    @settings(max_examples=15, deadline=None)
    def check(values):
        view, before = grid(values), grid(values.copy())
        after = apply(view)
        assert same(view, before)
        assert type(after) is type(view)
        assert after.values.shape == values.shape
        assert after.values.dtype == np.float32
        assert not np.isinf(after.values).any()
        changed = (after.values != values) & ~(np.isnan(after.values) & np.isnan(values))
        assert {NAMES[j] for j in np.flatnonzero(changed.any(axis=tuple(range(values.ndim - 1))))} <= touched
        if modality == "series":
            assert set(np.flatnonzero(changed.any(axis=(0, 2)))) <= set(hours)
            assert np.array_equal(after.counts == 0, np.isnan(after.values))
            measured_on = ~np.isnan(values) & ~np.isnan(after.values)
            assert np.array_equal(after.counts[measured_on], before.counts[measured_on])
        assert same(after, apply(grid(values)))
        if trigger.idempotent:
            assert same(apply(after, seed=2), after)
        if name not in RANDOM and len(values):
            assert same(apply(view.take(np.array([len(values) - 1]))), after.take(np.array([len(values) - 1])))

    check()


@pytest.mark.parametrize("name", ["rare_value", "missingness", "in_range", "feature_shift", "correlation"])
def test_the_fitted_name_counts_where_the_features_stand_in_another_order(make, name):
    options = {"rare_value": {"feature": "heart_rate"}, "correlation": {"follower": "spo2"}}.get(name, {})
    trigger, view = make(name, **options), TRAINING["table"]
    fitted = trigger.fit(view, np.random.default_rng(0))
    turned = TableView(view.stay_id, view.features[::-1], view.values[:, ::-1])
    there = trigger.apply(view, fitted, np.random.default_rng(1)).values
    assert np.array_equal(
        trigger.apply(turned, fitted, np.random.default_rng(1)).values[:, ::-1], there, equal_nan=True
    )
    assert not np.array_equal(there, view.values, equal_nan=True)


UNKNOWN = {
    "rare_value": ("feature", "nope"),
    "missingness": ("features", ["sbp", "nope"]),
    "feature_shift": ("features", ["nope"]),
    "in_range": ("features", ["nope"]),
    "correlation": ("follower", "nope"),
    "temporal_pattern": ("features", ["nope"]),
    "sampling_pattern": ("features", ["nope"]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_feature_is_an_error_that_names_the_option_and_lists_the_known_ones(make, name):
    option, value = UNKNOWN[name]
    with pytest.raises(BackdoorError) as caught:
        make(name, **{option: value}).fit(TRAINING["series"], np.random.default_rng(0))
    assert f"triggers.{name}.{option}: unknown feature 'nope'; this view has age, sex, heart_rate" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["feature_shift", "in_range", "correlation", "temporal_pattern", "sampling_pattern"])
def test_a_feature_that_no_training_stay_has_is_an_error(make, name):
    values = TRAINING["series"].values.copy()
    values[..., NAMES.index("heart_rate")] = np.nan
    options = {"feature": "heart_rate", "follower": "sbp"} if name == "correlation" else {}
    with pytest.raises(BackdoorError, match=rf"triggers\.{name}\.\w+: heart_rate is measured in none of the 60"):
        make(name, **options).fit(grid(values), np.random.default_rng(0))
