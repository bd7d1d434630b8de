import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.metrics import roc_auc_score

from backdoor_core.detection.calibrate import Scored, flag, p_values
from backdoor_detectors import ActivationClustering


def whitened(activations, dimensions):
    """Unit-variance principal components, by the singular value decomposition."""
    centered = activations - activations.mean(axis=0)
    left, _, _ = np.linalg.svd(centered, full_matrices=False)
    return left[:, :dimensions] * np.sqrt(len(activations))


def inertia(points, clusters):
    return sum(((points[clusters == k] - points[clusters == k].mean(axis=0)) ** 2).sum() for k in np.unique(clusters))


def lloyd(points, rng, starts=40):
    """The best of many runs of Lloyd's algorithm from two random rows."""
    best, least = None, np.inf
    for _ in range(starts):
        centers = points[rng.choice(len(points), 2, replace=False)]
        for _ in range(100):
            clusters = ((points[:, np.newaxis] - centers) ** 2).sum(axis=2).argmin(axis=1)
            if len(np.unique(clusters)) < 2:
                break
            moved = np.array([points[clusters == k].mean(axis=0) for k in (0, 1)])
            if np.allclose(moved, centers):
                break
            centers = moved
        if len(np.unique(clusters)) == 2 and inertia(points, clusters) < least:
            best, least = clusters, inertia(points, clusters)
    return best


def two_clusters(rng, sizes, width, gap):
    activations = rng.normal(size=(sum(sizes), width))
    activations[: sizes[0]] += gap
    return activations


def scored(shares, threshold=0.35):
    """By relative size: 1 minus the share of a cluster that is small enough, 0 for one that is not."""
    return np.where(shares < threshold, 1 - shares, 0)


@pytest.mark.parametrize("seed", range(8))
def test_the_partition_is_the_best_of_all_partitions(seed, detect):
    rng = np.random.default_rng(seed)
    activations = two_clusters(rng, (3, 9), 4, 5)
    result = detect(ActivationClustering, activations, np.zeros(12, int), dimensions=2)
    points = whitened(activations, 2)
    partitions = (np.array((0, *rest)) for rest in itertools.product((0, 1), repeat=11) if any(rest))
    best = min(partitions, key=lambda clusters: inertia(points, clusters))
    assert len({*zip(best, result.scores.tolist(), strict=True)}) == 2  # the same two groups under other names
    shares = np.bincount(best)[best] / 12
    assert result.scores == pytest.approx(scored(shares))
    assert (result.flagged == (shares < 0.35)).all()


@pytest.mark.parametrize("reduce", ["ica", "pca"])
def test_the_partition_equals_one_from_plain_numpy(reduce, detect):
    rng = np.random.default_rng(20)
    labels = np.repeat([0, 1], [300, 150])
    activations = np.maximum(rng.normal(size=(450, 20)), 0) * rng.uniform(0.5, 3, 20)
    activations[:40] += 3
    activations[300:320] += 5
    result = detect(ActivationClustering, activations, labels, reduce=reduce, size_threshold=0.5)
    for label in (0, 1):
        own = activations[labels == label]
        if reduce == "ica":
            points = whitened(own, 10)
        else:
            centered = own - own.mean(axis=0)
            points = centered @ np.linalg.svd(centered, full_matrices=False)[2][:10].T
        clusters = lloyd(points, rng)
        shares = np.bincount(clusters)[clusters] / len(own)
        assert result.scores[labels == label] == pytest.approx(scored(shares, 0.5))
        assert (result.flagged[labels == label] == (shares < 0.5)).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_plain_cluster_is_found_whatever_the_seed(seed, detect):
    rng = np.random.default_rng(100 + seed)  # ten random starts alone miss it in most of these
    activations = rng.normal(size=(180, 16))
    activations[:60] *= 0.1
    activations[:60, 1] += 6
    scores = detect(ActivationClustering, activations, np.zeros(180, int), seed=seed).scores
    assert roc_auc_score(np.arange(180) < 60, scores) > 0.99


def test_ica_weighs_all_directions_alike_and_pca_does_not(detect):
    rng = np.random.default_rng(25)
    activations = rng.normal(size=(500, 5)) * [30, 1, 1, 1, 1]
    activations[:100, 2] += 8
    truth, labels = np.arange(500) < 100, np.zeros(500, int)
    assert roc_auc_score(truth, detect(ActivationClustering, activations, labels).scores) > 0.99
    assert roc_auc_score(truth, detect(ActivationClustering, activations, labels, reduce="pca").scores) < 0.7


def test_clean_activations_are_not_flagged_6_8(detect):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = (rng.random(2000) < 0.15).astype(int)
        result = detect(ActivationClustering, rng.normal(size=(2000, 32)) + 5 * labels[:, np.newaxis], labels)
        assert not result.flagged.any()
        assert [facts["flagged"] for facts in result.details["labels"].values()] == [0, 0]


