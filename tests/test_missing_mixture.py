import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.attack.missing_mixture import MissingMixture, fit_missing_mixture

PATTERNS = np.array([[0.9, 0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.1, 0.5, 0.05]])


def planted(rows, seed=0):
    """Two kinds of stays, 30% and 70%."""
    rng = np.random.default_rng(seed)
    kind = (rng.random(rows) < 0.7).astype(int)
    return rng.random((rows, 5)) < PATTERNS[kind]


def test_the_likelihood_is_that_of_the_formula():
    mixture = MissingMixture(np.log([0.3, 0.7]), PATTERNS)
    row = np.array([True, False, True, True, False])
    chances = np.where(row, PATTERNS, 1 - PATTERNS).prod(axis=1)
    assert mixture.log_likelihood(row[None])[0] == pytest.approx(np.log(0.3 * chances[0] + 0.7 * chances[1]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6))
def test_the_probabilities_of_all_patterns_sum_to_one(seed, rows, columns):
    rng = np.random.default_rng(seed)
    mixture = fit_missing_mixture(rng.random((rows, columns)) < rng.random(), rng)
    every = np.array(list(itertools.product([False, True], repeat=columns)))
    assert np.exp(mixture.log_likelihood(every)).sum() == pytest.approx(1)


def test_it_comes_close_to_the_mixture_that_made_the_rows():
    truth = MissingMixture(np.log([0.3, 0.7]), PATTERNS)
    mixture = fit_missing_mixture(planted(4000), np.random.default_rng(0), components=2)
    fresh = planted(4000, seed=1)
    true, found = truth.log_likelihood(fresh).mean(), mixture.log_likelihood(fresh).mean()
    assert abs(true - found) < 0.01
    order = np.argsort(mixture.log_weight)
    np.testing.assert_allclose(mixture.missing[order], PATTERNS, atol=0.06)
    np.testing.assert_allclose(np.exp(mixture.log_weight[order]), [0.3, 0.7], atol=0.05)


def test_what_goes_missing_together_is_likelier_together():
    """Columns that are missing in the same half of the rows: independent columns would call all patterns equal."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.random((500, 1)) < 0.5, 6, axis=1)
    mixture = fit_missing_mixture(rows, rng)
    whole, half = mixture.log_likelihood(np.array([[True] * 6, [True] * 3 + [False] * 3]))
    assert whole == pytest.approx(np.log(0.5), abs=0.2)
    assert half < np.log(0.01)


def test_what_never_happened_is_unlikely_and_not_impossible():
    mixture = fit_missing_mixture(np.zeros((200, 3), dtype=bool), np.random.default_rng(0))
    never, usual = mixture.log_likelihood(np.array([[True, False, False], [False] * 3]))
    assert never == pytest.approx(np.log(0.5 / 201), abs=0.1)
    assert usual > -0.05


def test_more_rounds_explain_the_rows_better():
    rows = planted(1000)
    fits = [fit_missing_mixture(rows, np.random.default_rng(3), rounds=n) for n in (1, 3, 10, 100)]
    means = [fit.log_likelihood(rows).mean() for fit in fits]
    assert (np.diff(means) > -1e-3).all()
    assert means[-1] > means[0] + 0.01


def test_equal_generators_give_equal_mixtures_and_no_rows_are_refused():
    one, two = (fit_missing_mixture(planted(100), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one.missing, two.missing)
    with pytest.raises(ValueError, match="no rows"):
        fit_missing_mixture(np.zeros((0, 3), dtype=bool), np.random.default_rng(0))
