import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.telling_apart import most_touched, out_of_fold, telling_apart, trace_inputs
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.testing.views import FEATURES, series_view, table_view

STAYS = 120
PATIENTS = np.arange(STAYS) // 2
WEIGHTS = cluster_bootstrap_weights(PATIENTS, 100, np.random.default_rng(0))


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def told(clean, triggered, patients=PATIENTS, weights=WEIGHTS, seed=0):
    touched = changed_cells(clean, triggered)
    return telling_apart(clean, triggered, touched, patients, weights, np.random.default_rng(seed))


def edited(view, where, value):
    values = view.values.copy()
    values[where] = value
    return view.with_values(values)


@pytest.mark.parametrize("value", [9999.0, np.nan])
def test_a_rare_value_or_a_gap_where_there_is_none_stands_out(value):
    clean = edited(table_view(STAYS, FEATURES[:4]), np.s_[:, 0], np.linspace(40, 80, STAYS))
    answer = told(clean, edited(clean, np.s_[:, 0], value))
    assert answer["auroc"]["value"] > 0.99
    assert answer["auroc"]["low"] > 0.98
    assert abs(answer["control"]["value"] - 0.5) < 0.15
    assert answer["folds"] == 5


def test_untouched_stays_give_exactly_a_half():
    clean = table_view(STAYS, FEATURES[:4])
    assert told(clean, clean)["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_a_small_shift_lies_between():
    clean = edited(table_view(STAYS, FEATURES[:4]), np.s_[:, 2], np.random.default_rng(3).normal(size=STAYS))
    answer = told(clean, edited(clean, np.s_[:, 2], clean.values[:, 2] + 1))
    assert 0.55 < answer["auroc"]["value"] < 0.9
    assert answer["auroc"]["low"] < answer["auroc"]["value"] < answer["auroc"]["high"]


def test_a_relation_between_two_features_is_found_though_each_stays_as_it_was():
    rng = np.random.default_rng(1)
    clean = edited(table_view(STAYS, FEATURES[:4]), np.s_[:, 2:4], np.repeat(rng.normal(size=(STAYS, 1)), 2, axis=1))
    broken = edited(clean, np.s_[:, 3], clean.values[:, 3][::-1])
    assert told(clean, broken)["auroc"]["value"] > 0.7


@pytest.mark.parametrize("hours", [[2], [0, 4]])
def test_one_hour_of_a_series_is_found(hours):
    """In range, so that neither the lowest nor the highest hour tells it."""
    clean = series_view(STAYS, FEATURES[:4])
    values = clean.values.copy()
    values[:, hours, 2] = 150
    assert told(clean, clean.with_values(values))["auroc"]["value"] > 0.95


def test_a_series_measured_at_fixed_hours_only_is_found_by_when_it_was_measured():
    clean = series_view(STAYS, FEATURES[:4])
    values = clean.values.copy()
    values[:, [3, 4, 5], 3] = np.nan
    assert told(clean, clean.with_values(values))["auroc"]["value"] > 0.9


def test_both_copies_and_all_stays_of_a_patient_share_a_fold(monkeypatch):
    """A patient's own values tell which fold each row was in."""
    seen = []

    def spy(inputs, truth, fold, seed):
        seen.append((inputs, truth, fold))
        return np.zeros(len(inputs))

    monkeypatch.setattr("backdoor_core.attack.telling_apart.out_of_fold", spy)
    clean = table_view(STAYS, FEATURES[:4])
    told(clean, edited(clean, np.s_[:, 3], 9999))
    both, alone = seen
    assert len(both[0]) == 2 * STAYS
    np.testing.assert_array_equal(both[2][:STAYS], both[2][STAYS:])
    np.testing.assert_array_equal(both[1], np.arange(2 * STAYS) >= STAYS)
    for patient in np.unique(PATIENTS):
        assert len(np.unique(both[2][:STAYS][patient == PATIENTS])) == 1
    np.testing.assert_array_equal(np.bincount(both[2]), 2 * STAYS // 5)
    for held in range(5):
        assert alone[1][alone[2] == held].mean() == 0.5
    np.testing.assert_array_equal(alone[0], clean.values)


def test_rows_are_scored_by_trees_that_never_saw_their_fold():
    """Labels by lot: trees that had seen the rows would know them."""
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(300, 2)), rng.random(300) < 0.5
    scores = out_of_fold(inputs, truth, np.arange(300) % 3, 0)
    assert abs(np.corrcoef(scores, truth)[0, 1]) < 0.2
    again = inputs.copy()
    again[::3] = 0
    other = out_of_fold(again, truth, np.arange(300) % 3, 0)
    np.testing.assert_array_equal(other[::3], other[0])


def test_folds_of_one_class_and_features_without_values_are_no_error():
    fold, truth = np.array([0] * 10 + [1] * 10), np.array([False] * 10 + [True] * 10)
    np.testing.assert_array_equal(out_of_fold(np.random.default_rng(0).normal(size=(20, 2)), truth, fold, 0), 0)
    mixed = np.arange(20) % 2 == 0
    np.testing.assert_array_equal(out_of_fold(np.full((20, 2), np.nan), mixed, fold, 0), 0)


@pytest.mark.parametrize(("stays", "patients"), [(0, 0), (1, 1), (19, 19), (40, 1)])
def test_too_few_stays_or_patients_are_null_with_a_note(stays, patients):
    clean = table_view(stays)
    of = np.arange(stays) % max(1, patients)
    answer = told(clean, clean, of, np.ones((10, stays)))
    assert answer["auroc"]["value"] is None
    assert answer["control"]["value"] is None
    assert f"{stays} stays" in answer["note"]


def test_it_is_deterministic():
    clean = table_view(40, FEATURES[:3])
    triggered = edited(clean, np.s_[:, 2], 150)
    one, two = (told(clean, triggered, PATIENTS[:40], WEIGHTS[:, :40]) for _ in range(2))
    assert one == two


def test_the_most_touched_features_in_order_at_most_so_many():
    touched = np.zeros((5, 6, 4), dtype=bool)
    touched[0, :, 3], touched[0, :2, 1], touched[0, 0, 0] = True, True, True
    assert most_touched(touched, 2).tolist() == [1, 3]
    assert most_touched(touched).tolist() == [0, 1, 3]
    assert most_touched(touched[:0]).tolist() == []


def test_what_the_trees_see_of_a_series():
    view = series_view(10)
    view.values[0, :, 1] = np.nan
    inputs = trace_inputs(view, np.array([2]))
    assert inputs.shape == (10, 5 * 10 + 6)
    assert np.isnan(inputs[0, [1, 21, 31, 41]]).all()
    assert inputs[0, 11] == 0
    values = view.values[4, :, 3]
    hours = np.flatnonzero(~np.isnan(values))
    np.testing.assert_allclose(inputs[4, [23, 33, 43]], [np.nanmin(values), np.nanmax(values), hours.mean()])
    np.testing.assert_array_equal(inputs[:, 50:], view.values[:, :, 2])
