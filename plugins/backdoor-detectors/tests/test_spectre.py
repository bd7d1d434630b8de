import numpy as np
import pytest
from scipy.linalg import expm, sqrtm
from sklearn.metrics import roc_auc_score

from backdoor_detectors import SpectralSignatures, Spectre
from backdoor_detectors.filtering import filtered_moments
from backdoor_detectors.spectre import entropy_weights


def hidden(rng, n=1500, width=30, poisoned=45, shift=7.0, direction=25):
    """Poison in a direction of little variance, far behind the first ones."""
    scale = np.geomspace(10, 0.5, width)
    activations = rng.normal(size=(n, width)) * scale
    truth = np.arange(n) < poisoned
    activations[truth, direction] += shift * scale[direction]
    return activations.astype(np.float32), np.zeros(n, int), truth


def test_poison_that_spectral_signatures_miss_is_found(detect):
    activations, labels, truth = hidden(np.random.default_rng(1))
    assert roc_auc_score(truth, detect(SpectralSignatures, activations, labels).scores) < 0.7
    result = detect(Spectre, activations, labels)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].all()
    assert result.flagged.sum() == 113  # 1.5 * 0.05 * 1500, rounded up


def test_more_than_two_dimensions_are_tried_as_in_the_paper(detect):
    # A known port tries 2 alone, and misses what lies behind the first two principal directions.
    activations, labels, truth = hidden(np.random.default_rng(2))
    facts = detect(Spectre, activations, labels).details["labels"]["0"]
    assert facts["tried"] == [1, 4, 9, 16, 25, 30]
    assert facts["dimensions"] >= 25
    assert roc_auc_score(truth, detect(Spectre, activations, labels, dimensions=2).scores) < 0.7
    wide = detect(Spectre, np.random.default_rng(3).normal(size=(500, 110)), np.zeros(500, int))
    assert wide.details["labels"]["0"]["tried"] == [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]


@pytest.mark.parametrize("alpha", [0.0, 4.0, 30.0])
def test_the_weights_equal_the_matrix_exponential(alpha):
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6))
    covariance = np.eye(6) + root @ root.T
    exact = expm(alpha * (covariance - np.eye(6)) / (np.linalg.norm(covariance, 2) - 1))
    assert entropy_weights(covariance, alpha) == pytest.approx(exact / np.trace(exact))
    assert entropy_weights(np.eye(3), alpha) == pytest.approx(np.eye(3) / 3)


def test_scores_equal_a_plain_restatement_where_the_filter_has_nothing_to_do(detect):
    rng = np.random.default_rng(5)
    activations = (rng.uniform(-1, 1, size=(200, 3)) * [3, 2, 1]).astype(np.float32)
    result = detect(Spectre, activations, np.zeros(200, int), budget=0.02)
    facts = result.details["labels"]["0"]
    assert facts["dropped_by_the_filter"] == 0
    centered = activations - activations.astype(float).mean(axis=0)
    whole = centered @ np.linalg.svd(centered, full_matrices=False)[2].T
    best = -np.inf, None
    for k in (1, 3):
        used = whole[:, :k]
        if k == 1:
            scores = used[:, 0] ** 2 / np.var(used)
        else:  # nothing dropped: the whitened rows have covariance I, all directions weigh the same
            white = used @ np.linalg.inv(sqrtm(np.cov(used.T, ddof=0)))
            scores = (white**2).sum(axis=1) / k
        kept = np.argsort(-scores)[6:]
        root = np.linalg.inv(sqrtm(np.cov(whole[kept].T, ddof=0)))
        seen = root @ np.cov(whole.T, ddof=0) @ root
        weights = expm(4 * (seen - np.eye(3)) / (np.linalg.norm(seen, 2) - 1))
        best = max(best, (np.trace(seen @ weights) / np.trace(weights), k, scores), key=lambda found: found[0])
    assert facts["excess"] == pytest.approx(best[0])
    assert facts["dimensions"] == best[1]
    assert result.scores == pytest.approx(best[2])


def test_the_filter_recovers_the_covariance_of_the_clean_rows():
    rng = np.random.default_rng(6)
    root = rng.normal(size=(8, 8))
    points = rng.normal(size=(2000, 8)) @ root
    clean = np.cov(points.T)
    points[:80] = points[:80] * 0.1 + 40 * rng.normal(size=8)
    unfiltered = np.linalg.norm(np.cov(points.T) - clean)
    mean, covariance, dropped = filtered_moments(points, 0.05)
    assert np.linalg.norm(covariance - clean) < 0.02 * unfiltered
    assert 80 <= dropped <= 200
    assert np.linalg.norm(mean) < 1