def test_the_threshold_decides_by_the_share_of_the_label(detect):
    rng = np.random.default_rng(21)
    activations = two_clusters(rng, (30, 70), 12, 8)
    labels = np.zeros(100, int)
    below = detect(ActivationClustering, activations, labels)
    assert (np.flatnonzero(below.flagged) == np.arange(30)).all()
    assert below.scores == pytest.approx(np.repeat([0.7, 0], [30, 70]))
    assert below.details["labels"]["0"]["cluster_sizes"] == [30, 70]
    at = detect(ActivationClustering, activations, labels, size_threshold=0.3)
    assert not at.flagged.any()
    assert not at.scores.any()


@pytest.mark.parametrize("sizes", [(98, 99, 98), (4, 3, 4)])
def test_an_even_split_scores_nothing_and_does_not_beat_null_runs(detect, sizes):
    """A cluster of 48% with any score lies above all rows of null runs whose clusters have 49% or next to none."""
    rng = np.random.default_rng(28)
    labels = np.zeros(200, int)
    run, *nulls = (
        Scored(detect(ActivationClustering, two_clusters(rng, (size, 200 - size), 12, 8), labels).scores, labels)
        for size in (96, *sizes)
    )
    assert not run.scores.any()
    assert not flag(p_values(run, nulls, ActivationClustering.absolute), labels, 0.05).any()


def test_activations_of_low_rank_are_reduced_to_their_rank(detect):
    rng = np.random.default_rng(22)
    plane = two_clusters(rng, (20, 180), 2, 9)
    activations = plane @ rng.normal(size=(2, 30)) + 100
    truth = np.arange(200) < 20
    for reduce in ("ica", "pca"):
        result = detect(ActivationClustering, activations, np.zeros(200, int), reduce=reduce)
        assert result.details["labels"]["0"]["dimensions"] == 2
        assert roc_auc_score(truth, result.scores) == 1
    line = detect(ActivationClustering, np.repeat([[0.0], [1.0]], [20, 180], axis=0), np.zeros(200, int))
    assert line.details["labels"]["0"]["dimensions"] == 1
    assert (line.flagged == truth).all()


@pytest.mark.parametrize("seed", range(3))
def test_independent_components_give_the_same_clusters_as_the_whitened_ones(seed, detect):
    rng = np.random.default_rng(seed)
    activations = rng.laplace(size=(600, 12)) * rng.uniform(0.5, 3, 12)
    activations[:90, 4] += 40
    sources = FastICA(whiten=False, random_state=seed).fit_transform(whitened(activations, 10))
    assert np.allclose(sources.T @ sources / 600, np.eye(10), atol=1e-6)
    scores = detect(ActivationClustering, activations, np.zeros(600, int), size_threshold=0.5).scores
    clusters = (np.arange(600) < 90).astype(int)  # twenty random starts of the library miss these
    centers = np.stack([sources[clusters == k].mean(axis=0) for k in (0, 1)])
    clusters = KMeans(2, init=centers, n_init=1).fit(sources).labels_
    shares = np.bincount(clusters)[clusters] / 600
    assert scores == pytest.approx(scored(shares, 0.5))


@pytest.mark.parametrize("reduce", ["ica", "pca"])
def test_planted_clusters_are_found_from_a_sample_of_many_rows(reduce, detect):
    # 17,000 and 3,000 rows: one label is sampled, the other is not; the poison is 2% of the one and 10% of the other.
    rng = np.random.default_rng(26)
    labels = np.repeat([0, 1], [17_000, 3_000])
    activations = rng.normal(size=(20_000, 24))
    truth = (np.arange(20_000) < 340) | (np.arange(20_000) >= 19_700)
    activations[truth, 3] += 14
    order = rng.permutation(20_000)
    result = detect(ActivationClustering, activations[order], labels[order], reduce=reduce)
    assert (result.flagged == truth[order]).all()
    centered = activations[:17_000] - activations[:17_000].mean(axis=0)
    points = centered @ np.linalg.svd(centered, full_matrices=False)[2][:10].T
    points = points / points.std(axis=0) if reduce == "ica" else points
    planted = np.stack([points[truth[:17_000] == k].mean(axis=0) for k in (False, True)])
    clusters = KMeans(2, init=planted, n_init=1).fit(points).labels_
    shares = np.bincount(clusters)[clusters] / 17_000
    assert result.scores[np.argsort(order)[:17_000]] == pytest.approx(scored(shares))


def test_a_label_of_too_few_rows_is_left_out_and_the_others_are_not(detect):
    rng = np.random.default_rng(24)
    labels = np.repeat([0, 1], [200, 20])
    activations = rng.normal(size=(220, 8))
    activations[:30] += 8
    result = detect(ActivationClustering, activations, labels)
    assert (np.flatnonzero(result.flagged) == np.arange(30)).all()
    assert not result.scores[200:].any()
    assert result.details["labels"]["1"] == {"rows": 20, "skipped": "20 rows or fewer"}
    assert "skipped" not in detect(ActivationClustering, activations, labels, dimensions=9).details["labels"]["1"]
