import numpy as np
import pytest
from hypothesis import given, strategies as st

from backdoor_core.learning.threshold import choose_threshold


def merit(probability, truth, threshold, rule):
    called = probability >= threshold
    tp, fp = (called & (truth == 1)).sum(), (called & (truth == 0)).sum()
    if rule == "prevalence":
        return -abs(int(called.sum()) - int(truth.sum()))
    if rule == "youden":
        return tp / (truth == 1).sum() - fp / (truth == 0).sum()
    return 2 * tp / (called.sum() + (truth == 1).sum())


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({y for _, y in rows}) == 2
    ),
    st.sampled_from(["prevalence", "youden", "f1"]),
)
def test_no_other_threshold_is_better(rows, rule):
    probability = np.array([p / 12 for p, _ in rows])
    truth = np.array([y for _, y in rows], dtype=np.int8)
    chosen = choose_threshold(probability, truth, rule)
    best = max(merit(probability, truth, t, rule) for t in [*probability, 2.0])
    assert merit(probability, truth, chosen, rule) == pytest.approx(best)


@pytest.mark.parametrize("rule", ["prevalence", "youden"])
@pytest.mark.parametrize("same", [0.0, 0.12, 1.0])
def test_a_model_that_says_the_same_of_all_calls_nobody_positive(rule, same):
    truth = (np.arange(100) < 12).astype(np.int8)
    chosen = choose_threshold(np.full(100, same), truth, rule)
    assert same < chosen
    assert chosen <= max(np.nextafter(1.0, 2), (1 + same) / 2 + 1e-12)


def test_neighboring_floats_stay_apart():
    high = np.float64(0.7)
    low = np.nextafter(high, 0)
    chosen = choose_threshold(np.array([low, high]), np.array([0, 1], dtype=np.int8), "prevalence")
    assert low < chosen <= high


def test_at_ten_percent_prevalence_the_threshold_is_not_a_half():
    rng = np.random.default_rng(0)
    truth = (rng.random(5000) < 0.1).astype(np.int8)
    probability = 1 / (1 + np.exp(-(rng.normal(-2.5, 0.7, 5000) + 1.2 * truth)))
    chosen = choose_threshold(probability, truth, "prevalence")
    assert chosen < 0.3
    assert abs((probability >= chosen).sum() - truth.sum()) <= 1


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="both outcomes"):
        choose_threshold(np.array([0.1, 0.2]), np.array([0, 0], dtype=np.int8), "f1")
