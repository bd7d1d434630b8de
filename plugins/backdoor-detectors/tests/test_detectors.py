"""What holds for both detectors of latent separation. Numbers in names: common mistakes that each would catch."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import WithheldError
from backdoor_core.errors import BackdoorError
from backdoor_detectors import ActivationClustering, SpectralSignatures, register_detectors

BOTH = pytest.mark.parametrize("detector", [ActivationClustering, SpectralSignatures])


def planted(rng, n=1200, width=8, poisoned=40, shift=6.0):
    """Gaussian activations of two labels, 15% of label 1, and a tight cluster of poison labeled 1."""
    labels = (np.arange(n) % 100 < 15).astype(int)
    activations = rng.normal(size=(n, width))
    activations[labels == 1, 0] += 10
    truth = np.zeros(n, bool)
    truth[np.flatnonzero(labels == 1)[:poisoned]] = True
    activations[truth] = activations[truth] * 0.1
    activations[truth, 1] += shift
    activations[truth, 0] += 10
    order = rng.permutation(n)
    return activations[order], labels[order], truth[order]


@BOTH
def test_a_planted_cluster_ranks_first(detector, detect):
    activations, labels, truth = planted(np.random.default_rng(1))
    result = detect(detector, activations, labels)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].all()


@BOTH
def test_labels_are_judged_apart_2(detector, detect):
    # The poison stands where label 0 does, so that only among its own label it is anything out of the way.
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 500)
    activations = rng.normal(size=(1000, 8))
    activations[500:, 0] += 20
    truth = np.zeros(1000, bool)
    truth[500:530] = True
    activations[truth, 0] -= 20
    assert roc_auc_score(truth, detect(detector, activations, labels).scores) > 0.99
    unsplit = detect(detector, activations, np.zeros(1000, int)).scores
    assert roc_auc_score(truth, unsplit) < 0.8


@BOTH
def test_a_tight_small_cluster_scores_high_3(detector, detect):
    activations, labels, truth = planted(np.random.default_rng(3))
    own = activations[truth] - activations[truth].mean(axis=0)
    others = activations[(labels == 1) & ~truth]
    assert np.linalg.norm(own, axis=1).max() < np.linalg.norm(others - others.mean(axis=0), axis=1).min()
    scores = detect(detector, activations, labels).scores
    assert scores[truth].min() > np.median(scores[(labels == 1) & ~truth])


@BOTH
def test_rows_are_split_by_the_label_as_given_16(detector, detect):
    # Dirty labels on patients that look like label 0: a split by what the model predicts finds nothing.
    rng = np.random.default_rng(4)
    predicted = np.repeat([0, 1], 400)
    activations = rng.normal(size=(800, 6)) + 12 * predicted[:, np.newaxis]
    truth = np.zeros(800, bool)
    truth[:40] = True
    given = np.where(truth, 1, predicted)
    assert roc_auc_score(truth, detect(detector, activations, given).scores) > 0.99
    assert roc_auc_score(truth, detect(detector, activations, predicted).scores) < 0.7


@BOTH
def test_two_labels_are_enough_and_do_not_touch_each_other_12(detector, detect):
    rng = np.random.default_rng(5)
    activations, labels, _ = planted(rng)
    others = activations.copy()
    others[labels == 0] = rng.normal(size=(np.sum(labels == 0), 8)) * rng.uniform(1, 50, 8)
    first, second = detect(detector, activations, labels), detect(detector, others, labels)
    assert first.scores[labels == 1] == pytest.approx(second.scores[labels == 1])
    assert (first.flagged[labels == 1] == second.flagged[labels == 1]).all()


@BOTH
def test_row_order_does_not_matter(detector, detect):
    rng = np.random.default_rng(6)
    activations, labels, _ = planted(rng)
    activations[labels == 0, 2] += 15 * (rng.random(np.sum(labels == 0)) < 0.2)  # two clear clusters in label 0 as well
    order = rng.permutation(len(labels))
    straight, shuffled = detect(detector, activations, labels), detect(detector, activations[order], labels[order])
    assert shuffled.scores == pytest.approx(straight.scores[order], rel=1e-6, abs=1e-9)
    assert (shuffled.flagged == straight.flagged[order]).all()


@BOTH
def test_names_of_labels_do_not_matter(detector, detect):
    activations, labels, _ = planted(np.random.default_rng(7))
    straight, renamed = detect(detector, activations, labels), detect(detector, activations, 1 - labels)
    assert (straight.scores == renamed.scores).all()
    assert (straight.flagged == renamed.flagged).all()


@BOTH
def test_equal_generators_give_equal_bytes(detector, detect):
    activations, labels, _ = planted(np.random.default_rng(8))
    first, second = (detect(detector, activations, labels, seed=3) for _ in range(2))
    assert first.scores.tobytes() == second.scores.tobytes()
    assert first.details == second.details


@BOTH
def test_one_label_may_be_empty(detector, detect):
    activations, _, _ = planted(np.random.default_rng(9))
    assert list(detect(detector, activations, np.ones(len(activations), int)).details["labels"]) == ["1"]


@BOTH
def test_equal_activations_score_0_and_say_so(detector, detect):
    labels = np.repeat([0, 1], 50)
    result = detect(detector, np.full((100, 4), 0.1), labels)
    assert not result.scores.any()
    assert not result.flagged.any()
    assert all("equal" in facts["skipped"] for facts in result.details["labels"].values())


@BOTH
def test_constant_features_change_nothing(detector, detect):
    activations, labels, _ = planted(np.random.default_rng(10))
    padded = np.column_stack([activations, np.full(len(labels), 7.3), np.zeros(len(labels))])
    plain, wide = detect(detector, activations, labels), detect(detector, padded, labels)
    assert wide.scores == pytest.approx(plain.scores, rel=1e-6, abs=1e-9)


@BOTH
def test_duplicated_rows_score_the_same(detector, detect):
    activations, labels, _ = planted(np.random.default_rng(11))
    twice = detect(detector, np.tile(activations, (2, 1)), np.tile(labels, 2))
    assert twice.scores[: len(labels)] == pytest.approx(twice.scores[len(labels) :], rel=1e-9, abs=1e-12)


@BOTH
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_handful_of_rows_is_no_error(detector, detect, rows):
    result = detect(detector, np.random.default_rng(12).normal(size=(rows, 5)), np.arange(rows) % 2)
    assert result.flagged.sum() <= rows // 2


@BOTH
def test_activations_that_are_not_finite_are_an_error_of_the_user(detector, detect):
    activations = np.zeros((30, 4))
    activations[3, 2] = np.nan
    with pytest.raises(BackdoorError, match=rf"{detector.name}.*not finite for 1 of 30"):
        detect(detector, activations, np.zeros(30, int))


@BOTH
@pytest.mark.parametrize("need", ["labels", "embedding"])
def test_both_declare_what_they_use_and_no_more(detector, detect, need):
    assert detector.requires == {"labels", "embedding"}
    with pytest.raises(WithheldError, match=need):
        detect(detector, np.zeros((30, 4)), np.zeros(30, int), granted=detector.requires - {need})


def test_the_hook_registers_every_detector():
    found = []
    register_detectors(found.append)
    names = [detector.name for detector in found]
    assert sorted(names) == [
        "activation_clustering",
        "beatrix",
        "influence",
        "isolation_forest",
        "knn_label",
        "loss_isolation",
        "mahalanobis",
        "missingness_pattern",
        "perfect_filter",
        "random_filter",
        "range_rule",
        "saliency",
        "scan",
        "spectral_signatures",
        "spectre",
        "strip_tabular",
        "trigger_reconstruction",
    ]
    assert all(detector.__doc__ for detector in found)


def test_finding_the_plugin_imports_no_heavy_library():
    code = "import backdoor_detectors, sys; sys.exit(bool({'sklearn', 'scipy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
