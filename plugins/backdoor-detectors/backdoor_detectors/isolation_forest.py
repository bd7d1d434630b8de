from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options

from .activations import one_thread
from .spaces import Space, points_of, space_needs

_CUT = 0.5


class IsolationForestOptions(Options):
    """Options of the isolation forest. Size and number of trees are the paper's."""

    space: Space = Field("latent", description="latent: penultimate activations; input: what the model reads")
    trees: int = Field(100, ge=1, description="number of trees")
    sample: int = Field(256, ge=2, description="rows that each tree is grown on, at most")


class IsolationForest(Detector):
    """Rows that random cuts isolate early, per training label (Liu, Ting and Zhou 2008).

    "Isolation Forest", ICDM 2008; one forest for each label as given. The score is the paper's (section 2, equation
    2): 0 to 1, about 0.5 for an ordinary row. The paper's own rule needs no contamination and flags scores above 0.5
    ("auto" in scikit-learn). Isolation finds scattered outliers: a large tight cluster of poison is not isolated.

    The samples of the trees are random, so the scores depend on `case.rng` and on the order of rows. In the input
    space a series is summarized over its hours and missing values are filled (see `spaces.points_of`). A label of
    one row, or of equal rows, is left out (score 0, no flag).
    """

    name = "isolation_forest"
    absolute = True
    Options = IsolationForestOptions

    def __init__(self, options: IsolationForestOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = space_needs(options.space)

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds for each label the number of flags or why it was left out."""
        import sklearn.ensemble

        options: IsolationForestOptions = self.options
        points, labels = points_of(case, options.space, self.name), case.labels
        seed = int(case.rng.integers(2**31 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            facts: dict[str, Any] = {"rows": len(rows)}
            details[str(label)] = facts
            if not np.ptp(points[rows], axis=0).any():
                facts["skipped"] = "all rows are equal"
                continue
            sample = min(options.sample, len(rows))
            forest = sklearn.ensemble.IsolationForest(n_estimators=options.trees, max_samples=sample, random_state=seed)
            with one_thread():
                scores[rows] = -forest.fit(points[rows]).score_samples(points[rows])
            flagged[rows] = scores[rows] > _CUT
            facts["flagged"] = int(flagged[rows].sum())
        return Detection(scores, flagged, {"space": options.space, "labels": details})
