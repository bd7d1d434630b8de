import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.cluster import KMeans

from backdoor_detectors.two_means import best_cut, two_means


def inertia(points, clusters):
    return sum(((points[clusters == k] - points[clusters == k].mean(axis=0)) ** 2).sum() for k in np.unique(clusters))


@pytest.mark.parametrize("seed", range(5))
def test_no_partition_of_the_library_is_better(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(700, 6)) * rng.uniform(0.5, 3, 6)
    points[: 70 * seed, 1] += 9
    ours = two_means(points, points, seed)
    theirs = KMeans(2, n_init=20, random_state=seed).fit(points)
    assert inertia(points, ours) <= theirs.inertia_ * (1 + 2e-3)
    if seed:
        agree = (ours == theirs.labels_).mean()
        assert max(agree, 1 - agree) > 0.99  # both stop when the centers hardly move


def test_all_rows_go_on_from_the_centers_of_a_sample():
    rng = np.random.default_rng(7)
    points = rng.normal(size=(12_000, 5))
    points[:4000, 2] += 3  # they overlap, so that the border depends on all rows
    clusters = two_means(points, points, 0)
    centers = np.stack([points[clusters == k].mean(axis=0) for k in (0, 1)])
    fit = KMeans(2, init=centers, n_init=1, tol=0).fit(points)
    assert (fit.labels_ == clusters).mean() > 0.995
    assert inertia(points, clusters) <= fit.inertia_ * (1 + 1e-4)
    again = two_means(points, points, 1)  # another sample comes to the same partition
    agree = (again == clusters).mean()
    assert max(agree, 1 - agree) > 0.99


def test_rows_that_a_sample_misses_are_parted_all_the_same():
    points = np.zeros((9000, 2))
    points[4321] = 5
    clusters = two_means(points, points, 0)
    assert np.bincount(clusters, minlength=2).min() == 1
    assert clusters[4321] != clusters[0]


def test_without_any_variation_there_is_one_cluster():
    assert not two_means(np.ones((30, 2)), np.zeros((30, 1)), 0).any()
    assert not two_means(np.ones((6000, 2)), np.zeros((6000, 0)), 0, random_starts=0).any()


def test_a_cut_leaves_equal_values_on_one_side():
    values = np.array([0.0, 0, 0, 4, 4, 5])
    assert best_cut(values) == 0
    assert best_cut(np.array([1.0, 2])) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-15, 1e-7, 1.0, 1 + 2**-50, 3.0, 1e8]), min_size=1, max_size=40),
    st.sampled_from([0.0, 1.0, 1e6, -1e12]),
)
def test_values_that_rounding_cannot_tell_apart_are_no_error(values, offset):
    points = np.array(values)[:, np.newaxis] + offset
    clusters = two_means(points, points - points.mean(), 0)
    assert set(clusters) <= {0, 1}
    if np.ptp(points) > 1e-3:
        assert len(set(clusters)) == 2
