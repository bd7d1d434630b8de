import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from backdoor_core import statistics
from backdoor_core.ranking import auroc, average_precision, partial_auroc, tpr_at_fpr
from backdoor_core.statistics import (
    Estimate,
    accuracy,
    bootstrap_estimate,
    brier,
    cluster_bootstrap_weights,
    equal_mass_bins,
    expected_calibration_error,
    false_positive_rate,
    mean,
    precision,
    recall,
    whole_means,
)


@st.composite
def samples(draw, whole=True):
    """Scores with many ties, truth holding both classes with weight, weights."""
    n = draw(st.integers(2, 30))
    scores = draw(hnp.arrays(np.float64, n, elements=st.integers(-3, 3).map(float)))
    truth = draw(hnp.arrays(np.bool_, n))
    element = st.integers(0, 4).map(float) if whole else st.floats(0.125, 4, width=16)
    weights = draw(hnp.arrays(np.float64, n, elements=element))
    truth[0], truth[1] = True, False
    weights[:2] = np.maximum(weights[:2], 1)
    return scores, truth, weights


@given(samples())
def test_rankings_equal_sklearn(sample):
    scores, truth, weights = sample
    assert auroc(scores, truth, weights) == pytest.approx(metrics.roc_auc_score(truth, scores, sample_weight=weights))
    assert average_precision(scores, truth, weights) == pytest.approx(
        metrics.average_precision_score(truth, scores, sample_weight=weights)
    )
    assert auroc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth, scores))


@given(st.data(), st.integers(2, 40))
def test_auroc_of_long_runs_equals_sklearn(data, n):
    """Few ties, so that many true or untrue rows stand next to each other and are taken together."""
    scores = np.array(data.draw(st.permutations(range(n))), dtype=float) // data.draw(st.integers(1, 3))
    truth = scores > data.draw(st.integers(0, n))
    flipped = data.draw(st.lists(st.integers(0, n - 1), max_size=4))
    truth[flipped] = ~truth[flipped]
    truth[:2] = [True, False]
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)), dtype=float)
    assert auroc(scores, truth, weights) == pytest.approx(metrics.roc_auc_score(truth, scores, sample_weight=weights))


@given(samples(whole=False), st.floats(0, 1))
def test_tpr_at_fpr_equals_the_best_point_of_sklearns_curve(sample, fpr):
    scores, truth, weights = sample
    rates, found, _ = metrics.roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    assert tpr_at_fpr(scores, truth, fpr, weights) == pytest.approx(found[rates <= fpr].max())


@given(samples(whole=False), st.floats(0.01, 1))
def test_partial_auroc_equals_sklearn(sample, fpr):
    scores, truth, weights = sample
    expected = metrics.roc_auc_score(truth, scores, sample_weight=weights, max_fpr=fpr)
    assert partial_auroc(scores, truth, fpr, weights) == pytest.approx(expected, abs=1e-9)


@given(samples(), st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]))
def test_whole_weights_are_the_same_as_repeated_rows(sample, fpr):
    scores, truth, weights = sample
    rows = np.repeat(np.arange(len(scores)), weights.astype(int))
    predicted = scores > 0
    probability = (scores + 3) / 6
    for figure, values in [
        (auroc, scores),
        (average_precision, scores),
        (lambda s, t, weights=None: tpr_at_fpr(s, t, fpr, weights), scores),
        (lambda s, t, weights=None: partial_auroc(s, t, max(fpr, 0.01), weights), scores),
        (accuracy, predicted),
        (recall, predicted),
        (precision, predicted),
        (false_positive_rate, predicted),
        (brier, probability),
    ]:
        expected = figure(values[rows], truth[rows])
        assert figure(values, truth, weights=weights) == pytest.approx(expected, nan_ok=True)


def test_auroc_and_tpr_by_brute_force():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 12, 80), rng.random(80) < 0.3
    pairs = [(p > n) + (p == n) / 2 for p in scores[truth] for n in scores[~truth]]
    assert auroc(scores, truth) == pytest.approx(np.mean(pairs))
    best = 0.0
    for threshold in [*np.unique(scores), math.inf]:
        if np.mean(scores[~truth] >= threshold) <= 0.2:
            best = max(best, np.mean(scores[truth] >= threshold))
    assert tpr_at_fpr(scores, truth, 0.2) == best


