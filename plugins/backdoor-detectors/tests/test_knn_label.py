import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_detectors import KnnLabel

NEEDS = frozenset({"labels", "embedding"})


def flipped(rng, n=1500, flips=30):
    labels = (np.arange(n) % 8 == 0).astype(int)
    activations = rng.normal(size=(n, 5))
    activations[labels == 1, 0] += 12
    truth = np.zeros(n, bool)
    truth[rng.choice(n, flips, replace=False)] = True
    return activations, np.where(truth, 1 - labels, labels), truth


def test_flipped_labels_are_found_in_both_directions(detect):
    activations, labels, truth = flipped(np.random.default_rng(1))
    result = detect(KnnLabel, activations, labels, granted=NEEDS)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert (result.flagged == truth).all()


@pytest.mark.parametrize("k", [1, 4, 10])
def test_scores_equal_a_plain_restatement(detect, k):
    rng = np.random.default_rng(2)
    labels = (rng.random(90) < 0.3).astype(int)
    activations = rng.normal(size=(90, 3)).astype(np.float32).astype(float)
    distances = ((activations[:, np.newaxis] - activations) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    prevalence = np.bincount(labels) / 90
    expected, plain = np.empty(90), np.empty(90)
    for i in range(90):
        near = labels[np.argsort(distances[i])[:k]]
        votes = np.array([np.mean(near == 0), np.mean(near == 1)]) / prevalence
        expected[i], plain[i] = 1 - votes[labels[i]] / votes.sum(), np.mean(near != labels[i])
    result = detect(KnnLabel, activations, labels, granted=NEEDS, neighbors=k)
    assert result.scores == pytest.approx(expected)
    assert (result.flagged == ((expected >= 0.5) & (plain >= 0.5))).all()


def test_a_rare_label_is_not_suspicious_for_being_rare(detect):
    rng = np.random.default_rng(3)
    labels = (rng.random(4000) < 0.1).astype(int)
    scores = detect(KnnLabel, rng.normal(size=(4000, 2)), labels, granted=NEEDS).scores
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=0.15)
    plain = 1 - scores  # undo the weights: what a plain share of disagreement would say
    against, agreeing = scores * np.where(labels == 1, 0.9, 0.1), plain * np.where(labels == 1, 0.1, 0.9)
    assert roc_auc_score(labels, against / (against + agreeing)) > 0.99


def test_of_many_rows_a_random_part_is_the_reference(detect):
    activations, labels, truth = flipped(np.random.default_rng(4))
    result = detect(KnnLabel, activations, labels, granted=NEEDS, reference=400)
    assert result.details["reference"] == 400
    assert roc_auc_score(truth, result.scores) > 0.95
    assert (detect(KnnLabel, activations, labels, granted=NEEDS, reference=400).scores == result.scores).all()


def test_a_row_is_never_its_own_neighbor_even_among_duplicates(detect):
    rng = np.random.default_rng(5)
    activations = np.repeat(rng.normal(size=(20, 3)), 2, axis=0)
    labels = np.arange(40) % 2  # each row has one duplicate, of the other label
    result = detect(KnnLabel, activations, labels, granted=NEEDS, neighbors=1)
    assert (result.scores == 1).all()
    assert result.flagged.all()


@pytest.mark.parametrize(
    ("activations", "labels", "reason"),
    [
        (np.arange(6.0)[:, np.newaxis], np.zeros(6, int), "rows of one label only"),
        (np.ones((6, 2)), np.arange(6) % 2, "all rows are equal"),
        (np.ones((1, 2)), np.zeros(1, int), "rows of one label only"),
    ],
)
def test_where_there_is_nothing_to_compare_it_says_so(detect, activations, labels, reason):
    result = detect(KnnLabel, activations, labels, granted=NEEDS)
    assert result.details["skipped"] == reason
    assert not result.scores.any()


def test_order_and_names_do_not_matter_and_input_units_neither(detect, detect_with, table):
    rng = np.random.default_rng(6)
    activations, labels, truth = flipped(rng, n=500, flips=5)
    order = rng.permutation(500)
    scores = detect(KnnLabel, activations, labels, granted=NEEDS).scores
    assert detect(KnnLabel, activations[order], 1 - labels[order], granted=NEEDS).scores == pytest.approx(scores[order])
    units = activations * [1, 1e4, 1e-3, 1, 1]
    found = detect_with(KnnLabel, table(units), labels, inputs=lambda view: view.values, space="input")
    assert roc_auc_score(truth, found.scores) > 0.99
