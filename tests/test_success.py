import numpy as np
import pytest

from backdoor_core.attack.success import Response, attack_success
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
