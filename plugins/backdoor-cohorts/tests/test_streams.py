"""The random streams of the simulated subjects."""

import numpy as np
import pytest

from backdoor_cohorts.simulate.streams import autoregressive, draw, open_streams


def first_draws(*args):
    return [stream.random(3).tolist() for stream in open_streams(*args)]


def test_a_subject_has_the_same_stream_whoever_else_is_simulated():
    assert first_draws(5, range(4))[2:] == first_draws(5, [2, 3])
    assert first_draws(5, range(4)) != first_draws(6, range(4))


def test_every_branch_of_a_subject_is_a_stream_of_its_own():
    drawn = first_draws(5, range(20)) + first_draws(5, range(20), 1) + first_draws(5, range(20), 2)
    assert len({tuple(numbers) for numbers in drawn}) == 60


def test_the_rows_of_a_subject_do_not_depend_on_how_many_are_drawn():
    one, two = (draw(open_streams(5, [0, 1]), rows, {"a": 2}, {"b": 3}) for rows in ([2, 1], [2, 4]))
    for few, more in zip(one, two, strict=True):
        np.testing.assert_array_equal(few.values, more.values[:3])
    assert one[1]["b"].shape == (3, 3)


def test_autoregressive_has_unit_variance_and_the_given_correlation():
    series = autoregressive(np.random.default_rng(0).standard_normal((20000, 6), dtype=np.float32), 0.6)
    assert series.std(axis=0) == pytest.approx(np.ones(6), abs=0.03)
    assert np.corrcoef(series[:, 2], series[:, 3])[0, 1] == pytest.approx(0.6, abs=0.02)
    assert np.corrcoef(series[:, 1], series[:, 3])[0, 1] == pytest.approx(0.36, abs=0.03)
