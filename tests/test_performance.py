import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from backdoor_core.learning.performance import FIGURES, auroc_change, performance, reliability, wilson_interval
from backdoor_core.statistics import cluster_bootstrap_weights, expected_calibration_error


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(5)
    truth = rng.random(300) < 0.3
    weights = cluster_bootstrap_weights(np.arange(300), 150, rng, strata=truth.astype(int))
    return truth, np.clip(rng.random(300) + 0.2 * truth, 0, 1), rng.random(300).round(1), weights


def test_only_the_figures_that_are_asked_for(sample):
    truth, probability, _, weights = sample
    assert tuple(performance(probability, truth, 0.5, weights)) == FIGURES
    some = performance(probability, truth, 0.5, weights, ("brier",))
    assert some == {"brier": performance(probability, truth, 0.5, weights)["brier"]}


def test_the_change_of_auroc_is_paired(sample):
    truth, model, twin, weights = sample
    found = auroc_change(model, twin, truth, weights)
    assert found.value == pytest.approx(roc_auc_score(truth, model) - roc_auc_score(truth, twin))
    resampled = [
        roc_auc_score(truth, model, sample_weight=w) - roc_auc_score(truth, twin, sample_weight=w) for w in weights
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))
    same = auroc_change(model, model, truth, weights)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("which", [1, 2])
def test_reliability_adds_up_to_the_calibration_error(sample, which):
    truth, probability = sample[0], sample[which]  # the second has ties, so that bins differ in size
    bins = reliability(probability, truth)
    stays = np.array([b["stays"] for b in bins])
    gaps = np.array([abs(b["mean"] - b["rate"]) for b in bins])
    assert stays.sum() == 300
    assert sum(b["positives"] for b in bins) == truth.sum()
    assert stays @ gaps / 300 == pytest.approx(expected_calibration_error(probability, truth))
    assert [b["mean"] for b in bins] == sorted(b["mean"] for b in bins)
    assert all(b["low"] <= b["rate"] <= b["high"] for b in bins)


def test_equal_probabilities_share_one_bin():
    (only,) = reliability(np.full(6, 0.2), np.arange(6) < 1)
    assert (only["stays"], only["positives"]) == (6, 1)
    assert (only["mean"], only["rate"]) == pytest.approx((0.2, 1 / 6))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(pair):
    positives, stays = pair
    expected = binomtest(positives, stays).proportion_ci(method="wilson")
    assert wilson_interval(positives, stays) == pytest.approx((expected.low, expected.high), abs=1e-9)
