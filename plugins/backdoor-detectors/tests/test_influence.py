import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Checkpoint
from backdoor_core.errors import BackdoorError
from backdoor_detectors.influence import Influence, influence_on_others, probability, self_influence


def made_checkpoints(rng, rows, width=5):
    return [
        Checkpoint(epoch, rate, rng.normal(size=rows), rng.normal(size=(rows, width)).astype(np.float32))
        for epoch, rate in ((1, 0.1), (2, 0.05), (4, 0.01))
    ]


def gradients(checkpoint, labels):
    """(N, D + 1) of each row's loss by the weights and the bias of the last layer."""
    h = np.column_stack([checkpoint.embedding.astype(float), np.ones(len(labels))])
    return (expit(checkpoint.logits) - labels)[:, None] * h


def test_the_gradient_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    h, y = rng.normal(size=(6, 4)), np.array([0, 1, 1, 0, 1, 0])
    layer = torch.nn.Linear(4, 1).double()
    logits = layer(torch.from_numpy(h))[:, 0]
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(y * 1.0), reduction="none")
    parts = [torch.autograd.grad(loss, layer.parameters(), retain_graph=True) for loss in losses]
    expected = [float((w**2).sum() + (b**2).sum()) for w, b in parts]
    residuals = probability(logits.detach().numpy()) - y
    assert self_influence(residuals, h) == pytest.approx(expected, rel=1e-9)


def test_self_influence_equals_the_papers_sum(detect_with, table):
    rng = np.random.default_rng(2)
    labels, states = rng.integers(0, 2, 40), made_checkpoints(rng, 40)
    result = detect_with(Influence, table(np.zeros((40, 1))), labels, checkpoints=lambda _: states)
    expected = sum(s.learning_rate * (gradients(s, labels) ** 2).sum(axis=1) for s in states)
    assert result.scores == pytest.approx(expected, rel=1e-9)
    assert result.details["epochs"] == [1, 2, 4]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 2))
def test_influence_on_others_equals_the_mean_over_all_pairs(seed, rows, kinds):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(kinds, 1), rows)
    state = made_checkpoints(rng, rows)[0]
    g = gradients(state, labels)
    expected = []
    for row in range(rows):
        means = []
        for label in np.unique(labels):
            others = [k for k in range(rows) if labels[k] == label and k != row]
            if others:
                means.append(np.mean([g[row] @ g[k] for k in others]))
        expected.append(np.mean(means) if means else 0.0)
    residuals = probability(state.logits) - labels
    assert influence_on_others(residuals, state.embedding, labels) == pytest.approx(expected, abs=1e-9)


def test_opponents_are_minus_the_influence_less_the_labels_median(detect_with, table):
    rng = np.random.default_rng(3)
    labels, states = np.arange(31) % 2, made_checkpoints(rng, 31)
    view = table(np.zeros((31, 1)))
    result = detect_with(Influence, view, labels, score="opponents", checkpoints=lambda _: states)
    raw = sum(
        -s.learning_rate * influence_on_others(probability(s.logits) - labels, s.embedding, labels) for s in states
    )
    for label in (0, 1):
        own = labels == label
        assert result.scores[own] == pytest.approx(raw[own] - np.median(raw[own]), abs=1e-12)


@pytest.mark.parametrize("score", ["self", "opponents"])
def test_mislabeled_rows_rank_first(detect_with, table, score):
    rng = np.random.default_rng(4)
    side = np.arange(1000) % 2
    truth = np.arange(1000) < 20
    labels = np.where(truth, 1 - side, side)
    h = rng.normal(scale=0.3, size=(1000, 6)) + np.where(side == 1, 2, -2)[:, None]
    states = [Checkpoint(1, 1e-3, h.sum(axis=1) / 4, h.astype(np.float32))]
    result = detect_with(Influence, table(np.zeros((1000, 1))), labels, score=score, checkpoints=lambda _: states)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].mean() > 0.95
    assert result.flagged[~truth].mean() < 0.1


def test_batches_do_not_matter_9(monkeypatch):
    rng = np.random.default_rng(5)
    labels, state = rng.integers(0, 2, 50), made_checkpoints(rng, 50)[0]
    residuals = probability(state.logits) - labels
    whole = influence_on_others(residuals, state.embedding, labels)
    monkeypatch.setattr("backdoor_detectors.influence._ROWS_AT_ONCE", 7)
    assert influence_on_others(residuals, state.embedding, labels) == pytest.approx(whole, rel=1e-12, abs=1e-15)


def test_certain_predictions_have_no_influence_and_are_no_error(detect_with, table):
    states = [Checkpoint(1, 1e-3, np.array([-900.0, 900.0, 0.0]), np.ones((3, 2), np.float32))]
    result = detect_with(Influence, table(np.zeros((3, 1))), [0, 1, 1], checkpoints=lambda _: states)
    assert list(result.scores) == pytest.approx([0, 0, 1e-3 * 0.25 * 3])


def test_a_training_that_diverged_is_an_error_of_the_user(detect_with, table):
    states = [Checkpoint(4, 1e-3, np.zeros(2), np.full((2, 3), np.inf, np.float32))]
    with pytest.raises(BackdoorError, match=r"influence.*epoch 4"):
        detect_with(Influence, table(np.zeros((2, 1))), [0, 1], checkpoints=lambda _: states)