def test_the_false_positive_rate_is_never_above_the_one_asked_for():
    scores, truth = np.r_[np.ones(10), np.ones(2), np.zeros(98)], np.r_[np.ones(10), np.zeros(100)]
    assert tpr_at_fpr(scores, truth, 0.0199) == 0  # both tied negatives would pass, or neither
    assert tpr_at_fpr(scores, truth, 0.02) == 1
    for hundredths in range(101):  # k / 100 as a rate allows exactly k of 100
        ladder = np.r_[np.arange(100), np.arange(100) + 0.5]
        others = np.r_[np.zeros(100, bool), np.ones(100, bool)]
        assert tpr_at_fpr(ladder, others, hundredths / 100) == min(1, (hundredths + 1) / 100)


def test_matrix_weights_answer_row_by_row_in_chunks(monkeypatch):
    rng = np.random.default_rng(2)
    n = 50
    truth, scores = rng.random(n) < 0.4, rng.integers(0, 9, n)
    weights = rng.integers(0, 3, (7, n)).astype(np.uint16)
    probability, predicted = rng.random(n), scores > 4
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", 3 * 8 * statistics._COPIES * n)  # chunks of 3, 3 and 1
    for figure in [
        lambda w: auroc(scores, truth, w),
        lambda w: average_precision(scores, truth, w),
        lambda w: tpr_at_fpr(scores, truth, 0.1, w),
        lambda w: partial_auroc(scores, truth, 0.1, w),
        lambda w: accuracy(predicted, truth, w),
        lambda w: brier(probability, truth, w),
        lambda w: expected_calibration_error(probability, truth, 5, w),
    ]:
        together = figure(weights)
        assert together.shape == (7,)
        assert list(together) == pytest.approx([figure(row) for row in weights])
        assert isinstance(figure(None), float)


def test_one_class_or_no_flag_is_nan_not_an_error():
    scores, weights = np.arange(4.0), np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    truth = np.array([True, True, False, False])
    for figure in (auroc, average_precision, lambda s, t, w: tpr_at_fpr(s, t, 0.5, w)):
        assert list(np.isnan(figure(scores, truth, weights))) == [True, True, False, True]
    nothing = np.zeros(4, bool)
    assert math.isnan(precision(nothing, truth))
    assert recall(nothing, truth) == 0
    assert false_positive_rate(nothing, truth) == 0
    assert accuracy(nothing, truth) == 0.5
    assert math.isnan(recall(truth, nothing))
    assert math.isnan(false_positive_rate(truth, ~nothing))
    assert math.isnan(accuracy(truth, truth, np.zeros(4)))


