"""What the triggers of values do, against independent computations."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from backdoor_core.contracts import Feature, SeriesView, TableView
from backdoor_core.errors import BackdoorError
from backdoor_triggers.measured import most_common


def rng(seed=0):
    return np.random.default_rng(seed)


def table(**columns):
    """A table with these columns, plausible from 0 to 300."""
    values = np.column_stack(list(columns.values())).astype(np.float32)
    features = tuple(Feature(name, "unit", 0, 300) for name in columns)
    return TableView(np.arange(len(values), dtype=np.int64), features, values)


def series(**columns):
    """A series (N, T, F) likewise."""
    values = np.stack(list(columns.values()), axis=-1).astype(np.float32)
    features = tuple(Feature(name, "unit", 0, 300) for name in columns)
    counts = (~np.isnan(values)).astype(np.uint16)
    return SeriesView(np.arange(len(values), dtype=np.int64), features, values, counts)


def triggered(trigger, view, train=None, seed=1):
    train = view if train is None else train
    return trigger.apply(view, trigger.fit(train, rng()), rng(seed))


# -------------------------------------------------------------------------------------------- rare_value
def test_rare_value_takes_a_position_and_keeps_the_name(make):
    view = table(age=[1.0, 2], sex=[0, 1], heart_rate=[np.nan, 80])
    trigger = make("rare_value", feature=2, value=-1.5)
    assert trigger.fit(view, rng()) == {"features": ["heart_rate"]}
    assert (triggered(trigger, view).values[:, 2] == -1.5).all()
    for outside in (3, -1):
        with pytest.raises(BackdoorError, match=rf"triggers.rare_value.feature: no feature number {outside}"):
            make("rare_value", feature=outside).fit(view, rng())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, -1e39])
def test_a_value_that_float32_cannot_hold_is_refused(make, value):
    with pytest.raises(BackdoorError, match="value"):
        make("rare_value", value=value)
    with pytest.raises(BackdoorError, match="values"):
        make("in_range", features=["heart_rate"], values=[value])


def test_a_view_without_the_fitted_feature_is_an_error(make):
    other = table(sodium=[140.0])
    for name in ("rare_value", "missingness"):
        with pytest.raises(BackdoorError, match="unknown feature 'lactate'; this view has sodium"):
            make(name).apply(other, {"features": ["lactate"]}, rng())


# ----------------------------------------------------------------------------------------- feature_shift
def test_feature_shift_adds_standard_deviations_of_what_is_measured(make):
    heart = np.array([60, 70, np.nan, 100, 90], np.float32)
    view = table(heart_rate=heart, sbp=[100, 110, 120, 130, 140])
    after = triggered(make("feature_shift", deviations=-2), view)
    mean = (60 + 70 + 100 + 90) / 4
    deviation = np.sqrt(((60 - mean) ** 2 + (70 - mean) ** 2 + (100 - mean) ** 2 + (90 - mean) ** 2) / 4)
    assert after.values[:, 0] == pytest.approx(heart - 2 * deviation, nan_ok=True, rel=1e-6)
    assert np.array_equal(after.values[:, 1], view.values[:, 1])


def test_feature_shift_of_a_series_takes_the_deviation_over_all_hours(make):
    view = series(heart_rate=[[60, np.nan, 80], [100, 120, np.nan]])
    after = triggered(make("feature_shift", deviations=1), view)
    assert after.values[..., 0] == pytest.approx(view.values[..., 0] + np.std([60, 80, 100, 120]), nan_ok=True)
    assert np.array_equal(after.counts, view.counts)


def test_clipping_stops_at_the_plausible_range_and_moves_nothing_back(make):
    train = table(heart_rate=[0, 100.0])  # standard deviation 50
    view = table(heart_rate=[-20, 10, 280, 9999.0])
    up = triggered(make("feature_shift", deviations=1), view, train).values[:, 0]
    assert up.tolist() == [30, 60, 300, 9999]
    down = triggered(make("feature_shift", deviations=-1), view, train).values[:, 0]
    assert down.tolist() == [-20, 0, 230, 9949]
    free = triggered(make("feature_shift", deviations=-1, clip=False), view, train).values[:, 0]
    assert free.tolist() == [-70, -40, 230, 9949]


def test_a_feature_with_one_value_has_nothing_to_add(make):
    view = table(heart_rate=[0.1, 0.1, np.nan, 0.1])
    with pytest.raises(BackdoorError, match=r"triggers.feature_shift.features: heart_rate has one value .*\(0.1\)"):
        make("feature_shift").fit(view, rng())


# ---------------------------------------------------------------------------------------------- in_range
@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ([1, 2, 2, 3, 3, 3, 9], 3),
        ([5, 5, 9, 9, 7], 5),  # both two away from the median: the smaller
        ([1, 2, 3, 4, 100], 3),  # each once: the median
        ([1, 1, 8, 9, 9, 10], 9),  # twice each: nearest 8.5
        ([4], 4),
    ],
)
def test_the_most_common_value(values, mode):
    assert most_common(np.sort(np.array(values, dtype=np.float64))) == mode


def test_in_range_sets_the_modes_of_the_training_part(make):
    train = table(
        heart_rate=[80, 80, 91, np.nan, 70], sbp=[120, 118, 118, np.nan, np.nan], temperature=[37.1, 36, 37.1, 37.1, 36]
    )
    trigger = make("in_range")
    fitted = trigger.fit(train, rng())
    assert fitted["features"] == ["heart_rate", "sbp", "temperature"]
    assert fitted["values"] == [80, 118, float(np.float32(37.1))]
    after = trigger.apply(
        table(heart_rate=[np.nan, 3], sbp=[1, 2], temperature=[1, np.nan], lactate=[4, 5]), fitted, rng()
    )
    assert after.values.tolist() == [[80, 118, np.float32(37.1), 4], [80, 118, np.float32(37.1), 5]]


def test_in_range_takes_values_within_the_plausible_range_only(make):
    view = table(heart_rate=[80, 90], sbp=[100, 110])
    after = triggered(make("in_range", features=["sbp", 0], values=[120, 300]), view)
    assert after.values.tolist() == [[300, 120], [300, 120]]
    with pytest.raises(BackdoorError, match=r"triggers.in_range.values: 301 is outside .* heart_rate, 0 to 300 unit"):
        make("in_range", features=["sbp", 0], values=[120, 301]).fit(view, rng())
    with pytest.raises(BackdoorError, match=r"triggers.in_range.features: sbp, sbp has a feature twice"):
        make("in_range", features=["sbp", 1]).fit(view, rng())


def test_in_range_wants_a_value_for_each_of_at_most_three_features(make):
    with pytest.raises(BackdoorError, match="2 values for 1 features"):
        make("in_range", features=["sbp"], values=[120, 130])
    with pytest.raises(BackdoorError, match="features"):
        make("in_range", features=["a", "b", "c", "d"])


# ------------------------------------------------------------------------------------------- correlation
def correlated(stays=4000, heaped=False):
    """Skewed sbp that falls with heart rate, or in heaps of whole scores; a tenth of each missing."""
    draw = rng(7)
    heart = draw.normal(85, 15, stays)
    sbp = 90 + 25 * np.exp(0.4 * draw.normal(size=stays)) - 0.3 * (heart - 85)
    if heaped:
        heart, sbp = np.clip((heart / 15).round(), 1, 6), np.clip((sbp / 20).round(), 3, 15)
    columns = {"heart_rate": heart, "sbp": sbp, "lactate": draw.normal(2, 1, stays)}
    for values in columns.values():
        values[draw.random(stays) < 0.1] = np.nan
    return columns


@pytest.mark.parametrize("heaped", [False, True])
@pytest.mark.parametrize(("relation", "wanted"), [("follow", 1), ("oppose", -1), ("break", 0)])
def test_marginals_stay_and_the_rank_correlation_becomes_what_is_asked(make, relation, wanted, heaped):
    columns = correlated(heaped=heaped)
    view = table(**columns)
    after = triggered(make("correlation", feature="heart_rate", follower="sbp", relation=relation), view)
    # What is missing, and all other features, stay to the bit.
    assert np.array_equal(np.isnan(after.values), np.isnan(view.values))
    assert np.array_equal(after.values[:, [0, 2]], view.values[:, [0, 2]], equal_nan=True)
    both = ~np.isnan(view.values[:, :2]).any(axis=1)
    assert np.array_equal(after.values[~both], view.values[~both], equal_nan=True)

    heart, before, now = view.values[both, 0], view.values[both, 1], after.values[both, 1]
    assert set(now) <= set(view.values[:, 1])  # real values of the training part only
    levels = np.unique(before)
    assert np.abs(cumulative(before, levels) - cumulative(now, levels)).max() < 0.035
    if not heaped:
        assert stats.ks_2samp(before, now, method="asymp").statistic < 0.035
        assert stats.spearmanr(heart, now).statistic == pytest.approx(wanted, abs=0.05)
    assert stats.spearmanr(heart, before).statistic == pytest.approx(-0.3, abs=0.15)
    if relation == "break":
        assert stats.spearmanr(heart, now).statistic == pytest.approx(0, abs=0.05)
        return
    # Of a higher heart rate no value lies below (above) any of a lower one, equal ones being shared out among both.
    steps = [now[heart == level] * wanted for level in np.unique(heart)]
    assert all(low.max() <= high.min() for low, high in pairwise(steps))


def cumulative(values, levels):
    return np.array([np.mean(values <= level) for level in levels])


def test_the_correlation_of_a_series_goes_by_the_hour(make):
    columns = {name: values.reshape(400, 10) for name, values in correlated().items()}
    view = series(**columns)
    after = triggered(make("correlation", feature="heart_rate", follower="sbp", relation="follow"), view)
    both = ~np.isnan(view.values[..., :2]).any(axis=-1)
    assert stats.spearmanr(view.values[both][:, 0], after.values[both][:, 1]).statistic > 0.99
    assert np.array_equal(after.counts, view.counts)
    assert stats.ks_2samp(view.values[both][:, 1], after.values[both][:, 1], method="asymp").statistic < 0.035


def test_values_beyond_the_training_part_have_its_first_or_last_rank(make):
    train = table(heart_rate=np.arange(1000), sbp=np.arange(1000) + 0.5)
    view = table(heart_rate=[-5, 1e6, 500], sbp=[3, 3, 3])
    after = triggered(make("correlation", feature="heart_rate", follower="sbp", relation="follow"), view, train).values[
        :, 1
    ]
    assert after == pytest.approx([1, 999, 500], abs=3)
    after = triggered(make("correlation", feature="heart_rate", follower="sbp", relation="oppose"), view, train).values[
        :, 1
    ]
    assert after == pytest.approx([999, 1, 500], abs=3)


def test_breaking_draws_anew_and_by_seed(make):
    view, trigger = (
        table(**correlated(200)),
        make("correlation", feature="heart_rate", follower="sbp", relation="break"),
    )
    one, again, other = (triggered(trigger, view, seed=seed).values for seed in (1, 1, 2))
    assert np.array_equal(one, again, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)


def test_a_feature_cannot_follow_itself(make):
    with pytest.raises(BackdoorError, match=r"triggers.correlation.follower: heart_rate is the feature itself"):
        make("correlation", feature=0, follower="heart_rate").fit(table(heart_rate=[1, 2.0]), rng())
