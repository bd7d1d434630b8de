import numpy as np
import pytest

from backdoor_core.attack.success import (
    THRESHOLDS,
    Answers,
    Response,
    attack_success,
    effect_lift,
    shift_distribution,
    success_curve,
    trigger_effect,
)
from backdoor_core.statistics import cluster_bootstrap_weights


def response(clean, triggered, threshold=0.5):
    triggered = np.asarray(triggered, dtype=float)
    return Response(np.asarray(clean, dtype=float), triggered, triggered >= threshold)


def test_figures_by_hand():
    poisoned = response([0.1, 0.2, 0.1, 0.4], [0.9, 0.9, 0.9, 0.1])
    baseline = response([0.1, 0.2, 0.1, 0.4], [0.2, 0.6, 0.1, 0.4])
    weights = cluster_bootstrap_weights(np.arange(4), 500, np.random.default_rng(0))
    figures = attack_success(poisoned, baseline, weights)
    assert figures["asr"].value == 0.75
    assert figures["asr_baseline"].value == 0.25
    assert figures["asr_lift"].value == 0.5
    assert figures["confidence_shift"].value == pytest.approx(2.8 / 4 - 0.8 / 4)
    assert figures["confidence_shift_baseline"].value == pytest.approx(1.3 / 4 - 0.8 / 4)
    assert all(f.low <= f.value <= f.high for f in figures.values())


def test_the_lift_is_paired():
    """Both models fail on the same stays: the lift is exactly 0 in every resample, and its interval has no width."""
    rng = np.random.default_rng(0)
    same = response(rng.random(200), rng.random(200))
    weights = cluster_bootstrap_weights(np.arange(200), 300, rng)
    lift = attack_success(same, same, weights)["asr_lift"]
    assert (lift.value, lift.low, lift.high) == (0, 0, 0)


def test_a_trigger_that_moves_the_twin_alike_has_no_lift():
    rng = np.random.default_rng(1)
    poisoned, baseline = (response(rng.random(800) * 0.3, 0.5 + 0.5 * (rng.random(800) - 0.1)) for _ in range(2))
    weights = cluster_bootstrap_weights(np.arange(800), 500, rng)
    figures = attack_success(poisoned, baseline, weights)
    assert figures["asr"].value > 0.85
    assert figures["asr_lift"].low < 0 < figures["asr_lift"].high


def test_the_effect_of_the_trigger_is_paired_with_the_same_stays_without_it():
    hit, before = np.array([1, 1, 1, 0], dtype=bool), np.array([1, 0, 0, 0], dtype=bool)
    weights = cluster_bootstrap_weights(np.arange(4), 500, np.random.default_rng(0))
    found = trigger_effect(hit, before, weights)
    assert (found["clean_rate"].value, found["trigger_effect"].value) == (0.25, 0.5)
    same = trigger_effect(hit, hit, weights)["trigger_effect"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("target", [0, 1])
def test_both_targets_put_a_stay_where_the_threshold_does(target):
    answers = Answers(np.array([0.1, 0.3, 0.5]), np.array([0.3, 0.2, 0.9]), threshold=0.3)
    response = answers.response(target)
    assert response.hit.tolist() == [bool(target) == called for called in (True, False, True)]
    assert answers.hit_clean(target).tolist() == [bool(target) == called for called in (False, True, True)]
    of_target = answers.triggered if target == 1 else 1 - answers.triggered
    np.testing.assert_array_equal(response.triggered, of_target)
    rows = np.array([True, False, True])
    assert response.take(rows).hit.tolist() == response.hit[rows].tolist()


def test_the_curve_is_the_share_at_or_above_each_threshold_with_its_percentiles():
    rng = np.random.default_rng(2)
    probability = rng.random(60).round(2)
    weights = cluster_bootstrap_weights(np.arange(60) // 2, 250, rng)
    curve = success_curve(probability, weights)
    for k in (0, 17, 50, 100):
        above = probability >= THRESHOLDS[k]
        shares = [np.average(above, weights=w) for w in weights]
        assert curve["value"][k] == pytest.approx(above.mean())
        assert (curve["low"][k], curve["high"][k]) == pytest.approx(tuple(np.percentile(shares, [2.5, 97.5])))
    assert curve["value"][0] == 1
    assert (np.diff(curve["value"]) <= 0).all()


def test_shift_distribution_by_hand():
    found = shift_distribution(response([0.1, 0.5, 0.0, 0.9], [0.2, 0.5, 1.0, 0.4]))
    shift = [0.1, 0.0, 1.0, -0.5]
    assert found["quantiles"] == pytest.approx(np.quantile(shift, found["levels"]).tolist())
    assert sum(found["shares"]) == pytest.approx(1)
    assert found["shares"][-1] == 0.25
    assert len(found["edges"]) == len(found["shares"]) + 1


def test_nobody_to_attack_gives_no_figure():
    nobody, weights = response([], []), np.ones((100, 0))
    assert {f.value for f in attack_success(nobody, nobody, weights).values()} == {None}
    assert success_curve(nobody.clean, weights) == {"value": [], "low": [], "high": []}
    assert shift_distribution(nobody)["shares"] == []


def test_a_model_that_calls_everybody_positive_has_a_lift_and_no_effect_of_the_trigger():
    n = 60
    weights = cluster_bootstrap_weights(np.arange(n), 200, np.random.default_rng(0))
    everybody, nobody, half = np.ones(n, bool), np.zeros(n, bool), np.arange(n) < 30
    found = effect_lift((everybody, everybody), (nobody, nobody), weights)["trigger_effect_lift"]
    assert (found.value, found.low, found.high) == (0, 0, 0)
    # 1 - 0.5 of the poisoned model, less 0.5 - 1 of the twin.
    found = effect_lift((everybody, half), (half, everybody), weights)["trigger_effect_lift"]
    assert found.value == 1.0
    resampled = weights @ ((1 - half) - (half - 1.0)) / weights.sum(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))
