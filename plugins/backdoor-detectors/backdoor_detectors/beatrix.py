from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options
from backdoor_core.errors import BackdoorError

from .activations import Floats, finite_activations, one_thread
from .gram import deviations, usual_bounds
from .robust import spread

_LEAST_ROWS = 10
_FOLDS = 5


class BeatrixOptions(Options):
    """Options of Beatrix. Powers and width are the paper's."""

    trusted: bool = Field(False, description="take bounds and threshold from the trusted stays, as the paper does")
    powers: tuple[int, ...] = Field((1, 2, 3, 4, 5, 6, 7, 8), min_length=1, description="orders of the Gram matrices")
    width: float = Field(10.0, gt=0, description="half the width of the bounds in median absolute deviations")
    percentile: float = Field(
        99.0, gt=0, lt=100, description="with trusted stays: flag above this percentile of their own deviations"
    )
    cut: float = Field(
        3.5, gt=0, description="without: flag above the label's median score by so many robust standard deviations"
    )
    reference: int = Field(1000, ge=10, description="rows of each label that the bounds come from, at most; random")


class Beatrix(Detector):
    """Products of activations outside their usual bounds, per training label (Ma et al. 2023).

    "The 'Beatrix' Resurrections: Robust Backdoor Detection via Gram Matrices", NDSS 2023, section IV. For every pair
    of neurons the Gram entry has bounds, median plus and minus 10 median absolute deviations; the score of a row is
    the amount by which its entries pass them, in units of the bound, on average. The penultimate activations are
    a vector, of which all orders have the same entries but for the sign (see `gram.parities`). A unit is at least 1% of
    the typical bound: the authors' 1e-6 leaves neurons that are hardly ever active to decide alone.

    With `trusted`, bounds and threshold come from the trusted stays of the label, the threshold as the 99th percentile
    of deviations from bounds of the other four fifths; fewer than 10 of a label are an error. Without, which is not
    the paper's setting, both come from the rows themselves: at most 1,000 random ones of the label for the
    bounds, which a minority of poison hardly moves, and the flag for scores above the median by 3.5 robust standard
    deviations of the label's scores (Iglewicz and Hoaglin 1993), of clean rows about 1%. The paper's test of whole
    classes is an outlier rule over many classes and has no meaning for two.

    A label of fewer than 10 rows, or of equal rows, is left out (score 0, no flag).
    """

    name = "beatrix"
    Options = BeatrixOptions

    def __init__(self, options: BeatrixOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.trusted:
            self.requires = self.requires | {"trusted"}

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds each label's threshold or why it was left out.

        Raises `BackdoorError` where `trusted` is set and a label has fewer than 10 trusted stays.
        """
        options: BeatrixOptions = self.options
        activations, labels = finite_activations(case, self.name).astype(np.float64), case.labels
        seed = int(case.rng.integers(2**63 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            own = activations[rows]
            facts: dict[str, Any] = {"rows": len(rows)}
            details[str(label)] = facts
            if len(rows) < _LEAST_ROWS or not np.ptp(own, axis=0).any():
                few = len(rows) < _LEAST_ROWS
                facts["skipped"] = f"fewer than {_LEAST_ROWS} rows" if few else "all activations are equal"
                continue
            rng = np.random.default_rng(seed)
            known = self._trusted(case, label) if options.trusted else own
            known = _drawn(known, options.reference, rng)
            with one_thread():
                # Of values without sign all orders are equal, and one stands for them.
                orders = options.powers if min(own.min(), known.min()) < 0 else (1,)
                scores[rows] = deviations(own, usual_bounds(known, orders, options.width), orders)
                threshold = self._percentile(known, orders) if options.trusted else _above(scores[rows], options.cut)
            flagged[rows] = scores[rows] > threshold
            facts |= {"reference": len(known), "threshold": threshold, "flagged": int(flagged[rows].sum())}
        return Detection(scores, flagged, {"labels": details})

    def _trusted(self, case: DetectionCase, label: int) -> Floats:
        """(M, D) activations of the trusted stays of one label."""
        rows = np.flatnonzero(case.trusted.labels == label)
        if len(rows) < _LEAST_ROWS:
            raise BackdoorError(
                f"detector {self.name}: {len(rows)} trusted stays have label {label}; its bounds need at least "
                f"{_LEAST_ROWS} (detection.trusted in params.yaml)"
            )
        return case.embed(case.trusted.view.take(rows)).astype(np.float64)

    def _percentile(self, known: Floats, orders: tuple[int, ...]) -> float:
        """The percentile of the deviations of clean rows (M, D), each from the bounds of the other folds."""
        options: BeatrixOptions = self.options
        fold = np.arange(len(known)) % _FOLDS
        found = [
            deviations(known[fold == k], usual_bounds(known[fold != k], orders, options.width), orders)
            for k in range(_FOLDS)
        ]
        return float(np.percentile(np.concatenate(found), options.percentile))


def _drawn(rows: Floats, most: int, rng: np.random.Generator) -> Floats:
    """At most so many of the rows (n, D), in their order."""
    return rows if len(rows) <= most else rows[np.sort(rng.choice(len(rows), most, replace=False))]


def _above(scores: Floats, cut: float) -> float:
    """The median of (n,) scores plus `cut` robust standard deviations."""
    return float(np.median(scores) + cut * spread(scores[:, np.newaxis])[0])
