from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options

from .activations import one_thread
from .robust import concentrate
from .spaces import Space, points_of, space_needs

LEAST_ROWS = 10


class MahalanobisOptions(Options):
    """Options of the Mahalanobis distance."""

    space: Space = Field("latent", description="latent: penultimate activations; input: what the model reads")
    support: float = Field(
        0.75, ge=0.5, le=1, description="share of each label's rows, the most central ones, that define its shape"
    )
    quantile: float = Field(0.975, gt=0, lt=1, description="flag beyond this quantile of the chi-squared distribution")


class Mahalanobis(Detector):
    """Robust Mahalanobis distance from the other rows of the same training label.

    Location and Ledoit-Wolf covariance are those of the central rows of the label (see `robust.concentrate`), since
    a cluster of poison would otherwise widen the covariance towards itself and hide. The score is the squared
    distance over its dimensions, scaled so that the median is that of the chi-squared distribution; the classical
    cut is that distribution's 0.975 quantile (Rousseeuw and Van Zomeren 1990, "Unmasking multivariate outliers and
    leverage points", JASA 85). Of normal data that flags 2.5%, of activations, which are not normal, more.

    In the input space a series is summarized over its hours and missing values are filled (see
    `spaces.points_of`). A label of fewer than 10 rows, or of equal rows, is left out (score 0, no flag).
    """

    name = "mahalanobis"
    Options = MahalanobisOptions

    def __init__(self, options: MahalanobisOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = space_needs(options.space)

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds for each label its dimensions and flags or why it was left out."""
        from scipy.stats import chi2

        options: MahalanobisOptions = self.options
        points, labels = points_of(case, options.space, self.name), case.labels
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            facts: dict[str, Any] = {"rows": len(rows)}
            details[str(label)] = facts
            if len(rows) < LEAST_ROWS:
                facts["skipped"] = f"fewer than {LEAST_ROWS} rows"
                continue
            with one_thread():
                center = concentrate(points[rows], options.support)
            if center.dimensions == 0:
                facts["skipped"] = "all rows are equal"
                continue
            scores[rows] = center.squared / center.dimensions
            flagged[rows] = center.squared > chi2.ppf(options.quantile, center.dimensions)
            facts |= {"dimensions": center.dimensions, "flagged": int(flagged[rows].sum())}
        return Detection(scores, flagged, {"space": options.space, "labels": details})
