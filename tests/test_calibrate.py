import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from backdoor_core.detection.calibrate import Scored, benjamini_hochberg, flag, p_values, standardized


def runs(count, rows=2000, seed=0):
    """Runs without poison whose scores differ in place and scale."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(rows) % 8 == 0).astype(int)
    return [Scored(rng.uniform(1, 9) * (rng.exponential(size=rows) + 3 * labels) - 5, labels) for _ in range(count)]


def test_without_poison_p_values_are_uniform():
    run, *nulls = runs(9)
    for label in (0, 1):
        assert stats.kstest(p_values(run, nulls)[run.labels == label], "uniform").pvalue > 0.01


def test_without_poison_the_flagged_share_stays_at_the_level():
    """At most the rate of the runs may flag anything; 40 runs, each against the others of its group of eight."""
    any_flag = [
        flag(p_values(run, nulls), run.labels, 0.05).any()
        for group in range(40)
        for run, *nulls in [runs(8, rows=500, seed=group)]
    ]
    assert sum(any_flag) <= stats.binom.ppf(0.999, 40, 0.05)


def test_planted_rows_are_flagged_at_the_false_discovery_rate():
    run, *nulls = runs(6, rows=4000)
    truth = (run.labels == 1) & (np.arange(4000) < 800)
    scores = run.scores + np.where(truth, 30 * np.std(run.scores), 0)
    flagged = flag(p_values(Scored(scores, run.labels), nulls), run.labels, 0.05)
    assert flagged[truth].all()
    assert (flagged & ~truth).sum() <= 0.15 * flagged.sum()


def test_p_values_by_hand():
    null = Scored(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.zeros(5, int))
    found = p_values(Scored(np.array([1.0, 2.0, 3.0, 4.0, 5.0]) * 10 - 7, np.zeros(5, int)), [null])
    assert found == pytest.approx([6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6])
    as_they_are = p_values(Scored(np.array([0.0, 3.0, 4.5, 5.0, 5.5]), np.zeros(5, int)), [null], absolute=True)
    assert as_they_are == pytest.approx([6 / 6, 4 / 6, 2 / 6, 2 / 6, 1 / 6])


def test_poison_that_is_a_third_of_a_label_does_not_set_the_scale():
    rng = np.random.default_rng(0)
    nulls = [Scored(rng.normal(size=1000), np.ones(1000, int)) for _ in range(4)]
    scores = np.r_[rng.normal(size=700), rng.normal(20, 1, 300)]
    p = p_values(Scored(scores * 3 + 7, np.ones(1000, int)), nulls)
    assert (p[700:] < 1e-3).all()
    assert (p[:700] < 0.01).mean() < 0.03


@pytest.mark.parametrize("poisoned", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("far", [12, 1e6])
def test_poison_is_found_however_far_out_it_lies_and_though_it_is_almost_half_of_a_label(poisoned, far):
    rng = np.random.default_rng(1)
    nulls = [Scored(scale * rng.normal(size=400), np.ones(400, int)) for scale in (0.5, 1, 2)]
    count = int(400 * poisoned)
    scores = np.r_[rng.normal(size=400 - count), far + rng.normal(size=count)]
    assert flag(p_values(Scored(scores, np.ones(400, int)), nulls), np.ones(400, int), 0.025)[-count:].all()


@pytest.mark.parametrize("middle", [0.25, 0.5, 0.65, 0.75, 0.9])
def test_the_unit_does_not_jump_where_many_rows_tie(middle):
    """Clean runs of one law, with a little more or fewer zeros than the share at which a quantile leaves the tie."""
    rng = np.random.default_rng(2)

    def run(zeros):
        return Scored(np.where(np.arange(1000) < zeros * 1000, 0, rng.lognormal(-8, 2, 1000)), np.zeros(1000, int))

    for more, less in ((0.002, -0.002), (0.01, -0.01)):
        for own, others in ((more, less), (less, more)):
            p = p_values(run(middle + own), [run(middle + others) for _ in range(3)])
            assert not flag(p, np.zeros(1000, int), 0.05).any()


def test_units_by_hand():
    """Of 1 to 5 the lowest half are 1, 2 and 3, on average 1 from the median; of the second run likewise 10."""
    one, ten = standardized([np.arange(1.0, 6), 10 * np.arange(1.0, 6)])
    assert one.tolist() == ten.tolist() == [-2, -1, 0, 1, 2]
    # 0.4 of the first run tie: the lowest 65% of its rows are 0, 0 and 1, on average 2/3 from its median.
    first, second = standardized([np.array([0.0, 0, 1, 3, 9]), np.array([1.0, 2, 3, 4, 5])])
    assert first == pytest.approx([-1.5, -1.5, 0, 3, 12])
    # More than half tie in one run: neither has a unit.
    first, second = standardized([np.array([0.0, 0, 0, 3, 9]), np.array([10.0, 20, 30, 40, 50])])
    assert (first.tolist(), second.tolist()) == ([0, 0, 0, 3, 9], [-20, -10, 0, 10, 20])
    assert [len(scores) for scores in standardized([np.ones(1), np.empty(0)])] == [1, 0]


def test_flags_that_few_rows_have_keep_their_scale():
    null = Scored(np.r_[np.zeros(98), 1, 1], np.zeros(100, int))
    found = p_values(Scored(np.r_[np.zeros(97), 1, 2, 2], np.zeros(100, int)), [null])
    assert found[-3:] == pytest.approx([3 / 101, 1 / 101, 1 / 101])


def test_a_label_without_null_rows_is_not_suspicious():
    null = Scored(np.arange(4.0), np.zeros(4, int))
    assert p_values(Scored(np.arange(4.0), np.array([0, 0, 1, 1])), [null])[2:].tolist() == [1, 1]
    with pytest.raises(ValueError, match="at least one null run"):
        p_values(null, [])


@given(st.lists(st.floats(0.001, 1), max_size=60), st.floats(0.01, 0.5))
def test_the_cut_is_scipys(p, rate):
    p = np.array(p)
    expected = stats.false_discovery_control(p) <= rate if len(p) else np.zeros(0, bool)
    # scipy rounds p N / i where this rounds rate i / N: equal but for ties in the last bit.
    near = np.abs(stats.false_discovery_control(p) - rate) < 1e-12 if len(p) else expected
    assert np.array_equal(benjamini_hochberg(p, rate)[~near], expected[~near])


def test_poison_of_a_rare_label_is_found_though_its_p_values_are_coarse():
    """28 poisoned among 200 rows of a label, and 1,200 rows of the other: over all rows at once none would pass."""
    labels = np.repeat([0, 1], [1200, 200])
    rng = np.random.default_rng(0)
    nulls = [Scored(rng.normal(size=1400), labels) for _ in range(4)]
    scores = rng.normal(size=1400)
    scores[-28:] += 50
    p = p_values(Scored(scores, labels), nulls)
    assert not benjamini_hochberg(p, 0.05)[-28:].any()
    assert np.flatnonzero(flag(p, labels, 0.05)).tolist() == list(range(1372, 1400))
