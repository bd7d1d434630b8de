import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from backdoor_core.testing.detectors import MadeVictim
from backdoor_detectors import Mahalanobis

NEEDS = frozenset({"labels", "embedding"})


def restated(points, support):
    """Concentration steps in plain numpy, for points without constant columns."""
    median = np.median(points, axis=0)
    mad = 1.4826 * np.median(np.abs(points - median), axis=0)
    scaled = (points - median) / mad
    squared = np.array([row @ row for row in scaled])
    for _ in range(20):
        rows = np.argsort(squared)[: int(np.ceil(support * len(points)))]
        location = scaled[rows].mean(axis=0)
        inverse = np.linalg.inv(ledoit_wolf(scaled[rows] - location, assume_centered=True)[0])
        squared = np.array([(row - location) @ inverse @ (row - location) for row in scaled])
    return squared * chi2.median(points.shape[1]) / np.median(squared)


def test_scores_equal_a_plain_restatement(detect):
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [80, 50])
    activations = (rng.normal(size=(130, 4)) @ rng.normal(size=(4, 4)) + 9 * labels[:, np.newaxis]).astype(np.float32)
    activations[:6] += 8
    result = detect(Mahalanobis, activations, labels, granted=NEEDS)
    for label in (0, 1):
        squared = restated(activations[labels == label].astype(float), 0.75)
        assert result.scores[labels == label] == pytest.approx(squared / 4, rel=1e-6)
        assert (result.flagged[labels == label] == (squared > chi2.ppf(0.975, 4))).all()


def test_a_shift_is_found_as_well_as_theory_allows(detect):
    # Squared distances are chi-squared, of the poison noncentral: the best any distance from the center can do.
    rng = np.random.default_rng(2)
    truth = np.arange(6000) < 300
    activations = rng.normal(size=(6000, 10)) * np.geomspace(0.1, 10, 10)
    activations[truth, 0] += 0.1 * 4
    score = detect(Mahalanobis, activations, np.zeros(6000, int), granted=NEEDS).scores
    squared = ((activations / np.geomspace(0.1, 10, 10)) ** 2).sum(axis=1)
    assert roc_auc_score(truth, score) == pytest.approx(roc_auc_score(truth, squared), abs=0.01)


def test_a_large_tight_cluster_does_not_mask_itself(detect):
    rng = np.random.default_rng(3)
    truth = np.arange(1000) < 200
    activations = rng.normal(size=(1000, 20))
    activations[truth] = activations[truth] * 0.1 + 4
    result = detect(Mahalanobis, activations, np.zeros(1000, int), granted=NEEDS)
    assert roc_auc_score(truth, result.scores) > 0.99
    centered = activations - activations.mean(axis=0)
    classical = (centered @ np.linalg.inv(np.cov(centered.T)) * centered).sum(axis=1)
    assert roc_auc_score(truth, classical) < 0.6


def test_normal_rows_are_flagged_at_the_nominal_rate(detect):
    activations = np.random.default_rng(4).normal(size=(5000, 6))
    flagged = detect(Mahalanobis, activations, np.zeros(5000, int), granted=NEEDS).flagged
    assert flagged.mean() == pytest.approx(0.025, abs=0.008)


def test_labels_are_judged_apart_2(detect):
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 500)
    activations = rng.normal(size=(1000, 5))
    activations[500:, 0] += 20
    activations[500:530, 0] -= 20
    truth = (np.arange(1000) >= 500) & (np.arange(1000) < 530)
    assert roc_auc_score(truth, detect(Mahalanobis, activations, labels, granted=NEEDS).scores) > 0.99


def test_what_it_needs_follows_the_space_and_missing_inputs_do_no_harm(detect_with, table):
    values = np.random.default_rng(6).normal(size=(300, 4))
    values[:10, 0] += 30
    values[50:80, 1] = np.nan
    view = table(values)
    victim = MadeVictim(view, np.zeros((300, 1), np.float32), view)
    victim.inputs = lambda view: view.values
    result = detect_with(Mahalanobis, view, np.zeros(300, int), victim=victim, space="input")
    assert result.flagged[:10].all()
    assert result.scores[50:80].max() < result.scores[:10].min()


def test_few_and_equal_rows_are_left_out_by_name(detect):
    labels = np.repeat([0, 1], [50, 9])
    activations = np.random.default_rng(7).normal(size=(59, 3))
    result = detect(Mahalanobis, activations, labels, granted=NEEDS)
    assert result.details["labels"]["1"] == {"rows": 9, "skipped": "fewer than 10 rows"}
    assert not result.scores[50:].any()
    equal = detect(Mahalanobis, np.ones((59, 3)), labels, granted=NEEDS)
    assert equal.details["labels"]["0"]["skipped"] == "all rows are equal"


def test_duplicates_constants_order_and_names_do_not_matter(detect):
    rng = np.random.default_rng(8)
    activations, labels = rng.normal(size=(400, 5)), (rng.random(400) < 0.3).astype(int)
    scores = detect(Mahalanobis, activations, labels, granted=NEEDS).scores
    order = rng.permutation(400)
    assert detect(Mahalanobis, activations[order], 1 - labels[order], granted=NEEDS).scores == pytest.approx(
        scores[order]
    )
    padded = np.column_stack([activations, np.full(400, 3.3)])
    assert detect(Mahalanobis, padded, labels, granted=NEEDS).scores == pytest.approx(scores)
    mostly = np.where(np.arange(400)[:, np.newaxis] < 30, activations, 1.0)
    assert np.isfinite(detect(Mahalanobis, mostly, labels, granted=NEEDS).scores).all()
