import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backdoor_core.contracts import Context, DetectionCase, Feature, TableView
from backdoor_core.testing.detectors import MadeVictim


def _detect(detector, activations, labels, *, view=None, truth=None, granted=None, seed=0, **options):
    if view is None:
        feature = Feature("heart_rate", "beats/min", 0, 300)
        view = TableView(np.arange(len(labels)), (feature,), np.full((len(labels), 1), 80, np.float32))
    shown = np.zeros((len(labels), 1), np.float32) if activations is None else np.asarray(activations, np.float32)
    case = DetectionCase(
        view=view,
        rng=np.random.default_rng(seed),
        granted=detector.requires if granted is None else granted,
        _labels=np.asarray(labels),
        _victim=MadeVictim(view, shown, view),
        _truth=truth,
    )
    result = detector(detector.Options(**options), Context(Path())).detect(case)
    rows = len(case.view)
    assert result.scores.shape == result.flagged.shape == (rows,)
    assert np.isfinite(result.scores).all()
    assert result.flagged.dtype == np.bool_
    return result


@pytest.fixture
def detect():
    """Run a detector on activations (N, D) and labels (N,), check the shape of its answer, and return it."""
    return _detect


def _detect_with(detector, view, labels, *, seed=0, stays=None, victim=None, **calls):
    options = {name: calls.pop(name) for name in list(calls) if name in detector.Options.model_fields}
    made = detector(detector.Options(**options), Context(Path()))
    case = DetectionCase(
        view=view,
        rng=np.random.default_rng(seed),
        granted=made.requires,
        _labels=np.asarray(labels),
        _victim=SimpleNamespace(**calls) if victim is None else victim,
        _trusted=stays,
    )
    result = made.detect(case)
    assert result.scores.shape == result.flagged.shape == (len(view),)
    assert np.isfinite(result.scores).all()
    assert result.flagged.dtype == np.bool_
    json.dumps(dict(result.details), allow_nan=False)
    return result


@pytest.fixture
def detect_with():
    """Run a detector on a view with a victim given as functions of a view, such as ``logits=lambda view: ...``."""
    return _detect_with


def _table(values):
    values = np.asarray(values, np.float32)
    features = tuple(Feature(f"f{j}", "unit", -1e9, 1e9) for j in range(values.shape[1]))
    return TableView(np.arange(len(values)), features, values)


@pytest.fixture
def table():
    """A table view of values (N, F)."""
    return _table
