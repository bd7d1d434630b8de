import numpy as np
from pydantic import Field

from backdoor_core.contracts import Detection, DetectionCase, Detector, Options


class RandomFilterOptions(Options):
    """Options of the random filter."""

    share: float = Field(0.05, ge=0, le=1, description="share of the training part that is flagged")


class RandomFilter(Detector):
    """Control: flags rows at random. A detector worth its name must beat it at the same number of flags."""

    name = "random_filter"
    absolute = True
    Options = RandomFilterOptions
    requires = frozenset()

    def detect(self, case: DetectionCase) -> Detection:
        """Uniform scores, and the rows of the highest flagged."""
        scores = case.rng.random(len(case.view))
        flagged = np.zeros(len(scores), dtype=np.bool_)
        flagged[np.argsort(-scores)[: round(self.options.share * len(scores))]] = True
        return Detection(scores, flagged)
