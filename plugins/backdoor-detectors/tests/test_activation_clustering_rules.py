from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from backdoor_core.contracts import Context
from backdoor_detectors import ActivationClustering
from backdoor_detectors.cluster_rules import nearness_to_another, reclassified, silhouette, smaller_cluster


def two_groups(rng, sizes=(40, 160), width=12, gap=8.0):
    activations = rng.normal(size=(sum(sizes), width))
    activations[: sizes[0], 1] += gap
    return activations


def poisoned(rng, n=600, stolen=60):
    """Label 1 at 15 along the first axis; some rows of label 0 are labeled 1 where they stand."""
    labels = np.repeat([0, 1], [n // 2, n // 2])
    activations = rng.normal(size=(n, 12))
    activations[labels == 1, 0] += 15
    truth = np.zeros(n, bool)
    truth[n // 2 : n // 2 + stolen] = True
    activations[truth, 0] -= 15
    return activations, labels, truth


def test_the_silhouette_is_that_of_the_library_and_linear_in_rows():
    rng = np.random.default_rng(1)
    points = two_groups(rng)
    clusters = (np.arange(200) >= 40).astype(int)
    assert silhouette(points, clusters, 0) == pytest.approx(silhouette_score(points, clusters))
    many = two_groups(rng, (200, 3800))
    clusters = (np.arange(4000) >= 200).astype(int)
    assert silhouette(many, clusters, 0) == pytest.approx(silhouette_score(many, clusters), abs=0.01)
    single = (np.arange(4000) > 0).astype(int)  # its silhouette is 0, and that of the others a sample's
    assert silhouette(many, single, 0) == pytest.approx(silhouette_score(many, single), abs=0.02)


def test_the_silhouette_rule_gives_every_row_an_answer_7(detect):
    # A known fault leaves the rows of the larger cluster as uninitialized memory.
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 200)
    activations = np.concatenate([two_groups(rng, gap=14.0), rng.normal(size=(200, 12))])
    result = detect(ActivationClustering, activations, labels, rule="silhouette", reduce="pca")
    assert (np.flatnonzero(result.flagged) == np.arange(40)).all()
    apart = result.details["labels"]["0"]["silhouette"]
    assert result.scores[:200] == pytest.approx(apart * np.repeat([0.8, 0], [40, 160]))
    assert result.details["labels"]["1"]["silhouette"] < apart
    assert not detect(
        ActivationClustering, activations, labels, rule="silhouette", reduce="pca", silhouette_threshold=0.9
    ).flagged.any()


def test_the_silhouette_is_needed_besides_the_size(detect):
    rng = np.random.default_rng(3)
    activations = rng.normal(size=(300, 30)) * np.r_[1, np.full(29, 1)]
    activations[:60, :20] += 0.4  # a weak group: small, but not apart
    labels = np.zeros(300, int)
    options = {"reduce": "pca", "dimensions": 20, "size_threshold": 0.5}
    assert detect(ActivationClustering, activations, labels, **options).flagged.any()
    assert not detect(ActivationClustering, activations, labels, rule="silhouette", **options).flagged.any()


def test_the_cluster_nearer_to_another_label_is_flagged_by_distance(detect):
    activations, labels, truth = poisoned(np.random.default_rng(4), stolen=180)  # the larger cluster of its label
    result = detect(ActivationClustering, activations, labels, rule="distance")
    assert result.scores.min() >= 0
    assert result.scores.max() <= 1
    assert (result.flagged == (result.scores > 0.5)).all()
    medians = [np.median(activations[labels == k], axis=0) for k in (0, 1)]
    cluster = np.median(activations[truth], axis=0)
    own, other = np.linalg.norm(cluster - medians[1]), np.linalg.norm(cluster - medians[0])
    assert result.scores[truth] == pytest.approx(own / (own + other), rel=0.2)

    activations, labels, truth = poisoned(np.random.default_rng(5))
    assert (detect(ActivationClustering, activations, labels, rule="distance").flagged == truth).all()


def test_distance_needs_another_label_and_survives_equal_medians(detect):
    activations, _, _ = poisoned(np.random.default_rng(6))
    alone = detect(ActivationClustering, activations, np.zeros(600, int), rule="distance")
    assert alone.details["labels"]["0"]["skipped"] == "no other label to be near to"
    assert not alone.scores.any()
    same = nearness_to_another(np.zeros((2, 2)), np.zeros((2, 2)), 0)
    assert list(same) == [0, 0]


def retraining(detect_with, table, activations, labels, after, before=None):
    kept = []

    def retrained(keep):
        kept.append(keep)
        return after

    victim = SimpleNamespace(
        embedding=lambda view: activations.astype(np.float32),
        logits=lambda view: np.where(labels == 1, 3.0, -3.0) if before is None else before,
        retrained=retrained,
    )
    result = detect_with(
        ActivationClustering, table(np.zeros((len(labels), 1))), labels, victim=victim, rule="exclusionary"
    )
    return result, kept


def test_the_cluster_that_a_model_without_it_reads_otherwise_is_flagged(detect_with, table):
    activations, labels, truth = poisoned(np.random.default_rng(7))
    activations[:50, 2] += 15  # a clean cluster in label 0
    after = np.where((labels == 1) & ~truth, 2.0, -2.0)
    after[np.flatnonzero(truth)[:6]] = 2.0
    result, kept = retraining(detect_with, table, activations, labels, after)
    assert (result.flagged == truth).all()
    assert result.scores[truth] == pytest.approx(0.9)
    assert not result.scores[~truth].any()
    facts = result.details["labels"]
    assert facts["1"]["as_own"] == 6
    assert facts["1"]["as_other"] == 54
    assert facts["1"]["as_own_before"] == 60
    assert facts["0"]["as_other"] == 0
    assert len(kept) == 2
    assert sorted(int((~keep).sum()) for keep in kept) == [50, 60]
    assert (~kept[1] == truth).all()


@pytest.mark.parametrize(("held", "flagged"), [(0, False), (29, False), (30, True), (60, True)])
def test_rows_that_the_victim_never_gave_their_label_are_no_poison(held, flagged, detect_with, table):
    """Of a rare label a clean victim puts hardly any row on its side of one half, and a model without them none."""
    activations, labels, truth = poisoned(np.random.default_rng(9))
    before = np.where(labels == 1, 3.0, -3.0)
    before[np.flatnonzero(truth)[held:]] = -1.0
    after = np.where((labels == 1) & ~truth, 2.0, -2.0)
    result, _ = retraining(detect_with, table, activations, labels, after, before)
    assert result.details["labels"]["1"]["as_own_before"] == held
    assert (result.flagged == (truth & flagged)).all()


def test_half_and_half_is_no_poison(detect_with, table):
    activations, labels, truth = poisoned(np.random.default_rng(8))
    after = np.where(labels == 1, 2.0, -2.0)
    after[np.flatnonzero(truth)[:30]] = -2.0
    result, _ = retraining(detect_with, table, activations, labels, after)
    assert not result.flagged.any()
    assert result.scores[truth] == pytest.approx(0.5)


def test_what_is_needed_follows_the_rule():
    def needs(rule):
        return ActivationClustering(ActivationClustering.Options(rule=rule), Context(Path())).requires

    assert needs("exclusionary") == {"labels", "embedding", "retrain", "predict"}
    assert all(needs(rule) == {"labels", "embedding"} for rule in ("relative_size", "silhouette", "distance"))


def test_the_parts_of_the_rules():
    assert list(smaller_cluster(np.array([0, 1, 1]))) == [True, False, False]
    assert smaller_cluster(np.array([0, 1])).sum() == 1
    assert reclassified(np.array([-1.0, 2.0, 3.0]), 1) == (2, 1)
    assert reclassified(np.array([-1.0, 2.0, 3.0]), 0) == (1, 2)
