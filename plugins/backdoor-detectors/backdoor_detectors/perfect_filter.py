import numpy as np

from backdoor_core.contracts import Detection, DetectionCase, Detector


class PerfectFilter(Detector):
    """Control: flags exactly the poisoned rows. What is left of the attack after it, no detector can take away."""

    name = "perfect_filter"
    absolute = True
    requires = frozenset({"truth"})

    def detect(self, case: DetectionCase) -> Detection:
        """Score 1 and a flag for the poisoned rows, 0 and none for the others."""
        truth = case.truth.astype(np.bool_)
        return Detection(truth.astype(np.float64), truth)