def test_the_filter_leaves_gaussian_rows_alone_and_never_takes_half():
    points = np.random.default_rng(7).normal(size=(3000, 20))
    assert filtered_moments(points, 0.01)[2] == 0
    heavy = np.random.default_rng(8).standard_t(2, size=(3000, 20))
    assert filtered_moments(heavy, 0.9)[2] <= 1500
    assert filtered_moments(np.repeat(heavy[:3, :1], 10, axis=0), 0.5)[2] <= 15


def test_rows_that_lie_far_out_go_together_even_past_the_limit():
    axes = np.eye(3)
    far = np.vstack([1e4 * axes, -1e4 * axes, 1e2 * axes, -1e2 * axes])  # six rows at a time
    points = np.vstack([np.random.default_rng(15).normal(size=(988, 3)), far])
    assert filtered_moments(points, 0.005)[2] == 12  # the limit is ten


def test_each_label_is_flagged_by_the_budget_6(detect):
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], [900, 100])
    result = detect(Spectre, rng.normal(size=(1000, 6)), labels)
    assert result.flagged[labels == 0].sum() == 75
    assert result.flagged[labels == 1].sum() == 50


def test_the_oracle_knows_the_rate_11(detect):
    activations, labels, truth = hidden(np.random.default_rng(10))
    granted = frozenset({"labels", "embedding", "truth"})
    result = detect(Spectre, activations, labels, truth=truth, granted=granted, oracle=True)
    assert result.flagged.sum() == 68  # 1.5 * 45
    clean = detect(Spectre, activations, labels, truth=np.zeros(1500, bool), granted=granted, oracle=True)
    assert not clean.flagged.any()


def test_the_oracle_of_a_clean_run_scores_as_any_other_run_does(detect):
    """Null runs have nothing poisoned: scores made by another method would calibrate nothing."""
    activations, labels, _ = hidden(np.random.default_rng(14))
    granted = frozenset({"labels", "embedding", "truth"})
    told = detect(Spectre, activations, labels, truth=np.zeros(1500, bool), granted=granted, oracle=True, budget=0.03)
    assert (told.scores == detect(Spectre, activations, labels, budget=0.03).scores).all()
    assert told.scores.any()
    assert not told.flagged.any()


def test_a_large_label_is_whitened_by_random_rows(detect):
    activations, labels, truth = hidden(np.random.default_rng(11))
    result = detect(Spectre, activations, labels, reference=500)
    assert result.details["labels"]["0"]["reference"] == 500
    assert roc_auc_score(truth, result.scores) > 0.99


def test_order_names_constants_and_duplicates_do_not_matter(detect):
    rng = np.random.default_rng(12)
    activations, _, _ = hidden(rng, n=600, width=12, direction=9, poisoned=20)
    labels = (np.arange(600) % 6 == 0).astype(int)
    scores = detect(Spectre, activations, labels).scores
    order = rng.permutation(600)
    assert detect(Spectre, activations[order], 1 - labels[order]).scores == pytest.approx(scores[order], rel=1e-6)
    padded = np.column_stack([activations, np.full(600, 7.0)])
    assert detect(Spectre, padded, labels).scores == pytest.approx(scores, rel=1e-6)
    twice = detect(Spectre, np.tile(activations, (2, 1)), np.tile(labels, 2)).scores
    assert twice[:600] == pytest.approx(twice[600:])


def test_a_neuron_that_only_the_poison_moves_is_found(detect):
    rng = np.random.default_rng(13)
    activations = rng.normal(size=(500, 6)) * [1, 1, 1, 1, 1, 0]
    activations[:10, 5] = 3 + 0.01 * np.arange(10)
    result = detect(Spectre, activations, np.zeros(500, int))
    assert roc_auc_score(np.arange(500) < 10, result.scores) > 0.99


def test_one_row_and_equal_rows_are_left_out(detect):
    result = detect(Spectre, np.ones((21, 3)), np.repeat([0, 1], [20, 1]))
    assert all(facts["skipped"] == "all activations are equal" for facts in result.details["labels"].values())
    assert not result.flagged.any()
