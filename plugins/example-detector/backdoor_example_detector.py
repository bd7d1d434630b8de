from collections.abc import Callable

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Detection, DetectionCase, Detector, Options, hookimpl


class MedianDistanceOptions(Options):
    """What the user may set below `detector_options: median_distance:`; anything else there is an error."""

    deviations: float = Field(6, gt=0, description="flag from this many median absolute deviations above the median")


class MedianDistance(Detector):
    """Distance of a stay's activations from the median activations of its training label."""

    name = "median_distance"
    Options = MedianDistanceOptions
    requires = frozenset({"labels", "embedding"})

    def detect(self, case: DetectionCase) -> Detection:
        """Score every stay, and flag those unusually far out among their label."""
        activations, labels = case.embedding.astype(np.float64), case.labels
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        for label in np.unique(labels):
            rows = labels == label
            distances = np.linalg.norm(activations[rows] - np.median(activations[rows], axis=0), axis=1)
            typical = np.median(distances)
            spread = np.median(np.abs(distances - typical))
            scores[rows] = distances
            flagged[rows] = distances > typical + self.options.deviations * spread
        return Detection(scores, flagged)


@hookimpl
def register_detectors(register: Callable[[type[Detector]], None]) -> None:
    """Called once by the bench; register as many classes as you like."""
    register(MedianDistance)
