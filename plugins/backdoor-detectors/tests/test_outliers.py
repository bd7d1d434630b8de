import numpy as np
import pytest
from scipy import stats

from backdoor_detectors.outliers import high_outliers


def test_the_cut_is_that_of_scipys_median_absolute_deviation():
    rng = np.random.default_rng(1)
    scores, labels = rng.gamma(2, size=500), rng.integers(0, 2, 500)
    flagged, facts = high_outliers(scores, labels, 2.0)
    for label in (0, 1):
        own = scores[labels == label]
        cut = np.median(own) + 2 * stats.median_abs_deviation(own, scale="normal")
        assert facts[str(label)]["cut"] == pytest.approx(cut, rel=1e-4)
        assert (flagged[labels == label] == (own > cut)).all()
        assert facts[str(label)]["flagged"] == (own > cut).sum() > 0


def test_of_normal_scores_one_in_a_thousand_is_above_three_deviations():
    scores = np.random.default_rng(2).normal(size=200_000)
    flagged, _ = high_outliers(scores, np.zeros(200_000, int), 3.0)
    assert flagged.mean() == pytest.approx(stats.norm.sf(3), rel=0.2)


def test_labels_are_judged_apart_2():
    scores = np.concatenate([np.linspace(0, 1, 50), np.linspace(100, 101, 50)])
    assert not high_outliers(scores, np.repeat([0, 1], 50), 3.0)[0].any()


def test_without_spread_nothing_is_flagged_6():
    scores = np.array([1.0, 1.0, 1.0, 1.0, 50.0])
    flagged, facts = high_outliers(scores, np.zeros(5, int), 3.0)
    assert not flagged.any()
    assert "equal" in facts["0"]["skipped"]
