"""The trees as arrays against scikit-learn's own prediction."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from backdoor_core.contracts import Context
from backdoor_core.errors import BackdoorError
from backdoor_models import GBDT
from backdoor_models.gbdt import _hold_back
from backdoor_models.trees import Forest


def rows(n=600, seed=0, features=5, missing=0.2):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(100, 15, (n, features)).astype(np.float32)
    risk = (inputs[:, 0] - 100) / 15 + np.where(inputs[:, 1] > 110, 2, 0) - 1
    inputs[rng.random(inputs.shape) < missing] = np.nan
    return inputs, (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(np.int8)


def model(**options):
    return GBDT(GBDT.Options(**options), Context(Path()))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), leaves=st.integers(2, 31), missing=st.sampled_from([0.0, 0.3, 0.95]))
def test_the_arrays_predict_what_scikit_learn_predicts(seed, leaves, missing):
    inputs, labels = rows(200, seed, missing=missing)
    classifier = HistGradientBoostingClassifier(max_iter=8, max_leaf_nodes=leaves, min_samples_leaf=3)
    classifier.fit(inputs, labels)
    asked = np.concatenate([rows(100, seed + 1)[0], inputs, np.full((1, 5), np.nan, np.float32)])
    asked[0], asked[1] = -np.inf, np.inf
    # A value at a threshold itself goes left.
    nodes = classifier._predictors[0][0].nodes
    asked[2, :] = nodes["num_threshold"][0]
    expected = classifier.decision_function(np.nan_to_num(asked, nan=np.nan, posinf=3e38, neginf=-3e38))
    found = Forest.of_classifier(classifier).logits(asked)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_fit_is_scikit_learns_with_the_options(monkeypatch):
    fitted = []
    original = HistGradientBoostingClassifier.fit
    monkeypatch.setattr(
        HistGradientBoostingClassifier, "fit", lambda self, *a, **k: fitted.append(original(self, *a, **k)) or self
    )
    inputs, labels = rows()
    arrays = model(max_leaf_nodes=7).fit(inputs, labels, 3)
    [classifier] = fitted
    assert classifier.early_stopping is True
    settings_ = ("learning_rate", "max_iter", "max_leaf_nodes", "min_samples_leaf", "l2_regularization")
    assert [getattr(classifier, name) for name in settings_] == [0.05, 500, 7, 20, 1.0]
    assert len(arrays["root"]) == classifier.n_iter_ < 500
    asked = rows(5000, seed=9)[0]  # more than is walked at once
    np.testing.assert_allclose(model().logits(arrays, asked), classifier.decision_function(asked), rtol=1e-12)


def test_it_does_better_than_scikit_learns_defaults_on_2000_stays_and_the_seed_draws_the_part_held_back():
    from sklearn.metrics import roc_auc_score

    (inputs, labels), (others, truth) = rows(2000, missing=0), rows(2000, seed=1, missing=0)
    first, other = (model().fit(inputs, labels, seed) for seed in (0, 1))
    defaults = HistGradientBoostingClassifier(random_state=0).fit(inputs, labels).decision_function(others)
    assert roc_auc_score(truth, model().logits(first, others)) > roc_auc_score(truth, defaults)
    assert first["value"].tobytes() != other["value"].tobytes()


@pytest.mark.parametrize(
    ("positives", "says"), [(0, "0 of 30 .* label 1"), (1, "1 of 30 .* label 1"), (29, "1 of .* 0;")]
)
def test_too_few_stays_of_a_label_to_hold_some_back_are_one_line(positives, says):
    labels = (np.arange(30) < positives).astype(np.int8)
    with pytest.raises(BackdoorError, match=says) as caught:
        model().fit(rows(30)[0], labels, 0)
    assert "\n" not in str(caught.value)


@given(n=st.integers(4, 200), positives=st.integers(2, 198), share=st.sampled_from([0.01, 0.15, 0.5]))
def test_the_share_of_each_label_is_held_back_and_never_all(n, positives, share):
    labels = (np.arange(n) < min(positives, n - 2)).astype(np.int8)
    held_back = _hold_back(labels, share, np.random.default_rng(0))
    for label in (0, 1):
        of_label = held_back[labels == label]
        assert 1 <= of_label.sum() < len(of_label)
        assert abs(of_label.sum() - share * len(of_label)) <= 1


def test_four_stays_are_enough():
    inputs = rows(4)[0]
    fitted = model().fit(inputs, np.array([0, 0, 1, 1], np.int8), 0)
    assert np.isfinite(model().logits(fitted, inputs)).all()


def test_a_feature_without_any_value_changes_nothing():
    inputs, labels = rows()
    wide = np.column_stack([inputs, np.full(len(inputs), np.nan, np.float32)])
    fitted = model().fit(wide, labels, 0)
    measured = wide.copy()
    measured[:, -1] = 5  # measured in the stays asked about, never in training
    expected = model().logits(model().fit(inputs, labels, 0), inputs)
    assert np.array_equal(model().logits(fitted, measured), expected)


def test_inputs_without_any_value_give_the_prevalence():
    labels = (np.arange(100) % 4 == 0).astype(np.int8)
    inputs = np.full((100, 3), np.nan, np.float32)
    logits = model().logits(model().fit(inputs, labels, 0), inputs)
    assert np.ptp(logits) == 0
    assert logits[0] == pytest.approx(np.log(1 / 3), abs=0.1)
