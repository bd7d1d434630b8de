import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Trusted
from backdoor_core.testing.detectors import MadeVictim
from backdoor_detectors import Scan
from backdoor_detectors.robust import shrunk_covariance
from backdoor_detectors.scan_model import decompose
from backdoor_detectors.unimodality import CRITICAL, dip, window


def contaminated(rng, n=1500, width=12, poisoned=60, shift=7.0):
    """Two labels of correlated rows; in label 1 a second group of the same spread."""
    labels = (np.arange(n) % 5 == 0).astype(int)
    mixing = rng.normal(size=(width, width))
    noise = rng.normal(size=(n, width))
    truth = np.zeros(n, bool)
    truth[np.flatnonzero(labels == 1)[:poisoned]] = True
    noise[truth, 3] += shift
    noise[:, 0] += 6 * labels
    return (noise @ mixing).astype(np.float32), labels, truth


def posterior_by_rows(points, between, within, rows):
    """The expected mean of a label row by row, as the authors write it."""
    precision = np.linalg.inv(within)
    inner = -np.linalg.inv(rows * between + within) @ between @ precision
    return -sum(within @ inner @ row for row in points)


def test_a_second_group_is_found_with_the_accuracy_of_the_best_line(detect):
    rng = np.random.default_rng(1)
    activations, labels, truth = contaminated(rng, shift=5.0)
    result = detect(Scan, activations, labels)
    assert roc_auc_score(truth, result.scores) > 0.99
    own = labels == 1
    best = np.abs(result.scores[own] > 0) == truth[own]
    assert best.mean() > 0.98  # the Bayes error of two groups 5 apart is 0.6%
    assert (result.flagged == (truth & result.flagged)).mean() > 0.995
    assert result.flagged[truth].mean() > 0.97
    assert not result.flagged[labels == 0].any()
    facts = result.details["labels"]
    assert facts["1"]["likelihood_ratio"] > 2 * facts["0"]["likelihood_ratio"]


def test_the_decomposition_equals_one_row_by_row():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [60, 25])
    points = rng.normal(size=(85, 4)) @ rng.normal(size=(4, 4)) + np.outer(labels, [3, 0, 1, -2])
    found = decompose(points, labels)
    centered = points - points.mean(axis=0)
    effects = np.stack([centered[labels == k].mean(axis=0) for k in (0, 1)])[labels]
    inner = shrunk_covariance(centered - effects)
    between, within = np.cov(effects.T, ddof=0), inner
    start = effects
    for _ in range(200):
        posterior = [posterior_by_rows(centered[labels == k], between, within, (labels == k).sum()) for k in (0, 1)]
        effects = np.stack(posterior)[labels]
        between = np.cov(effects.T, ddof=0)
        within = inner + np.cov((start - effects).T, ddof=0)
    assert found.between == pytest.approx(between, rel=1e-3, abs=1e-4)
    assert found.within == pytest.approx(within, rel=1e-3, abs=1e-4)


def test_scores_and_ratio_equal_a_plain_restatement_given_the_variation(detect_with, table):
    activations, labels, _ = contaminated(np.random.default_rng(3), n=400, width=5, poisoned=15, shift=9)
    rng = np.random.default_rng(4)
    clean, clean_labels, _ = contaminated(rng, n=200, width=5, poisoned=0)
    result = _with_trusted(detect_with, table, activations, labels, clean, clean_labels)
    model = decompose(clean.astype(float), clean_labels)
    precision = np.linalg.inv(model.within)
    own = activations[labels == 1] - model.center
    single = posterior_by_rows(own, model.between, model.within, len(own))
    whitened = own @ np.linalg.cholesky(precision)
    minority = result.scores[labels == 1] > 0
    for _ in range(20):  # Lloyd's algorithm from nearly the answer
        groups = [own[~minority].mean(axis=0), own[minority].mean(axis=0)]
        distances = [((whitened - mean @ np.linalg.cholesky(precision)) ** 2).sum(axis=1) for mean in groups]
        minority = distances[1] < distances[0]
    far = ((whitened - single @ np.linalg.cholesky(precision)) ** 2).sum(axis=1)
    facts = result.details["labels"]["1"]
    assert facts["minority"] == minority.sum()
    assert facts["likelihood_ratio"] == pytest.approx((far - np.minimum(*distances)).mean())
    assert result.scores[labels == 1] == pytest.approx((far - distances[1]) / 2)


def _with_trusted(detect_with, table, activations, labels, clean, clean_labels):
    view, other = table(activations), table(clean)
    victim = MadeVictim(view, np.zeros((len(view), 1), np.float32), view)
    victim.embedding = lambda shown: shown.values
    return detect_with(Scan, view, labels, victim=victim, stays=Trusted(other, clean_labels), trusted=True)


def test_trusted_stays_tell_which_group_is_the_poison(detect_with, table):
    rng = np.random.default_rng(5)
    activations, labels, truth = contaminated(rng, n=1000, poisoned=130)  # of 200 in the label: the larger group
    clean, clean_labels, _ = contaminated(np.random.default_rng(5), n=1000, poisoned=0)
    result = _with_trusted(detect_with, table, activations, labels, clean[:300], clean_labels[:300])
    assert result.flagged[truth].all()
    assert result.flagged.sum() < 140


