from pathlib import Path

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
