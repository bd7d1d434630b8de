import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.covariance import ledoit_wolf

from backdoor_core.errors import BackdoorError
from backdoor_core.testing.detectors import make_case
from backdoor_core.testing.views import series_view
from backdoor_detectors import IsolationForest, Mahalanobis
from backdoor_detectors.robust import concentrate, shrunk_covariance, spread
from backdoor_detectors.spaces import points_of


@pytest.mark.parametrize(("rows", "width"), [(40, 5), (12, 30), (500, 8)])
def test_the_shrunk_covariance_is_that_of_ledoit_and_wolf(rows, width):
    rng = np.random.default_rng(rows)
    points = rng.normal(size=(rows, width)) * np.geomspace(1, 9, width)
    centered = points - points.mean(axis=0)
    assert shrunk_covariance(centered) == pytest.approx(ledoit_wolf(centered, assume_centered=True)[0])


def test_the_spread_is_the_normal_one_and_0_for_constants_alone():
    rng = np.random.default_rng(1)
    values = np.column_stack([rng.normal(scale=3, size=20_000), np.maximum(rng.normal(size=20_000) - 1, 0)])
    found = spread(np.column_stack([values, np.full(20_000, 7.0)]))
    assert found[0] == pytest.approx(3, rel=0.03)
    assert found[1] > 0
    assert found[2] == 0


def test_the_center_leaves_a_cluster_out_and_its_distances_are_chi_squared():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(2000, 10)) @ rng.normal(size=(10, 10))
    clean = points.copy()
    points[:300] = points[:300] * 0.1 + 40
    found = concentrate(points, 0.75)
    assert not found.rows[:300].any()
    assert found.rows.sum() == 1500
    covariance = np.cov(clean.T)
    exact = (clean[300:] @ np.linalg.inv(covariance) * clean[300:]).sum(axis=1)
    assert np.corrcoef(found.squared[300:], exact)[0, 1] > 0.95
    assert np.median(found.squared) == pytest.approx(chi2.median(10))


def test_equal_rows_have_no_directions():
    found = concentrate(np.ones((20, 3)), 0.75)
    assert found.dimensions == 0
    assert not found.squared.any()


def test_missing_and_infinite_inputs_are_filled_by_column():
    case = make_case(Mahalanobis.__new__(Mahalanobis))
    values = np.array([[1, np.nan, np.nan], [3, np.inf, np.nan], [5, 2, np.nan], [np.nan, -np.inf, np.nan]], np.float32)
    case._kept["inputs"] = values.copy()
    object.__setattr__(case, "granted", frozenset({"inputs"}))
    assert points_of(case, "input", "x").tolist() == [[1, 2, 0], [3, 2, 0], [5, 2, 0], [3, 2, 0]]
    assert np.array_equal(case._kept["inputs"], values, equal_nan=True)


def test_a_series_is_summarized_over_its_hours():
    made = IsolationForest(IsolationForest.Options(space="input"), None)
    case = make_case(made, view=series_view(200))
    inputs = case.inputs.astype(float)
    expected = np.concatenate([inputs.mean(axis=1), inputs.min(axis=1), inputs.max(axis=1)], axis=1)
    assert points_of(case, "input", "x") == pytest.approx(expected)


def test_activations_that_are_not_finite_are_an_error(detect):
    activations = np.zeros((30, 4))
    activations[3, 2] = np.inf
    with pytest.raises(BackdoorError, match=r"detector mahalanobis.*1 of 30"):
        detect(Mahalanobis, activations, np.zeros(30, int), granted=frozenset({"labels", "embedding"}))