@pytest.mark.parametrize("shape", ["gaussian", "rectified", "long_tailed", "skewed"])
def test_two_clean_labels_are_not_flagged_12(detect, shape):
    # The deviation from the median of two statistics, over their median absolute deviation, is 0.6745 for each,
    # contaminated or not. This null is of each label by itself, and groups without a second peak pass.
    wrong = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = (rng.random(700) < 0.2).astype(int)
        noise = rng.standard_t(3, size=(700, 20)) if shape == "long_tailed" else rng.normal(size=(700, 20))
        noise = np.exp(noise) if shape == "skewed" else noise
        activations = noise @ rng.normal(size=(20, 20)) + 5 * labels[:, np.newaxis]
        activations = np.maximum(activations, 0) if shape == "rectified" else activations
        result = detect(Scan, activations, labels)
        wrong += sum(facts["flagged"] > 0 for facts in result.details["labels"].values())
    assert wrong <= 1


def test_a_contaminated_label_is_told_from_a_clean_one_whatever_the_other_holds_12(detect):
    rng = np.random.default_rng(7)
    activations, labels, truth = contaminated(rng)
    facts = detect(Scan, activations, labels).details["labels"]
    assert facts["1"]["dip_statistic"] > CRITICAL > facts["0"]["dip_statistic"]
    both = activations.copy()
    second = np.flatnonzero(labels == 0)[:80]
    both[second] += 4 * (activations[truth].mean(axis=0) - activations[(labels == 1) & ~truth].mean(axis=0))
    facts = detect(Scan, both, labels).details["labels"]
    assert min(facts["0"]["dip_statistic"], facts["1"]["dip_statistic"]) > CRITICAL


def test_a_few_far_rows_among_many_are_enough(detect):
    activations, labels, truth = contaminated(np.random.default_rng(8), n=4000, poisoned=12, shift=60)
    assert (detect(Scan, activations, labels).flagged == truth).all()


def test_with_as_many_dimensions_as_rows_groups_are_not_made_up(detect):
    rng = np.random.default_rng(9)
    activations, labels = rng.normal(size=(240, 100)), np.repeat([0, 1], 120)
    assert not detect(Scan, activations, labels).flagged.any()


def test_the_critical_value_holds_for_one_peak_and_the_dip_sees_two():
    rng = np.random.default_rng(10)
    for n in (20, 200):
        exceeded = [np.sqrt(n) * dip(rng.random(n)) > CRITICAL for _ in range(300)]
        assert np.mean(exceeded) <= 0.02
    assert np.sqrt(16) * dip(np.concatenate([rng.random(8), 5 + rng.random(8)])) > CRITICAL
    assert dip(np.repeat([0.0, 1.0], 50)) == 0.25
    assert dip(np.array([0.0, 0.0])) == 0
    # Equal values are a peak, of any height; beside another peak they are a second one.
    assert dip(np.concatenate([np.zeros(500), rng.random(500)])) < 0.03
    assert dip(np.concatenate([rng.random(500), np.full(500, 5.0)])) > 0.1
    assert list(window(np.array([5.0, 1, 4, 2, 3]), 2)) == [2, 3, 4, 5]
    many = rng.normal(size=30_000)
    assert np.sqrt(30_000) * dip(many) < CRITICAL


def test_the_dip_is_a_lower_bound_on_hartigans():
    """0.0595238 by R's diptest for the ratings `statfaculty` of Hartigan and Hartigan."""
    counts = {30: 1, 33: 1, 35: 1, 36: 1, 37: 2, 39: 5, 40: 4, 41: 1, 42: 1, 43: 3, 44: 2, 45: 2, 46: 1, 47: 2, 48: 3}
    counts |= {49: 1, 50: 2, 51: 1, 52: 2, 53: 5, 54: 2, 57: 2, 59: 1, 60: 3, 61: 4, 62: 4, 63: 1, 66: 1, 70: 1, 72: 2}
    ratings = np.repeat(list(map(float, counts)), list(counts.values()))
    assert 0.84 * 0.0595238 < dip(ratings) < 0.0595238


def test_order_names_constants_and_duplicates_do_not_matter(detect):
    rng = np.random.default_rng(11)
    activations, labels, _ = contaminated(rng, n=600)
    scores = detect(Scan, activations, labels).scores
    order = rng.permutation(600)
    shuffled = detect(Scan, activations[order], 1 - labels[order]).scores
    assert shuffled == pytest.approx(scores[order], rel=1e-5, abs=1e-6)
    padded = np.column_stack([activations, np.full(600, 7.0)])
    assert detect(Scan, padded, labels).scores == pytest.approx(scores, rel=1e-5, abs=1e-6)
    twice = detect(Scan, np.tile(activations, (2, 1)), np.tile(labels, 2)).scores
    assert twice[:600] == pytest.approx(twice[600:])


def test_few_and_equal_rows_are_left_out_by_name(detect):
    labels = np.repeat([0, 1], [50, 9])
    facts = detect(Scan, np.random.default_rng(12).normal(size=(59, 3)), labels).details["labels"]
    assert facts["1"] == {"rows": 9, "skipped": "fewer than 10 rows"}
    equal = detect(Scan, np.ones((59, 3)), labels)
    assert equal.details["labels"]["0"]["skipped"] == "all activations are equal"
    assert not equal.scores.any()
    apart = detect(Scan, np.repeat([[0.0], [1.0]], [50, 9], axis=0), labels)
    assert not apart.scores.any()
