import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as Peer
from sklearn.metrics import roc_auc_score

from backdoor_detectors import IsolationForest

NEEDS = frozenset({"labels", "embedding"})


def scattered(rng, n=600):
    labels = (np.arange(n) % 5 == 0).astype(int)
    activations = rng.normal(size=(n, 4))
    activations[labels == 1, 0] += 15
    truth = np.arange(n) % 50 == 0
    activations[truth] += rng.normal(size=(truth.sum(), 4)) * 12
    return activations.astype(np.float32), labels, truth


def test_scattered_outliers_of_each_label_are_found(detect):
    activations, labels, truth = scattered(np.random.default_rng(1))
    activations[truth, 0] = 0  # where label 0 is
    result = detect(IsolationForest, activations, labels, granted=NEEDS)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].mean() > 0.8


def test_scores_and_flags_are_those_of_the_library_on_each_label(detect):
    activations, labels, _ = scattered(np.random.default_rng(2))
    result = detect(IsolationForest, activations, labels, granted=NEEDS, trees=20, seed=5)
    seed = int(np.random.default_rng(5).integers(2**31 - 1))
    for label in (0, 1):
        own = activations[labels == label].astype(float)
        peer = Peer(n_estimators=20, max_samples=min(256, len(own)), random_state=seed).fit(own)
        assert result.scores[labels == label] == pytest.approx(-peer.score_samples(own))
        assert (result.flagged[labels == label] == (peer.predict(own) == -1)).all()


def test_equal_rows_and_one_row_are_left_out(detect):
    labels = np.repeat([0, 1], [30, 1])
    result = detect(IsolationForest, np.ones((31, 3)), labels, granted=NEEDS)
    assert not result.scores.any()
    assert all(facts["skipped"] == "all rows are equal" for facts in result.details["labels"].values())


def test_names_of_labels_do_not_matter(detect):
    activations, labels, _ = scattered(np.random.default_rng(3), n=300)
    straight = detect(IsolationForest, activations, labels, granted=NEEDS, trees=20)
    assert (detect(IsolationForest, activations, 1 - labels, granted=NEEDS, trees=20).scores == straight.scores).all()
