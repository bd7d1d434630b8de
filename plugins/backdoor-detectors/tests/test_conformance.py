import pytest

from backdoor_core.testing import detector_checks
from backdoor_detectors.activation_clustering import ActivationClustering
from backdoor_detectors.perfect_filter import PerfectFilter
from backdoor_detectors.random_filter import RandomFilter
from backdoor_detectors.range_rule import RangeRule
from backdoor_detectors.spectral_signatures import SpectralSignatures

DETECTORS = (ActivationClustering, PerfectFilter, RandomFilter, RangeRule, SpectralSignatures)


@pytest.mark.parametrize("check", detector_checks(*DETECTORS))
def test_conformance(check):
    check()
