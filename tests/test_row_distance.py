import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from backdoor_core.attack.row_distance import Reference, flat_rows
from backdoor_core.testing.views import series_view, table_view


def correlated(rows, columns=5, seed=0, missing=0.1):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns)) * 10 + 50
    values[rng.random(values.shape) < missing] = np.nan
    return values


def test_mahalanobis_equals_scipys_with_the_shrunk_covariance():
    known, rows = correlated(300), correlated(20, seed=1)
    median = np.nanmedian(known, axis=0)
    filled = np.where(np.isnan(known), median, known)
    standard = (filled - filled.mean(axis=0)) / filled.std(axis=0)
    inverse = np.linalg.inv(ledoit_wolf(standard)[0])
    at = (np.where(np.isnan(rows), median, rows) - filled.mean(axis=0)) / filled.std(axis=0)
    wanted = [mahalanobis(row, standard.mean(axis=0), inverse) for row in at]
    np.testing.assert_allclose(Reference.of(known).mahalanobis(rows), wanted, rtol=1e-9)


def test_a_row_against_the_correlation_lies_further_off_than_one_along_it():
    rng = np.random.default_rng(0)
    one = rng.normal(size=500)
    known = Reference.of(np.column_stack([one, one + rng.normal(size=500) / 10]))
    along, against = known.mahalanobis(np.array([[2.0, 2], [2, -2]]))
    assert along < 3
    assert against > 10


def test_neighbors_equal_brute_force():
    known, rows = correlated(40), correlated(7, seed=1)
    reference = Reference.of(known)
    far, near = reference.standardized(rows), reference.standardized(known)
    for k in (1, 5):
        wanted = [np.mean(sorted(np.sqrt(((row - other) ** 2).sum()) for other in near)[:k]) for row in far]
        np.testing.assert_allclose(reference.neighbors(rows, k), wanted, rtol=1e-9)


def test_a_column_never_measured_is_left_out_and_a_constant_one_is_in_its_own_unit():
    known = correlated(50, missing=0)
    odd = np.column_stack([known, np.full(50, np.nan), np.full(50, 3.0)])
    rows = odd[:4].copy()
    rows[:, 5] = 1e6
    reference = Reference.of(odd)
    np.testing.assert_allclose(reference.neighbors(rows, 1), 0, atol=1e-9)
    rows[:, 6] = 5
    np.testing.assert_allclose(reference.neighbors(rows, 1), 2, rtol=1e-9)
    assert np.isfinite(reference.mahalanobis(rows)).all()


@pytest.mark.parametrize("fill", [np.nan, 7.0])
def test_nothing_to_measure_by_is_distance_0(fill):
    rows = np.full((5, 3), fill)
    reference = Reference.of(rows)
    np.testing.assert_array_equal(reference.mahalanobis(rows), 0)
    np.testing.assert_array_equal(reference.neighbors(rows), 0)


def test_one_row_is_no_reference():
    with pytest.raises(ValueError, match="1 rows"):
        Reference.of(np.zeros((1, 3)))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, (8, 3), elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_distances_are_numbers_from_0_up_and_follow_their_rows(values):
    reference = Reference.of(values)
    for distance in (reference.mahalanobis, reference.neighbors):
        answers = distance(values)
        assert np.isfinite(answers).all()
        assert (answers >= 0).all()
        np.testing.assert_allclose(distance(values[::-1]), answers[::-1], rtol=1e-6, atol=1e-6)


def test_a_series_is_its_mean_and_its_share_of_measured_hours():
    view = series_view(20)
    view.values[3, :, 2] = np.nan
    rows = flat_rows(view)
    assert rows.shape == (20, 20)
    for n in range(20):
        for j in range(10):
            measured = view.values[n, ~np.isnan(view.values[n, :, j]), j].astype(np.float64)
            assert rows[n, 10 + j] == len(measured) / 6
            assert rows[n, j] == pytest.approx(measured.mean(), nan_ok=True) if len(measured) else np.isnan(rows[n, j])
    table = table_view(20)
    np.testing.assert_array_equal(flat_rows(table), table.values)
