from typing import Any

import numpy as np

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector

from .activations import finite_activations, one_thread, principal_directions
from .budget import BudgetOptions, budget_needs, budgeted_share, removed_rows


class SpectralSignaturesOptions(BudgetOptions):
    """Options of spectral signatures."""


class SpectralSignatures(Detector):
    """Squared projection of the activations on their top direction, per training label (Tran et al. 2018).

    "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, algorithm 1: per label, center the activations,
    take the top right singular vector, and score a row by its squared projection. The budget is counted in
    rows of the whole training part, since all the poison may sit in one label, however rare: the rule flags
    ``ceil(1.5 * budget * N)`` rows in *each* label, at most half of it. So it always flags, poison or none:
    read its flags beside those on the clean twin (only with the `oracle` are there none where nothing is poisoned).
    Ties at the edge of the budget go to the earlier rows.
    """

    name = "spectral_signatures"
    Options = SpectralSignaturesOptions

    def __init__(self, options: SpectralSignaturesOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = self.requires | budget_needs(options)

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds for each label what was removed or why it was left out."""
        options: SpectralSignaturesOptions = self.options
        activations, labels = finite_activations(case, self.name), case.labels
        budget = removed_rows(budgeted_share(case, options), len(labels))
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            with one_thread():
                directions = principal_directions(activations, rows)
                projections = directions.project(1)  # (n, 1), or (n, 0) for equal rows
            facts: dict[str, Any] = {"rows": len(rows)}
            details[str(label)] = facts
            if directions.rank == 0:
                facts["skipped"] = "all activations are equal"
                continue
            scores[rows] = projections[:, 0] ** 2
            removed = min(budget, len(rows) // 2)
            flagged[rows[np.argsort(-scores[rows], kind="stable")[:removed]]] = True
            facts["flagged"] = removed
            facts["top_variance_share"] = float(directions.variances[0] / directions.variances.sum())
        return Detection(scores, flagged, {"budget_rows": budget, "labels": details})
