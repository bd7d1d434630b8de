from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Checkpoint, Detection, DetectionCase, Detector, Integers, Options
from backdoor_core.errors import BackdoorError

Floats = NDArray[np.float64]


class LossIsolationOptions(Options):
    """Options of loss isolation. Both defaults are the paper's: 1% isolated after 20 of 100 epochs."""

    isolated: float = Field(0.01, gt=0, lt=1, description="share of the training part with the lowest loss to isolate")
    early: float = Field(
        0.2,
        gt=0,
        le=1,
        description="checkpoints up to this share of the epoch of the last one kept are early; at least the first",
    )


class LossIsolation(Detector):
    """Rows that the model learns first, by their loss at early checkpoints (ABL, Li et al. 2021).

    "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", NeurIPS 2021, arXiv 2110.11571, backdoor
    isolation: after the first fifth of the training, the 1% of rows with the lowest loss are isolated. Here the fifth
    is one of the epochs up to the last kept checkpoint, which may be little more than half. The score is minus the
    logarithm of the loss relative to the median of the row's label at the same checkpoint, averaged over the early
    checkpoints. Without the median, the detector would find the common label: where one patient in ten dies, every
    survivor has a low loss from the first epoch on. The paper's ten classes are of one size.

    The paper also holds the training loss up (local gradient ascent) so that the gap widens; here the training
    is the study's own. The rule isolates its share, poison or none: read its flags beside those on the null run.
    Rows that tie at the edge of the share are left unflagged, so that their order does not matter.
    """

    name = "loss_isolation"
    Options = LossIsolationOptions
    requires = frozenset({"labels", "checkpoints"})

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the epochs used and each label's median loss at them."""
        options: LossIsolationOptions = self.options
        labels, checkpoints = case.labels, early_checkpoints(case.checkpoints, options.early)
        scores = np.zeros(len(labels))
        medians: dict[str, list[float]] = {str(label): [] for label in np.unique(labels)}
        for checkpoint in checkpoints:
            if not np.isfinite(checkpoint.logits).all():
                raise BackdoorError(
                    f"detector {self.name}: the model's log-odds after epoch {checkpoint.epoch} are not finite; "
                    "the model must be trained without diverging (a lower learning rate, scaled inputs)"
                )
            losses = log_loss(checkpoint.logits, labels)
            for label in np.unique(labels):
                rows = labels == label
                median = float(np.median(losses[rows]))
                medians[str(label)].append(float(np.exp(median)))
                scores[rows] += (median - losses[rows]) / len(checkpoints)
        flagged = highest(scores, int(round(options.isolated * len(scores), 9)))
        details = {
            "epochs": [checkpoint.epoch for checkpoint in checkpoints],
            "median_loss": medians,
            "flagged": {str(label): int(flagged[labels == label].sum()) for label in np.unique(labels)},
        }
        return Detection(scores, flagged, details)


def early_checkpoints(checkpoints: Sequence[Checkpoint], early: float) -> list[Checkpoint]:
    """Those up to the share `early` of the epoch of the last one, and at least the first.

    Checkpoints are kept after epochs 1, 2, 4, 8, ...: of 20 epochs the last is that of epoch 16, and a fifth are those
    of epochs 1 and 2. A case does not tell how many epochs the training had.
    """
    last = early * checkpoints[-1].epoch
    return [checkpoint for k, checkpoint in enumerate(checkpoints) if k == 0 or checkpoint.epoch <= last]


def log_loss(logits: NDArray[np.floating], labels: Integers) -> Floats:
    """(N,) natural logarithm of the cross-entropy of each row, exact also where the loss itself underflows."""
    margin = np.where(labels == 1, logits, -logits).astype(np.float64)
    # From margin 30 on, ln(1 + exp(-m)) is exp(-m) to double precision.
    return np.where(margin > 30, -margin, np.log(np.logaddexp(0, -np.minimum(margin, 30))))


def highest(scores: Floats, count: int) -> NDArray[np.bool_]:
    """(N,) the `count` highest scores, fewer where the last of them tie with the next."""
    if count >= len(scores):
        return np.ones(len(scores), dtype=np.bool_)
    edge = np.sort(scores)[len(scores) - count - 1]
    flagged: NDArray[np.bool_] = scores > edge
    return flagged