@given(samples(whole=False))
def test_flag_figures_equal_sklearn(sample):
    scores, truth, weights = sample
    predicted = scores > 0
    options = {"sample_weight": weights}
    assert accuracy(predicted, truth, weights) == pytest.approx(metrics.accuracy_score(truth, predicted, **options))
    assert recall(predicted, truth, weights) == pytest.approx(metrics.recall_score(truth, predicted, **options))
    if predicted.any():
        expected = metrics.precision_score(truth, predicted, **options)
        assert precision(predicted, truth, weights) == pytest.approx(expected)
    probability = (scores + 3) / 6
    assert brier(probability, truth, weights) == pytest.approx(
        metrics.brier_score_loss(truth, probability, sample_weight=weights)
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: auroc([0.1, math.nan], [0, 1]), "scores holds NaN in 1 of 2"),
        (lambda: auroc([0.1, 0.2], [0, 2]), "truth holds values other than 0 and 1"),
        (lambda: auroc([0.1], [0, 1]), "scores has shape"),
        (lambda: auroc([], []), "no rows"),
        (lambda: auroc([0.1, 0.2], [0, 1], np.array([1, -1])), "not negative"),
        (lambda: auroc([0.1, 0.2], [0, 1], np.array([1, math.nan])), "finite"),
        (lambda: auroc([0.1, 0.2], [0, 1], np.ones(3)), "weights have shape"),
        (lambda: tpr_at_fpr([0.1, 0.2], [0, 1], 1.5), "fpr is 1.5"),
        (lambda: accuracy([True], [True, False]), "predicted has 1 rows"),
        (lambda: brier([0.1, 1.2], [0, 1]), "outside 0 to 1"),
        (lambda: brier([0.1, math.nan], [0, 1]), "NaN"),
        (lambda: expected_calibration_error([], []), "no rows"),
        (lambda: expected_calibration_error([0.5], [1], bins=0), "bins is 0"),
        (lambda: cluster_bootstrap_weights([], 5, np.random.default_rng()), "clusters"),
        (lambda: cluster_bootstrap_weights([1], 0, np.random.default_rng()), "replicates"),
        (lambda: cluster_bootstrap_weights([1], 1, np.random.default_rng(), [1, 2]), "strata"),
        (lambda: bootstrap_estimate(lambda w: 0.0, np.ones(3)), "weights have shape"),
    ],
)
def test_wrong_arguments_are_value_errors_that_say_which(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# -------------------------------------------------------------------------------------------------- calibration
def _ece_by_loop(probability, truth, bins, weights):
    ordered = sorted(probability)
    starts = [ordered[k * len(ordered) // bins] for k in range(1, bins)]
    total = 0.0
    for index in range(bins):
        rows = [i for i, p in enumerate(probability) if sum(p >= start for start in starts) == index]
        mass = sum(weights[i] for i in rows)
        if mass:
            confidence = sum(weights[i] * probability[i] for i in rows) / mass
            rate = sum(weights[i] * truth[i] for i in rows) / mass
            total += mass * abs(confidence - rate)
    return total / sum(weights)


@given(samples(), st.integers(1, 12))
def test_calibration_error_equals_a_loop(sample, bins):
    scores, truth, weights = sample
    probability = (scores + 3) / 6
    assert expected_calibration_error(probability, truth, bins, weights) == pytest.approx(
        _ece_by_loop(probability, truth, bins, weights)
    )


def test_bins_hold_equal_numbers_and_never_split_ties():
    rng = np.random.default_rng(3)
    assert list(np.bincount(equal_mass_bins(rng.random(100), 10))) == [10] * 10
    tied = equal_mass_bins(np.r_[np.zeros(95), rng.random(5)], 10)
    assert len(set(tied[:95])) == 1
    assert expected_calibration_error(np.full(100, 0.2), np.arange(100) < 20) == pytest.approx(0)
    assert expected_calibration_error(np.full(100, 0.9), np.arange(100) < 20) == pytest.approx(0.7)


# ---------------------------------------------------------------------------------------------------- bootstrap
def test_patients_are_resampled_together_and_as_often_as_there_are_patients():
    rng = np.random.default_rng(4)
    patients = rng.integers(0, 15, 40) * 1000
    weights = cluster_bootstrap_weights(patients, 300, rng)
    assert weights.shape == (300, 40)
    assert weights.dtype == np.uint16
    names, first = np.unique(patients, return_index=True)
    for name, row in zip(names, first, strict=True):
        assert (weights[:, patients == name] == weights[:, [row]]).all()
    assert (weights[:, first].sum(axis=1) == len(names)).all()
    assert weights[:, first].mean() == pytest.approx(1)
    assert weights[:, first].var(axis=1).mean() == pytest.approx(1 - 1 / len(names), abs=0.1)  # multinomial


def test_strata_keep_both_classes_in_every_resample():
    patients = np.r_[np.arange(50), 50, 50, 51]
    labels = np.r_[np.zeros(50, int), 0, 1, 1]  # patient 50 has a stay of either label: stratum 1
    plain = cluster_bootstrap_weights(patients, 400, np.random.default_rng(5))
    assert (plain[:, labels == 1].sum(axis=1) == 0).any()
    kept = cluster_bootstrap_weights(patients, 400, np.random.default_rng(5), labels)
    assert (kept[:, labels == 1].sum(axis=1) == 2).all()
    assert (kept[:, :50].sum(axis=1) == 50).all()
    assert (kept[:, 50] == kept[:, 51]).all()


def test_equal_generators_give_equal_resamples():
    first, second = (cluster_bootstrap_weights(np.arange(9), 20, np.random.default_rng(6)) for _ in range(2))
    assert (first == second).all()
    assert (first != cluster_bootstrap_weights(np.arange(9), 20, np.random.default_rng(7))).any()


def test_the_interval_of_a_mean_covers_it_about_95_times_in_100():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(300):
        patients = np.repeat(np.arange(60), 3)
        correct = np.repeat(rng.random(60) < 0.7, 3)  # a patient's stays agree: rows are far from independent
        weights = cluster_bootstrap_weights(patients, 200, rng)
        estimate = bootstrap_estimate(lambda w, correct=correct: accuracy(correct, np.ones(180), w), weights)
        assert estimate.value == pytest.approx(correct.mean())
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.99


def test_undefined_figures_are_none_never_nan():
    weights = np.array([[1, 0], [0, 1], [1, 1], [2, 0]])
    truth = np.array([True, False])
    assert bootstrap_estimate(lambda w: auroc([1, 0], truth, w), weights) == Estimate(1.0, None, None)
    assert bootstrap_estimate(lambda w: auroc([1, 0], truth, w), np.ones((4, 2))) == Estimate(1.0, 1.0, 1.0)
    half = np.array([[1, 1], [1, 1], [1, 0], [0, 1]])
    assert bootstrap_estimate(lambda w: auroc([1, 0], truth, w), half) == Estimate(1.0, 1.0, 1.0)
    nowhere = bootstrap_estimate(lambda w: precision([False, False], truth, w), weights)
    assert nowhere.as_dict() == {"value": None, "low": None, "high": None}


def test_the_interval_is_the_percentiles_of_the_defined_replicates():
    weights = np.arange(202.0).reshape(101, 2)
    replicates = np.r_[np.linspace(0, 1, 81), np.full(20, math.nan)]
    estimate = bootstrap_estimate(lambda w: 0.4 if w is None else replicates, weights)
    assert estimate == Estimate(0.4, pytest.approx(0.025), pytest.approx(0.975))


def test_a_paired_difference_is_narrower_than_two_separate_samples():
    rng = np.random.default_rng(9)
    truth = np.ones(200)
    baseline = rng.random(200) < 0.5
    attacked = baseline | (rng.random(200) < 0.1)
    weights = cluster_bootstrap_weights(np.arange(200), 500, rng)
    lift = bootstrap_estimate(lambda w: recall(attacked, truth, w) - recall(baseline, truth, w), weights)
    alone = bootstrap_estimate(lambda w: recall(attacked, truth, w), weights)
    assert lift.value == pytest.approx(attacked.mean() - baseline.mean())
    assert lift.low > 0
    assert lift.high - lift.low < 0.7 * (alone.high - alone.low)


@settings(max_examples=30)
@given(samples())
def test_reversed_scores_mirror_the_auroc(sample):
    scores, truth, weights = sample
    assert auroc(-scores, truth, weights) == pytest.approx(1 - auroc(scores, truth, weights))


@pytest.mark.parametrize("rows", [1, 2, 50, 3000])
def test_means_in_one_pass_are_those_one_by_one(rows):
    rng = np.random.default_rng(rows)
    weights = cluster_bootstrap_weights(rng.integers(0, rows, rows), 100, rng)
    columns = rng.integers(-1, 2, (rows, 3)).astype(np.int8)
    for chosen in (weights, rng.random((100, rows))):
        found = whole_means(columns, chosen)
        for column, together in zip(columns.T, found, strict=True):
            alone = bootstrap_estimate(lambda w, column=column: mean(column, w), chosen)
            assert together.value == alone.value
            assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert whole_means(columns, weights) == [
        bootstrap_estimate(lambda w, column=column: mean(column, w), weights) for column in columns.T
    ]
