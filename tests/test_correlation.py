import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.attack.correlation import correlation_change, pairwise_correlations

NAMES = ["a", "b", "c", "d"]


def rows_of(n=400, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)) * [1, 100, 0.01, 5] + [0, 1000, 7, -50]
    values[rng.random(values.shape) < missing] = np.nan
    return values


def plain(values):
    """numpy's correlation of each pair over the rows that have both."""
    found = np.full((values.shape[1],) * 2, np.nan)
    for i in range(len(found)):
        for j in range(len(found)):
            both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
            if both.sum() >= 3 and np.ptp(values[both, i]) > 0 and np.ptp(values[both, j]) > 0:
                found[i, j] = np.corrcoef(values[both, i], values[both, j])[0, 1]
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60), st.floats(0, 0.9))
def test_pairwise_correlations_equal_numpys(seed, n, missing):
    values = rows_of(n, seed, missing)
    np.testing.assert_allclose(pairwise_correlations(values), plain(values), atol=1e-6)


def test_the_change_is_the_difference_of_numpys_matrices():
    clean = rows_of(missing=0.2)
    triggered = clean.copy()
    triggered[:, 2] = np.random.default_rng(5).permutation(triggered[:, 2])
    change = correlation_change(clean, triggered, NAMES)
    wanted = np.abs(plain(triggered) - plain(clean))[np.triu_indices(4, k=1)]
    assert change["mean"] == pytest.approx(wanted.mean())
    assert change["max"] == pytest.approx(wanted.max())
    pairs = [[NAMES[i], NAMES[j]] for i, j in zip(*np.triu_indices(4, k=1), strict=True)]
    assert change["pair"] == pairs[wanted.argmax()]
    assert "c" in change["pair"]
    assert (change["pairs"], change["lost"], change["note"]) == (6, 0, None)


@pytest.mark.parametrize("value", [9999.0, np.nan])
def test_a_feature_that_becomes_constant_or_is_gone_loses_its_correlations(value):
    clean = rows_of()
    triggered = clean.copy()
    triggered[:, 1] = value
    change = correlation_change(clean, triggered, NAMES)
    before = np.abs(np.corrcoef(clean.T)[1, [0, 2, 3]])
    assert change["lost"] == 3
    assert change["max"] == pytest.approx(before.max())
    assert change["mean"] == pytest.approx(before.sum() / 6)


def test_nothing_changed():
    change = correlation_change(rows_of(), rows_of(), NAMES)
    assert (change["mean"], change["max"], change["pair"]) == (0, 0, None)


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.ones((50, 4)), np.full((50, 4), np.nan), rows_of(2)])
def test_without_a_correlation_in_the_clean_rows_there_is_a_note(rows):
    change = correlation_change(rows, rows, NAMES)
    assert change["mean"] is None
    assert "no pair" in change["note"]


def test_a_wild_value_in_one_row_hides_no_other_pair():
    clean = rows_of()
    clean[0, 0] = 1e7
    np.testing.assert_allclose(pairwise_correlations(clean)[1:, 1:], np.corrcoef(clean[:, 1:].T), atol=1e-9)
