from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Context
from backdoor_core.statistics import false_positive_rate, recall
from backdoor_detectors import SpectralSignatures


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(4, 40), st.integers(1, 12))
def test_scores_equal_the_singular_value_decomposition(detect, seed, rows, width):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    activations = (rng.normal(size=(rows, width)) * np.geomspace(1, 20, width) + 3).astype(np.float32)
    scores = detect(SpectralSignatures, activations, labels).scores
    for label in np.unique(labels):
        own = activations[labels == label].astype(float)
        centered = own - own.mean(axis=0)
        _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
        # Rows that differ by less than float32 resolves count as equal; at that limit either may be said.
        resolution = np.finfo(np.float32).eps * np.abs(own).max() * np.sqrt(len(own))
        if sizes[0] < 0.99 * resolution:
            assert not scores[labels == label].any()
            continue
        if sizes[0] < 1.01 * resolution:
            continue
        if len(sizes) > 1 and sizes[1] > 0.99 * sizes[0]:
            continue  # two directions of the same variance: either answer is right
        expected = (centered @ directions[0]) ** 2
        assert scores[labels == label] == pytest.approx(expected, rel=1e-6, abs=1e-6 * sizes[0] ** 2)


def test_rows_that_differ_by_less_than_float32_resolves_count_as_equal(detect):
    labels = np.array([0, 0, 1, 1])
    activations = np.array([[8.0], [np.nextafter(np.float32(8), np.float32(9))], [1.0], [2.0]], np.float32)
    result = detect(SpectralSignatures, activations, labels)
    assert list(result.scores) == [0, 0, 0.25, 0.25]
    assert result.details["labels"]["0"]["skipped"] == "all activations are equal"


def test_the_oracle_removes_by_the_true_rate_and_declares_it_11(detect):
    rng = np.random.default_rng(33)
    truth = np.arange(400) < 8
    asked = {"truth": truth, "granted": frozenset({"labels", "embedding", "truth"}), "oracle": True}
    labels = np.zeros(400, int)
    assert detect(SpectralSignatures, rng.normal(size=(400, 3)), labels, **asked).flagged.sum() == 12
    nothing = detect(SpectralSignatures, rng.normal(size=(400, 3)), labels, **(asked | {"truth": np.zeros(400, bool)}))
    assert not nothing.flagged.any()
    assert detect(SpectralSignatures, rng.normal(size=(400, 3)), labels).flagged.sum() == 30
    made = SpectralSignatures(SpectralSignatures.Options(oracle=True), Context(Path()))
    assert made.requires == {"labels", "embedding", "truth"}
    assert SpectralSignatures.requires == {"labels", "embedding"}


def test_activations_are_centered_4(detect):
    # The mean lies along the first axis, and the poison a little nearer to 0 on it: uncentered, it ranks last.
    rng = np.random.default_rng(30)
    truth = np.arange(1000) < 50
    activations = rng.normal(scale=0.1, size=(1000, 8))
    activations[:, 0] += np.where(truth, 9, 10)
    activations[:, 1] += np.where(truth, 3, 0)
    top = np.linalg.svd(activations, full_matrices=False)[2][0]
    assert roc_auc_score(truth, (activations @ top) ** 2) < 0.01
    assert roc_auc_score(truth, detect(SpectralSignatures, activations, np.zeros(1000, int)).scores) > 0.99


def test_the_budget_is_of_the_whole_training_part_5(detect):
    # 5% of 2,000 rows are poisoned, and they are half of the rare label: 7.5% of that label would be 15 rows.
    rng = np.random.default_rng(31)
    labels = np.repeat([0, 1], [1800, 200])
    truth = np.arange(2000) >= 1900
    activations = rng.normal(size=(2000, 8))
    activations[truth, 0] += 3
    activations[truth] *= 3  # equal halves lie symmetrically about their mean, unless one is farther out
    result = detect(SpectralSignatures, activations, labels)
    assert result.details["budget_rows"] == 150
    assert result.flagged[labels == 0].sum() == 150
    assert result.flagged[labels == 1].sum() == 100  # capped at half of the label
    assert result.flagged[truth].sum() > 15
    assert false_positive_rate(result.flagged, truth) > 0.07  # in every label, poison or none


@pytest.mark.parametrize(
    ("rows", "budget", "removed"), [(40, 0.05, 3), (41, 0.05, 4), (100, 0.01, 2), (100, 1.0, 50), (10, 0.0001, 1)]
)
def test_the_budget_is_rounded_up_but_not_by_rounding_error(detect, rows, budget, removed):
    activations = np.random.default_rng(32).normal(size=(rows, 3))
    result = detect(SpectralSignatures, activations, np.zeros(rows, int), budget=budget)
    assert result.flagged.sum() == removed
    assert set(np.flatnonzero(result.flagged)) == set(np.argsort(-result.scores)[:removed])


def test_nothing_flagged_counts_as_every_poison_missed_8(detect):
    result = detect(SpectralSignatures, np.ones((20, 3)), np.zeros(20, int))
    truth = np.arange(20) < 5
    assert recall(result.flagged, truth) == 0
    assert false_positive_rate(result.flagged, truth) == 0
