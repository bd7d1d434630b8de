import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss as sklearn_log_loss, roc_auc_score

from backdoor_core.contracts import Checkpoint
from backdoor_core.errors import BackdoorError
from backdoor_detectors.loss_isolation import LossIsolation, early_checkpoints, highest, log_loss


def checkpoints(*epochs_and_logits):
    return [Checkpoint(e, 1e-3, np.asarray(x, float), np.zeros((len(x), 1), np.float32)) for e, x in epochs_and_logits]


def imbalanced(rng, n=4000, poisoned=20):
    """One in ten has label 1; poison among them is learned at once."""
    labels = (np.arange(n) % 10 == 0).astype(int)
    truth = np.zeros(n, bool)
    truth[np.flatnonzero(labels)[:poisoned]] = True
    logits = np.where(labels == 1, 0.0, -3.0) + rng.normal(size=n)
    logits[truth] = 4 + 0.1 * rng.normal(size=poisoned)
    return labels, truth, logits


def test_the_log_loss_is_that_of_sklearn():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(scale=4, size=40), rng.integers(0, 2, 40)
    expected = [sklearn_log_loss([y], [expit(x)], labels=[0, 1]) for x, y in zip(logits, labels, strict=True)]
    assert np.exp(log_loss(logits, labels)) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_log_loss_is_finite_and_falls_with_the_margin(first, second):
    found = log_loss(np.array([first, second]), np.ones(2, int))
    assert np.isfinite(found).all()
    if first < second:
        assert found[0] >= found[1]


def test_scores_equal_a_plain_restatement(detect_with, table):
    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 2, 51), rng.normal(size=(3, 51))
    states = checkpoints((1, logits[0]), (2, logits[1]), (10, logits[2]))
    result = detect_with(LossIsolation, table(np.zeros((51, 1))), labels, checkpoints=lambda _: states)
    expected = np.zeros(51)
    for row in range(51):
        for x in logits[:2]:  # 20% of ten epochs
            losses = np.log1p(np.exp(np.where(labels == 1, -x, x)))
            expected[row] += np.log(np.median(losses[labels == labels[row]]) / losses[row]) / 2
    # The median of logarithms differs from the logarithm of the median where it is between two rows.
    for label in (0, 1):
        own = labels == label
        assert np.ptp(result.scores[own] - expected[own]) < 1e-9
        assert result.scores[own] == pytest.approx(expected[own], abs=0.02)
    assert result.details["epochs"] == [1, 2]


def test_what_is_learned_at_once_ranks_first_in_a_rare_label_2(detect_with, table):
    labels, truth, logits = imbalanced(np.random.default_rng(3))
    view = table(np.zeros((len(labels), 1)))
    result = detect_with(LossIsolation, view, labels, checkpoints=lambda _: checkpoints((1, logits)))
    assert roc_auc_score(truth, result.scores) > 0.99
    # The loss alone finds the common label instead.
    assert roc_auc_score(truth, -log_loss(logits, labels)) < 0.9


def test_the_rule_isolates_one_percent_of_the_whole_part(detect_with, table):
    labels, _, logits = imbalanced(np.random.default_rng(4))
    view = table(np.zeros((len(labels), 1)))
    result = detect_with(LossIsolation, view, labels, checkpoints=lambda _: checkpoints((1, logits)))
    assert result.flagged.sum() == 40
    assert set(np.flatnonzero(result.flagged)) == set(np.argsort(-result.scores)[:40])
    assert sum(result.details["flagged"].values()) == 40


def test_early_is_a_share_of_the_last_kept_epoch_and_not_of_all_epochs():
    """Of 20 epochs those of 1, 2, 4, 8 and 16 are kept."""
    states = checkpoints(*((epoch, [0.0]) for epoch in (1, 2, 4, 8, 16)))
    assert [state.epoch for state in early_checkpoints(states, 0.2)] == [1, 2]
    assert "last one kept" in LossIsolation.Options.model_fields["early"].description


@pytest.mark.parametrize(
    ("early", "used"), [(0.01, [1]), (0.2, [1, 2, 3]), (0.5, [1, 2, 3, 8]), (1.0, [1, 2, 3, 8, 16])]
)
def test_early_is_a_share_of_the_last_epoch(early, used):
    states = checkpoints(*((epoch, [0.0]) for epoch in (1, 2, 3, 8, 16)))
    assert [state.epoch for state in early_checkpoints(states, early)] == used


def test_ties_at_the_edge_are_left_out():
    assert list(highest(np.array([3.0, 1.0, 2.0, 2.0]), 2)) == [True, False, False, False]
    assert list(highest(np.array([3.0, 1.0, 2.0, 2.0]), 3)) == [True, False, True, True]
    assert not highest(np.ones(5), 2).any()
    assert not highest(np.arange(5.0), 0).any()
    assert highest(np.arange(3.0), 3).all()


def test_names_of_labels_do_not_matter(detect_with, table):
    labels, _, logits = imbalanced(np.random.default_rng(5))
    view = table(np.zeros((len(labels), 1)))
    straight = detect_with(LossIsolation, view, labels, checkpoints=lambda _: checkpoints((1, logits)))
    renamed = detect_with(LossIsolation, view, 1 - labels, checkpoints=lambda _: checkpoints((1, -logits)))
    assert (straight.scores == renamed.scores).all()
    assert (straight.flagged == renamed.flagged).all()


def test_a_training_that_diverged_is_an_error_of_the_user(detect_with, table):
    states = checkpoints((2, [0.0, np.nan]))
    with pytest.raises(BackdoorError, match=r"loss_isolation.*epoch 2"):
        detect_with(LossIsolation, table(np.zeros((2, 1))), [0, 1], checkpoints=lambda _: states)
