from pathlib import Path

import numpy as np
import pytest

from backdoor_core.contracts import Context, DetectionCase, Feature, TableView
from backdoor_core.testing import detector_checks
from backdoor_core.testing.detectors import MadeVictim

example = pytest.importorskip(
    "backdoor_example_detector", reason="not installed: pip install --editable plugins/example-detector"
)


@pytest.mark.parametrize("check", detector_checks(example.MedianDistance))
def test_conformance(check):
    check()


def test_stays_far_from_their_label_score_highest_and_are_flagged():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    activations = (rng.normal(size=(200, 8)) + 10 * labels[:, np.newaxis]).astype(np.float32)
    activations[100:105] -= 10  # they look like label 0 and are labeled 1
    view = TableView(np.arange(200), (Feature("lactate", "mmol/L", 0, 30),), np.zeros((200, 1), np.float32))
    case = DetectionCase(
        view=view,
        rng=rng,
        granted=example.MedianDistance.requires,
        _labels=labels,
        _victim=MadeVictim(view, activations, view),
    )
    options = example.MedianDistance.Options()
    result = example.MedianDistance(options, Context(Path())).detect(case)
    assert set(np.argsort(-result.scores)[:5]) == set(range(100, 105))
    assert (np.flatnonzero(result.flagged) == np.arange(100, 105)).all()
