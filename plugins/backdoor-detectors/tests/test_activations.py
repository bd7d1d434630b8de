import tracemalloc

import numpy as np
import pytest

from backdoor_detectors.activations import medians, principal_directions


def test_directions_of_some_rows_are_those_of_a_copy_of_them():
    rng = np.random.default_rng(0)
    activations = (rng.normal(size=(5000, 9)) * np.geomspace(1, 50, 9) + 100).astype(np.float32)
    rows = np.flatnonzero(rng.random(5000) < 0.7)  # several blocks, the last of them not full
    found = principal_directions(activations, rows)
    own = activations[rows].astype(np.float64)
    centered = own - own.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    assert found.rank == 9
    assert found.mean == pytest.approx(own.mean(axis=0), rel=1e-13)
    assert found.variances == pytest.approx(sizes**2 / len(rows), rel=1e-9)
    assert np.abs(found.project(4)) == pytest.approx(np.abs(centered @ directions[:4].T), rel=1e-6, abs=1e-6)
    assert found.project(20).shape == (len(rows), 9)
    assert principal_directions(own).variances == pytest.approx(found.variances, rel=1e-12)


def test_directions_need_no_copy_of_the_rows():
    activations = np.random.default_rng(1).standard_normal((20_000, 64), dtype=np.float32)
    tracemalloc.start()
    principal_directions(activations).project(5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < activations.nbytes / 2


def test_medians_are_in_float64():
    activations = np.random.default_rng(2).normal(size=(401, 37)).astype(np.float32)
    for rows in (np.arange(401), np.arange(0, 400, 2), np.array([7])):
        expected = np.median(activations[rows].astype(np.float64), axis=0)
        assert (medians(activations, rows) == expected).all()
