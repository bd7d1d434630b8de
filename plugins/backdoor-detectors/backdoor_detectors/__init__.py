"""Detectors of poisoned training stays, and the controls to read them against."""

from collections.abc import Callable

from backdoor_core.contracts import Detector, hookimpl

from .activation_clustering import ActivationClustering
from .perfect_filter import PerfectFilter
from .random_filter import RandomFilter
from .range_rule import RangeRule
from .spectral_signatures import SpectralSignatures


@hookimpl
def register_detectors(register: Callable[[type[Detector]], None]) -> None:
    """Register the detectors of this distribution."""
    for detector in (ActivationClustering, SpectralSignatures, RangeRule, RandomFilter, PerfectFilter):
        register(detector)
