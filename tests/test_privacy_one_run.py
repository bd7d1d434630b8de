import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.errors import BackdoorError
from backdoor_core.privacy.one_run import audit_one_run, coin_flips, epsilon_lower_bound, guesses, p_value


@pytest.mark.parametrize(
    ("arguments", "published"),
    [
        ((100, 100, 75, 0.0), 0.702),
        ((100, 100, 75, 1e-4), 0.699),
        ((1000, 100, 75, 1e-4), 0.673),
        ((100_000, 1510, 1439, 1e-5), 2.675),
    ],
)
def test_the_values_printed_in_the_paper(arguments, published):
    # Appendix D, and the text on figure 11; the paper rounds some and truncates others, so one unit of the last digit.
    assert epsilon_lower_bound(*arguments) == pytest.approx(published, abs=1e-3)


def test_the_p_value_printed_in_the_paper():
    assert p_value(100, 100, 75, math.log(3), 0) == pytest.approx(0.553, abs=5e-4)


@pytest.mark.parametrize("m", [16, 300])
def test_all_right_has_a_closed_form_at_delta_0(m):
    rate = 0.05 ** (1 / m)  # the one at which all guesses are right with probability 0.05
    assert epsilon_lower_bound(m, m, m, 0.0) == pytest.approx(math.log(rate / (1 - rate)), abs=1e-6)
    if m == 300:
        assert rate == pytest.approx(0.990, abs=5e-4)
        assert epsilon_lower_bound(m, m, m, 0.0) == pytest.approx(4.6, abs=0.01)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_p_value_equals_the_theorem_in_exact_sums(data):
    m = data.draw(st.integers(1, 25))
    r = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, r))
    epsilon, delta = data.draw(st.floats(0, 5)), data.draw(st.sampled_from([0.0, 1e-5, 1e-3, 0.1]))
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    slack = max(sum(mass[k] for k in range(r + 1) if v > k >= v - i) / i for i in range(1, m + 1))
    expected = min(1.0, sum(mass[v:]) + 2 * m * delta * slack)
    assert p_value(m, r, v, epsilon, delta) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_bound_grows_with_what_is_right_and_falls_with_delta_and_confidence():
    bounds = [epsilon_lower_bound(200, 100, right, 1e-5) for right in range(40, 101, 5)]
    assert bounds == sorted(bounds)
    assert bounds[0] == bounds[2] == 0
    assert epsilon_lower_bound(200, 100, 90, 1e-2) < epsilon_lower_bound(200, 100, 90, 1e-5)
    assert epsilon_lower_bound(200, 100, 90, 1e-5, 0.99) < epsilon_lower_bound(200, 100, 90, 1e-5, 0.9)
    assert epsilon_lower_bound(200, 100, 90, 0.5) == 0


def test_every_smaller_epsilon_is_refuted_and_a_larger_one_is_not():
    bound = epsilon_lower_bound(500, 100, 90, 1e-4)
    assert all(p_value(500, 100, 90, e, 1e-4) <= 0.05 for e in np.linspace(0, bound, 50))
    assert p_value(500, 100, 90, bound + 1e-6, 1e-4) > 0.05


@pytest.mark.parametrize("numbers", [[(200, 200)], [(100, 0)], [(50, 50), (200, 200), (20, 0)]])
def test_randomized_response_breaks_the_bound_no_more_often_than_promised(numbers):
    # Each coin told truly with probability e / (1 + e): epsilon is exactly 1, and guesses could not do better.
    rng, above, bounds = np.random.default_rng(0), 0, []
    for _ in range(80):
        coins = coin_flips(400, rng)
        told = coins ^ (rng.random(400) > math.e / (1 + math.e))
        found = audit_one_run(told + 0.1 * rng.random(400), coins, numbers, delta=0.0)
        bounds.append(found.epsilon)
        above += found.epsilon > 1
    assert above / 80 < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 80)
    assert np.mean(bounds) > (0.7 if numbers == [(200, 200)] else 0.3)


