from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options
from backdoor_core.views import GridView, as_grid

from .grids import grid_of, rows_at_once

Floats = NDArray[np.float64]


class StripTabularOptions(Options):
    """Options of STRIP for tables and series."""

    copies: int = Field(32, ge=1, description="edited copies of each row")
    swapped: float = Field(0.5, gt=0, lt=1, description="share of the features that a copy takes from another row")
    trusted: bool = Field(
        False, description="take the other rows, the medians and the cut from trusted stays instead of the rows judged"
    )
    frr: float = Field(0.01, gt=0, lt=0.5, description="false rejection rate: quantile of clean entropy to flag below")


class StripTabular(Detector):
    """Predictions that stay certain whatever the other features are (STRIP, Gao et al. 2019).

    "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, arXiv 1902.06531: each input is
    blended with others, and a trigger keeps the prediction where a clean input loses it, so that the entropy over
    the copies is low. A blend of two patients is no patient; here a copy takes a random half of its features from
    another row (in a series with all their hours), as they are, missing values included.

    With two labels of unequal size, rows of the common one have low entropy without any trigger. So a row's mean
    entropy (nats) is divided by the median of the rows that the model puts on the same side of probability one half,
    and the score is minus that ratio: 0 is a row that is certain throughout, -1 one like the others. How far the
    ratios spread about 1 depends on the model, so they are not `absolute`. All rows are given the same sets of
    features, for a fair comparison; the other rows are drawn anew for each.

    The rule is the paper's false rejection rate of 1%: the quantile of the ratios of trusted stays where the option
    `trusted` is on. Otherwise they are those of the view itself, so that about 1% of the rows are flagged, poison
    or none. Fails for triggers to the common label, of which clean rows are as certain; where half of one side is
    poisoned; and for triggers of so many features that a half is no trigger. One row has only itself to swap with.
    """

    name = "strip_tabular"
    Options = StripTabularOptions
    modalities = frozenset({"table", "series"})
    scope = "input-time"

    def __init__(self, options: StripTabularOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = frozenset({"predict", "trusted"}) if options.trusted else frozenset({"predict"})

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the median entropy of each side and the cut."""
        options: StripTabularOptions = self.options
        view = grid_of(case, self.name)
        clean = as_grid(case.trusted.view) if options.trusted else view
        kept = _kept_features(len(view.features), options, case.rng)
        entropies, positive = mean_entropies(case, view, clean, kept), case.logits > 0
        reference, side = entropies, positive
        if options.trusted:
            reference, side = mean_entropies(case, clean, clean, kept), case.predict(clean) > 0
        medians = {value: _median(reference[side == value], reference) for value in (False, True)}
        ratios = entropies / np.where(positive, medians[True], medians[False])
        clean_ratios = reference / np.where(side, medians[True], medians[False])
        # An entropy that was seen, not one between two: of few rows, none is below the lowest.
        cut = float(np.quantile(clean_ratios, options.frr, method="lower"))
        details = {
            "median_entropy": {"0": medians[False], "1": medians[True]},
            "rows_by_side": {"0": int((~positive).sum()), "1": int(positive.sum())},
            "cut": cut,
            "reference": "trusted stays" if options.trusted else "the rows themselves",
            "reference_rows": len(clean),
            "predictions": options.copies * (len(view) + (len(clean) if options.trusted else 0)),
        }
        return Detection(-ratios, ratios < cut, details)


def mean_entropies(case: DetectionCase, view: GridView, others: GridView, kept: NDArray[np.bool_]) -> Floats:
    """(N,) mean entropy (nats) of the predictions for copies of each row, one for each row of `kept` (copies, F).

    A copy keeps the features of the mask and takes the rest from a random row of `others`.
    """
    totals = np.zeros(len(view))
    at_once = rows_at_once(view)
    for start in range(0, len(view), at_once):
        rows = np.arange(start, min(start + at_once, len(view)))
        part = view.take(rows)
        for keep in kept:
            donors = others.values[_donors(rows, len(others), others is view, case.rng)]
            totals[rows] += entropy(case.predict(part.with_values(np.where(keep, part.values, donors))))
    return totals / len(kept)


def entropy(logits: NDArray[np.floating[Any]]) -> Floats:
    """(N,) entropy in nats of a binary prediction given by its log-odds."""
    size = np.abs(np.asarray(logits, dtype=np.float64))
    rare = np.exp(-size) / (1 + np.exp(-size))
    found: Floats = np.log1p(np.exp(-size)) + size * rare
    return found


def _kept_features(features: int, options: StripTabularOptions, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(copies, F) the features that each copy keeps; of two or more, at least one is kept and one is swapped."""
    swapped = round(options.swapped * features)
    swapped = min(max(swapped, 1), features - 1) if features > 1 else 1
    return rng.random((options.copies, features)).argsort(axis=1) >= swapped


def _donors(rows: NDArray[np.intp], count: int, same: bool, rng: np.random.Generator) -> NDArray[np.intp]:
    """For each of the rows a random one of `count`; another one where both are of the same view."""
    if not same or count == 1:
        return rng.integers(count, size=len(rows))
    return (rows + rng.integers(1, count, size=len(rows))) % count


def _median(entropies: Floats, all_of_them: Floats) -> float:
    """The median; of all rows where a side has none. Never 0, so that it can divide."""
    median = float(np.median(entropies if len(entropies) else all_of_them))
    return max(median, float(np.finfo(np.float64).tiny))
