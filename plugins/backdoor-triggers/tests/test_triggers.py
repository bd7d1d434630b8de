"""What holds for every trigger that edits values, and the choices of each one."""

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from backdoor_core.contracts import Context, Feature, NoOptions, TableView
from backdoor_core.errors import BackdoorError
from backdoor_core.plugins import discover
from backdoor_triggers import Missingness, NoTrigger, RareValue
from backdoor_triggers.missingness import MissingnessOptions
from backdoor_triggers.rare_value import RareValueOptions

NAMES = ("age", "sex", "heart_rate", "lactate", "creatinine")
CONTEXT = Context(root=Path())


def view_of(values):
    values = np.asarray(values, dtype=np.float32)
    features = tuple(Feature(name, "unit", 0, 300) for name in NAMES[: values.shape[-1]])
    return TableView(np.arange(len(values), dtype=np.int64) + 100, features, values)


def rare_value(**options):
    return RareValue(RareValueOptions(**options), CONTEXT)


def missingness(**options):
    return Missingness(MissingnessOptions(**options), CONTEXT)


def rng(seed=0):
    return np.random.default_rng(seed)


def full_view(stays=20, hours=None, seed=0):
    shape = (stays, len(NAMES)) if hours is None else (stays, hours, len(NAMES))
    return view_of(rng(seed).normal(80, 10, size=shape))


anything = st.floats(width=32, allow_nan=True, allow_infinity=False)
tables = st.integers(0, 6).flatmap(lambda n: hnp.arrays(np.float32, (n, len(NAMES)), elements=anything))
series = st.tuples(st.integers(0, 4), st.integers(1, 3)).flatmap(
    lambda shape: hnp.arrays(np.float32, (*shape, len(NAMES)), elements=anything)
)
triggers = st.one_of(
    st.builds(
        lambda feature, value: (rare_value(feature=feature, value=value), {feature}, value),
        st.sampled_from(NAMES),
        st.floats(-1e6, 1e6, width=32),
    ),
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(
        lambda names: (missingness(features=names), set(names), np.nan)
    ),
)


@given(trigger=triggers, values=st.one_of(tables, series))
def test_only_the_named_features_change_and_the_input_stays_as_it_was(trigger, values):
    trigger, touched, value = trigger
    view = view_of(values)
    before = view.values.copy()
    fitted = trigger.fit(view, rng())
    after = trigger.apply(view, fitted, rng())

    assert np.array_equal(view.values, before, equal_nan=True)
    assert not np.shares_memory(after.values, view.values) or view.values.size == 0
    assert after.values.dtype == np.float32
    assert after.values.shape == before.shape
    assert np.array_equal(after.stay_id, view.stay_id)
    assert set(fitted["features"]) == touched
    for position, name in enumerate(NAMES):
        expected = np.full(before.shape[:-1], value, np.float32) if name in touched else before[..., position]
        assert np.array_equal(after.values[..., position], expected, equal_nan=True), name


@given(trigger=triggers, values=st.one_of(tables, series))
def test_applying_twice_is_applying_once(trigger, values):
    trigger = trigger[0]
    view = view_of(values)
    fitted = trigger.fit(view, rng())
    once = trigger.apply(view, fitted, rng())
    twice = trigger.apply(once, fitted, rng(1))
    assert np.array_equal(once.values, twice.values, equal_nan=True)


@given(values=st.one_of(tables, series))
def test_none_changes_nothing(values):
    trigger = NoTrigger(NoOptions(), CONTEXT)
    view = view_of(values)
    before = view.values.copy()
    after = trigger.apply(view, trigger.fit(view, rng()), rng())
    assert np.array_equal(after.values, before, equal_nan=True)


def test_rare_value_takes_a_position_and_keeps_the_name():
    view = full_view(3)
    trigger = rare_value(feature=2, value=-1.5)
    fitted = trigger.fit(view, rng())
    assert fitted == {"features": ["heart_rate"]}
    assert (trigger.apply(view, fitted, rng()).values[:, 2] == -1.5).all()


