from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Detection, DetectionCase, Detector, Options
from backdoor_core.views import GridView

from .edits import Candidates, Edit, Floats, applied, carried, closeness, find_candidates
from .grids import grid_of, rows_at_once


class TriggerReconstructionOptions(Options):
    """Options of the trigger reconstruction."""

    max_size: int = Field(3, ge=1, description="largest number of features in an edit")
    flip_rate: float = Field(0.9, gt=0, le=1, description="share of rows that an edit must move to count as a trigger")
    rows: int = Field(200, ge=1, description="rows that each edit is tried on")
    shortlist: int = Field(10, ge=1, description="features that a second and third change are looked for among")
    tolerance: float = Field(0.01, gt=0, description="a value this many interquartile ranges away still carries it")
    rare: float = Field(0.01, ge=0, lt=1, description="largest share of the other label that may carry a trigger")


class TriggerReconstruction(Detector):
    """The smallest edit of features that moves the cohort to each label (after Neural Cleanse, Wang et al. 2019).

    "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019, section IV: a
    backdoored label can be reached from every input by a small change. There the mask of an image is optimized
    by gradients; here the edit is found by trial, so that any model will do: every candidate value of
    every feature (see `find_candidates`) is put into a sample of rows of the other label that the model has on
    the other side, and the best is extended greedily, feature by feature, until `flip_rate` of them go over.
    Sides are parted where as many rows are called 1 as carry the label 1. Of the edits of that size that do, the one
    is taken that the other label rarely carries and the label most often.

    The paper's outlier index over labels does not exist for two of them, as each is as far from their median.
    `details` holds the size and flip rate of each label's edit, to be read beside those of clean retrains. A row's
    score is how closely it carries its label's edit, times the flip rate, divided by the size. Rate and size belong to
    the edit found in that one model, so scores of two models are not on one scale (not `absolute`). The rule flags the
    rows that carry an edit of at least that flip rate that is rare among the other label.

    A greedy search misses triggers whose features do nothing one by one. A value far off may move a clean model
    as well, since it is natural evidence. A label that the model gives to all rows or to none is left out.
    """

    name = "trigger_reconstruction"
    Options = TriggerReconstructionOptions
    modalities = frozenset({"table", "series"})
    requires = frozenset({"labels", "predict"})
    scope = "model-level"

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the edit of each label, its size and its flip rate."""
        options: TriggerReconstructionOptions = self.options
        view, labels = grid_of(case, self.name), case.labels
        candidates = find_candidates(view)
        cut = float(np.quantile(case.logits, 1 - labels.mean(), method="lower"))
        positive = case.logits > cut
        scores, flagged = np.zeros(len(view)), np.zeros(len(view), dtype=np.bool_)
        details: dict[str, Any] = {}
        for target in np.unique(labels):
            own = labels == target
            sources = np.flatnonzero(~own & (positive != bool(target)))
            if not len(sources) or not candidates.changes:
                details[str(target)] = {"skipped": "no row of the other label on the other side, or no value to set"}
                continue
            if len(sources) > options.rows:
                sources = np.sort(case.rng.choice(sources, options.rows, replace=False))
            search = Search(case, view, view.take(sources), candidates, options, int(target), cut)
            edit, facts = search.run()
            scores[own] = closeness(search.own, edit, search.reach) * facts["flip_rate"] / len(edit)
            if facts["flip_rate"] >= options.flip_rate and facts["carried_by_others"] <= options.rare:
                flagged[own] = carried(search.own, edit, search.reach)
            details[str(target)] = facts | {"rows": len(sources), "flagged": int(flagged[own].sum())}
        return Detection(scores, flagged, {"labels": details})


class Search:
    """The search for one label's edit."""

    def __init__(
        self,
        case: DetectionCase,
        view: GridView,
        sources: GridView,
        candidates: Candidates,
        options: TriggerReconstructionOptions,
        target: int,
        cut: float,
    ) -> None:
        self.case, self.sources, self.candidates, self.options = case, sources, candidates, options
        self.target, self.cut = target, cut
        self.reach = options.tolerance * candidates.widths
        own = case.labels == target
        self.own, self.others = view.take(own), view.take(~own)
        self.trials = 0

    def run(self) -> tuple[Edit, dict[str, Any]]:
        """The edit and the facts about it."""
        edits: list[Edit] = [(change,) for change in self.candidates.changes]
        shares, margins = self.tried(edits)
        best = self.best(edits, shares, margins)
        by_size = {"1": float(shares.max())}
        edit, rate = edits[best], float(shares[best])
        shortlist = self.shortlisted(shares, margins)
        while rate < self.options.flip_rate and len(edit) < self.options.max_size:
            used = {change.feature for change in edit}
            edits = [
                (*edit, change)
                for change in self.candidates.changes
                if change.feature in shortlist and change.feature not in used
            ]
            if not edits:
                break
            shares, margins = self.tried(edits)
            best = self.best(edits, shares, margins)
            by_size[str(len(edit) + 1)] = float(shares.max())
            edit, rate = edits[best], float(shares[best])
        if rate >= self.options.flip_rate:
            edit, rate = self.refined(edit, rate)
        return edit, self.facts(edit, rate, by_size)

    def tried(self, edits: list[Edit]) -> tuple[Floats, Floats]:
        """(E,) share of the sources that each edit moves to the target, and the mean log-odds beyond the cut."""
        shares, margins = np.empty(len(edits)), np.empty(len(edits))
        at_once = max(1, rows_at_once(self.sources) // len(self.sources))
        for start in range(0, len(edits), at_once):
            some = edits[start : start + at_once]
            logits = self.case.predict(applied(self.sources, some)).reshape(len(some), -1)
            part = slice(start, start + len(some))
            shares[part] = ((logits > self.cut) == bool(self.target)).mean(axis=1)
            margins[part] = (logits - self.cut).mean(axis=1) * (1 if self.target else -1)
        self.trials += len(edits)
        # Edits that differ by rounding alone are equal: the first of them is taken, in whatever order rows come.
        return shares, np.round(margins, 6)

    def best(self, edits: list[Edit], shares: Floats, margins: Floats) -> int:
        """Which edit to go on with: the best carried of those that flip enough, otherwise the one that flips most."""
        enough = np.flatnonzero(shares >= self.options.flip_rate)
        if not len(enough):
            return max(range(len(edits)), key=lambda k: (shares[k], margins[k]))
        return max((int(k) for k in enough), key=lambda k: (*self.fit(edits[k]), shares[k], margins[k]))

    def fit(self, edit: Edit) -> tuple[bool, float]:
        """Whether rows of the label carry the edit and those of the other rarely; and by how much more of them do."""
        own, others = self.carriers(edit)
        return own > 0 and others <= self.options.rare, own - others

    def carriers(self, edit: Edit) -> tuple[float, float]:
        """Share of the label's rows that carry the edit, and of the other label's."""
        own, others = (carried(part, edit, self.reach).mean() for part in (self.own, self.others))
        return float(own), float(others)

    def shortlisted(self, shares: Floats, margins: Floats) -> set[int]:
        """The features whose best single change does most."""
        order = np.lexsort((np.arange(len(shares)), -margins, -shares))
        features = dict.fromkeys(self.candidates.changes[k].feature for k in order)
        return set(list(features)[: self.options.shortlist])

    def refined(self, edit: Edit, rate: float) -> tuple[Edit, float]:
        """The edit with each earlier value exchanged for the best carried one that flips enough as well."""
        for place in range(len(edit) - 1):
            edits = [
                (*edit[:place], change, *edit[place + 1 :])
                for change in self.candidates.changes
                if change.feature == edit[place].feature
            ]
            shares, margins = self.tried(edits)
            if (shares >= self.options.flip_rate).any():
                best = self.best(edits, shares, margins)
                edit, rate = edits[best], float(shares[best])
        return edit, rate

    def facts(self, edit: Edit, rate: float, by_size: dict[str, float]) -> dict[str, Any]:
        """What `details` tells of a label."""
        own, others = self.carriers(edit)
        names = [feature.name for feature in self.sources.features]
        return {
            "edit": [{"feature": names[change.feature], "value": change.value} for change in edit],
            "size": len(edit),
            "flip_rate": rate,
            "flip_rate_by_size": by_size,
            "carried_by_label": own,
            "carried_by_others": others,
            "edits_tried": self.trials,
        }
