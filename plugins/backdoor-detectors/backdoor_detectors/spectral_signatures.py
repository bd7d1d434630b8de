import math
from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Detection, DetectionCase, Detector, Options

from .activations import finite_activations, one_thread, principal_directions


class SpectralSignaturesOptions(Options):
    """Options of spectral signatures."""

    budget: float = Field(
        0.05,
        gt=0,
        le=1,
        description=(
            "the defender's upper bound on the poisoned share of the whole training part, a guess made without "
            "knowing the true rate; in each label 1.5 times that many rows are removed, at most half of the label"
        ),
    )


class SpectralSignatures(Detector):
    """Squared projection of the activations on their top direction, per training label (Tran et al. 2018).

    "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, algorithm 1: per label, center the activations,
    take the top right singular vector, and score a row by its squared projection. The budget is counted in
    rows of the whole training part, since all the poison may sit in one label, however rare: the rule flags
    ``ceil(1.5 * budget * N)`` rows in *each* label, at most half of it. So it always flags, poison or none:
    read its flags beside those on the clean twin. Ties at the edge of the budget go to the earlier rows.
    """

    name = "spectral_signatures"
    Options = SpectralSignaturesOptions

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds for each label what was removed or why it was left out."""
        options: SpectralSignaturesOptions = self.options
        activations, labels = finite_activations(case, self.name), case.labels
        # Rounded first, since 1.5 * 0.05 * 40 is 3.0000000000000004, whose ceiling is not what anyone means.
        budget = math.ceil(round(1.5 * options.budget * len(labels), 9))
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            with one_thread():
                directions = principal_directions(activations[rows])
                projections = directions.centered @ directions.axes[:, :1]  # (n, 1), or (n, 0) for equal rows
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