def test_blind_guesses_show_nothing_and_perfect_ones_reach_the_ceiling():
    rng = np.random.default_rng(1)
    coins = coin_flips(300, rng)
    assert audit_one_run(rng.random(300), coins, [(50, 50)], 1e-5).epsilon < 0.5
    perfect = audit_one_run(coins + 0.1 * rng.random(300), coins, [(100, 100)], 1e-5)
    assert perfect.epsilon == perfect.ceiling == epsilon_lower_bound(300, 200, 200, 1e-5)
    assert perfect.as_dict()["trials"] == [{"included": 100, "excluded": 100, "right": 200, "epsilon": perfect.epsilon}]


def test_several_numbers_of_guesses_pay_for_the_choice():
    rng = np.random.default_rng(2)
    coins = coin_flips(400, rng)
    scores = coins + rng.normal(size=400)
    numbers = [(25, 25), (50, 50), (100, 100), (200, 200)]
    together = audit_one_run(scores, coins, numbers, 1e-5)
    alone = [audit_one_run(scores, coins, [pair], 1e-5) for pair in numbers]
    for trial, one in zip(together.trials, alone, strict=True):
        assert trial.right == one.trials[0].right
        assert trial.epsilon == epsilon_lower_bound(
            400, sum((trial.included, trial.excluded)), trial.right, 1e-5, 0.9875
        )
        assert trial.epsilon < one.epsilon
    assert together.epsilon == max(trial.epsilon for trial in together.trials)


def test_guesses_take_the_highest_and_the_lowest_and_leave_the_rest():
    assert guesses([0.3, 0.9, 0.1, 0.5, 0.7], 2, 1).tolist() == [0, 1, -1, 0, 1]
    assert guesses([1.0, 1.0, 1.0], 1, 1).tolist() == [-1, 0, 1]
    assert guesses([1.0, 2.0], 0, 0).tolist() == [0, 0]
    assert guesses([1.0, 2.0], 0, 2).tolist() == [-1, -1]
    with pytest.raises(ValueError, match="do not fit 2 canaries"):
        guesses([1.0, 2.0], 2, 1)
    with pytest.raises(ValueError, match="NaN"):
        guesses([1.0, math.nan], 1, 0)


def test_coins_are_fair_and_independent_and_the_seed_decides():
    coins = coin_flips(10_000, np.random.default_rng(3))
    assert coins.dtype == np.bool_
    assert coins.mean() == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(coins[1:], coins[:-1])[0, 1] == pytest.approx(0, abs=0.04)
    assert (coins == coin_flips(10_000, np.random.default_rng(3))).all()


def test_a_split_of_fixed_sizes_is_no_coin_flip():
    members = np.arange(1000) < 700
    with pytest.raises(BackdoorError, match="700 of 1000 canaries in the training data are no fair coin flips"):
        audit_one_run(np.zeros(1000), members, [(10, 10)], 1e-5)


@pytest.mark.parametrize("numbers", [[], [(0, 0)], [(3, 2)], [(-1, 2)]])
def test_numbers_of_guesses_that_do_not_fit_are_refused(numbers):
    with pytest.raises(BackdoorError, match="must be pairs with a sum from 1 to 4"):
        audit_one_run([1.0, 2.0, 3.0, 4.0], [True, False, True, False], numbers, 1e-5)


def test_impossible_arguments_are_refused():
    for arguments in ((10, 11, 5, 1.0, 0.0), (10, 5, 6, 1.0, 0.0), (10, 5, 5, -1.0, 0.0), (10, 5, 5, 1.0, 2.0)):
        with pytest.raises(ValueError, match=r"impossible|must be"):
            p_value(*arguments)
    with pytest.raises(ValueError, match="confidence"):
        epsilon_lower_bound(10, 5, 5, 0.0, 1.0)