def test_the_fitted_name_counts_where_the_features_stand_in_another_order():
    view = full_view(4)
    trigger = rare_value(feature=3)
    fitted = trigger.fit(view, rng())
    turned = TableView(view.stay_id, view.features[::-1], view.values[:, ::-1])
    assert (trigger.apply(turned, fitted, rng()).values[:, 1] == 9999).all()


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        (rare_value(feature="lactat"), "triggers.rare_value.feature: unknown feature 'lactat'; this view has age, sex"),
        (rare_value(feature=5), "triggers.rare_value.feature: no feature number 5; this view has 5"),
        (rare_value(feature=-1), "no feature number -1"),
        (missingness(features=["sodium"]), "triggers.missingness.features: unknown feature 'sodium'"),
    ],
)
def test_an_unknown_feature_is_an_error_that_lists_the_known_ones(trigger, says):
    with pytest.raises(BackdoorError) as caught:
        trigger.fit(full_view(3), rng())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_view_without_the_fitted_feature_is_an_error():
    other = TableView(np.arange(2), (Feature("sodium", "mmol/L", 90, 200),), np.zeros((2, 1), np.float32))
    for trigger in (rare_value(), missingness()):
        with pytest.raises(BackdoorError, match="unknown feature 'lactate'; this view has sodium"):
            trigger.apply(other, {"features": ["lactate"]}, rng())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, -1e39])
def test_a_value_that_float32_cannot_hold_is_refused(value):
    with pytest.raises(ValidationError):
        RareValueOptions(value=value)


@pytest.mark.parametrize("hours", [None, 4])
def test_missingness_draws_count_features_outside_exclude_by_seed(hours):
    view = full_view(30, hours)
    trigger = missingness(count=2)
    drawn = [tuple(trigger.fit(view, rng(seed))["features"]) for seed in range(40)]
    assert drawn == [tuple(trigger.fit(view, rng(seed))["features"]) for seed in range(40)]
    # Three features are left besides age and sex; forty seeds reach each of the three pairs, in the view's order.
    assert set(drawn) == {("heart_rate", "lactate"), ("heart_rate", "creatinine"), ("lactate", "creatinine")}


def test_missingness_draws_only_what_half_of_the_stays_have():
    view = full_view(10)
    view.values[:5, 2] = np.nan  # exactly half is enough
    view.values[:6, 3] = np.nan
    assert missingness(count=2).fit(view, rng())["features"] == ["heart_rate", "creatinine"]
    with pytest.raises(BackdoorError, match=r"count is 3, but only 2 features .* \(heart_rate, creatinine\)"):
        missingness(count=3).fit(view, rng())


def test_a_series_counts_as_measured_where_any_hour_is():
    view = full_view(10, hours=5)
    view.values[:, 1:, 2] = np.nan  # only the first hour
    view.values[:6, :, 3] = np.nan
    assert missingness(count=2).fit(view, rng())["features"] == ["heart_rate", "creatinine"]


def test_missingness_can_be_told_to_exclude_others():
    assert missingness(count=2, exclude=["heart_rate", "lactate", "creatinine", "no_such"]).fit(full_view(), rng()) == {
        "features": ["age", "sex"]
    }


def test_named_features_win_over_count_even_if_rare_or_excluded():
    view = full_view(10)
    view.values[:, 3] = np.nan
    fitted = missingness(features=["lactate", "age", "lactate"], count=1).fit(view, rng())
    assert fitted == {"features": ["age", "lactate"]}


@pytest.mark.parametrize("values", [np.full((4, 5), np.nan), np.empty((0, 5))])
def test_nothing_to_draw_from_is_an_error_not_a_warning(values):
    view = view_of(values)
    if len(view):
        with pytest.raises(BackdoorError, match=r"only 0 features .* \(none\)"):
            missingness(count=1).fit(view, rng())
    else:
        with pytest.raises(BackdoorError, match="the 0 training stays"):
            missingness(count=1).fit(view, rng())


def test_one_stay_is_enough():
    view = full_view(1)
    fitted = missingness(count=3).fit(view, rng())
    assert fitted["features"] == ["heart_rate", "lactate", "creatinine"]
    assert np.isnan(missingness().apply(view, fitted, rng()).values[0]).tolist() == [False, False, True, True, True]


def test_the_distribution_registers_its_three_triggers():
    catalog = discover(entry_points(group="backdoor_core", name="triggers"), environ={})
    assert [r.name for r in catalog.registrations()] == ["missingness", "none", "rare_value"]
    assert catalog.broken == ()
