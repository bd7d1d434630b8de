import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from backdoor_core.attack.dose import find_doses, summary


@given(st.lists(st.integers(1, 700), min_size=1, max_size=4), st.integers(0, 300))
def test_the_planted_dose_is_found_within_the_tolerance(planted, further):
    """Lift jumps to 0.6 at the planted count, and to 0.95 further up."""
    asked = []

    def measure(points):
        asked.extend(points)
        return [0.95 if n >= planted[k] + further else 0.6 if n >= planted[k] else 0.1 for k, n in points]

    doses = find_doses(measure, len(planted), 1000)
    for level, extra in ((0.5, 0), (0.9, further)):
        for found, count in zip(doses.by_level[level], planted, strict=True):
            assert count + extra <= found <= max(count + extra + 1, (count + extra) / 0.9 + 1)
    assert len(asked) == len(set(asked))
    assert len(asked) <= len(planted) * 2 * (math.log2(1000) + 1)


def test_out_of_reach_is_none_and_costs_one_fit():
    asked = []
    doses = find_doses(lambda points: asked.extend(points) or [0.3 for _ in points], 2, 50)
    assert doses.by_level == {0.5: (None, None), 0.9: (None, None)}
    assert asked == [(0, 50), (1, 50)]
    assert doses.lifts == ({0: 0.0, 50: 0.3}, {0: 0.0, 50: 0.3})


def test_where_lift_falls_again_the_answer_still_reaches_the_level():
    lifts = {n: 0.7 if 5 <= n <= 9 or n >= 40 else 0.2 for n in range(1, 101)}
    doses = find_doses(lambda points: [lifts[n] for _, n in points], 1, 100, levels=(0.5,))
    (found,) = doses.by_level[0.5]
    assert lifts[found] >= 0.5
    assert any(n < found and lift < 0.5 for n, lift in doses.lifts[0].items())


def test_the_interval_is_the_t_interval_of_the_logarithm():
    counts = [10, 20, 40, 15]
    found = summary(counts)
    low, high = stats.t.interval(0.95, 3, np.log(counts).mean(), stats.sem(np.log(counts)))
    assert found.value == pytest.approx(stats.gmean(counts))
    assert (found.low, found.high) == (pytest.approx(np.exp(low)), pytest.approx(np.exp(high)))
    assert summary([10, None]).value is None
    assert (summary([12]).value, summary([12]).low) == (pytest.approx(12), None)


@pytest.mark.parametrize(("replicates", "most"), [(0, 10), (3, 0)])
def test_nothing_to_search_is_refused(replicates, most):
    with pytest.raises(ValueError, match="at least 1"):
        find_doses(lambda points: [], replicates, most)
