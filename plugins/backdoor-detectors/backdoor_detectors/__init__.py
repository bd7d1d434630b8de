"""Detectors of poisoned training stays, and the controls to read them against."""

from collections.abc import Callable

from backdoor_core.contracts import Detector, hookimpl

from .activation_clustering import ActivationClustering
from .beatrix import Beatrix
from .influence import Influence
from .isolation_forest import IsolationForest
from .knn_label import KnnLabel
from .loss_isolation import LossIsolation
from .mahalanobis import Mahalanobis
from .missingness_pattern import MissingnessPattern
from .perfect_filter import PerfectFilter
from .random_filter import RandomFilter
from .range_rule import RangeRule
from .saliency import Saliency
from .scan import Scan
from .spectral_signatures import SpectralSignatures
from .spectre import Spectre
from .strip_tabular import StripTabular
from .trigger_reconstruction import TriggerReconstruction


@hookimpl
def register_detectors(register: Callable[[type[Detector]], None]) -> None:
    """Register the detectors of this distribution."""
    for detector in (
        ActivationClustering,
        Beatrix,
        Influence,
        IsolationForest,
        KnnLabel,
        LossIsolation,
        Mahalanobis,
        MissingnessPattern,
        PerfectFilter,
        RandomFilter,
        RangeRule,
        Saliency,
        Scan,
        SpectralSignatures,
        Spectre,
        StripTabular,
        TriggerReconstruction,
    ):
        register(detector)
