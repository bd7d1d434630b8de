from pathlib import Path

import pytest

from backdoor_core.contracts import Context
from backdoor_core.testing import detector_checks
from backdoor_detectors.activation_clustering import ActivationClustering
from backdoor_detectors.beatrix import Beatrix
from backdoor_detectors.influence import Influence
from backdoor_detectors.isolation_forest import IsolationForest
from backdoor_detectors.knn_label import KnnLabel
from backdoor_detectors.loss_isolation import LossIsolation
from backdoor_detectors.mahalanobis import Mahalanobis
from backdoor_detectors.missingness_pattern import MissingnessPattern
from backdoor_detectors.perfect_filter import PerfectFilter
from backdoor_detectors.random_filter import RandomFilter
from backdoor_detectors.range_rule import RangeRule
from backdoor_detectors.saliency import Saliency
from backdoor_detectors.scan import Scan
from backdoor_detectors.spectral_signatures import SpectralSignatures
from backdoor_detectors.spectre import Spectre
from backdoor_detectors.strip_tabular import StripTabular
from backdoor_detectors.trigger_reconstruction import TriggerReconstruction


def made(detector, **options):
    return detector(detector.Options(**options), Context(Path()))


DETECTORS = (
    ActivationClustering,
    made(ActivationClustering, rule="silhouette"),
    made(ActivationClustering, rule="distance"),
    made(ActivationClustering, rule="exclusionary"),
    Beatrix,
    made(Beatrix, trusted=True),
    Influence,
    made(Influence, score="opponents"),
    IsolationForest,
    made(IsolationForest, space="input"),
    KnnLabel,
    made(KnnLabel, space="input"),
    LossIsolation,
    Mahalanobis,
    made(Mahalanobis, space="input"),
    MissingnessPattern,
    PerfectFilter,
    RandomFilter,
    RangeRule,
    Saliency,
    made(Saliency, score="magnitude"),
    Scan,
    made(Scan, trusted=True),
    SpectralSignatures,
    made(SpectralSignatures, oracle=True),
    Spectre,
    made(Spectre, oracle=True),
    StripTabular,
    made(StripTabular, trusted=True),
    TriggerReconstruction,
)


@pytest.mark.parametrize("check", detector_checks(*DETECTORS))
def test_conformance(check):
    check()
