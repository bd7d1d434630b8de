from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Checkpoint, Detection, DetectionCase, Detector, Integers, Options
from backdoor_core.errors import BackdoorError

from .activations import one_thread
from .outliers import Floats, high_outliers

_ROWS_AT_ONCE = 65_536


class InfluenceOptions(Options):
    """Options of influence."""

    score: Literal["self", "opponents"] = Field(
        "self",
        description="self: influence of the row on its own loss; opponents: how much it raises the loss of the others",
    )
    deviations: float = Field(
        2.0, gt=0, description="flag above median + this many robust standard deviations (MAD x 1.4826) of the label"
    )


class Influence(Detector):
    """Influence of training rows by the gradients of the last layer over checkpoints (TracIn, Pruthi et al. 2020).

    "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020, arXiv 2002.08484: TracInCP,
    the paper's heuristic via checkpoints, with the gradients of the last layer alone. With y the label, p the
    probability and h the penultimate activations at a checkpoint, the loss has the gradient g = (p - y) [h, 1] by
    the weights and the bias of that layer; the influence of a on b is the sum over checkpoints of learning rate x
    g(a) . g(b). `self` is the paper's self-influence, high for rows that are learned by heart, such as mislabeled
    ones. `opponents` is minus the mean influence on the other rows, those of each label weighing the same: high
    for a row on which a training step raises the loss of the others. It needs no pairs of rows, as the mean
    influence on many rows is that on their mean gradient; both scores are linear in rows. Every row of a rare
    label helps the rest more than a row of the common one, so the label's median is taken off this score.

    The checkpoints weigh by their learning rate alone, as in the paper, also where the epochs between them differ.
    A rare label has larger residuals and so higher scores; the rule therefore looks for outliers within each
    label. It looks at the logarithm of the self-influence, which spans orders of magnitude; on clean data it flags
    one or two rows in a hundred.
    """

    name = "influence"
    Options = InfluenceOptions
    requires = frozenset({"labels", "checkpoints"})

    def detect(self, case: DetectionCase) -> Detection:
        """Score every row and flag the outliers of each label; `details` holds the epochs used."""
        options: InfluenceOptions = self.options
        labels = case.labels
        scores = np.zeros(len(labels))
        for checkpoint in case.checkpoints:
            _check_finite(checkpoint, self.name)
            residuals = probability(checkpoint.logits) - labels
            with one_thread():
                if options.score == "self":
                    scores += checkpoint.learning_rate * self_influence(residuals, checkpoint.embedding)
                else:
                    on_others = influence_on_others(residuals, checkpoint.embedding, labels)
                    scores -= checkpoint.learning_rate * on_others
        if options.score == "opponents":
            for label in np.unique(labels):
                scores[labels == label] -= np.median(scores[labels == label])
        # The smallest double stands for an influence that underflowed.
        judged = np.log(np.maximum(scores, np.finfo(np.float64).tiny)) if options.score == "self" else scores
        flagged, facts = high_outliers(judged, labels, options.deviations)
        epochs = [checkpoint.epoch for checkpoint in case.checkpoints]
        return Detection(scores, flagged, {"score": options.score, "epochs": epochs, "labels": facts})


def probability(logits: NDArray[np.floating[Any]]) -> Floats:
    """(N,) probability of label 1."""
    # The hyperbolic tangent neither overflows nor warns.
    return 0.5 * (1 + np.tanh(np.asarray(logits, dtype=np.float64) / 2))


def self_influence(residuals: Floats, embedding: NDArray[np.float32]) -> Floats:
    """(N,) squared norm of (p - y) [h, 1] for residuals (N,) and activations (N, D)."""
    squares = np.concatenate([(part**2).sum(axis=1) for _, part in _parts(embedding)])
    found: Floats = residuals**2 * (squares + 1)
    return found


def influence_on_others(residuals: Floats, embedding: NDArray[np.float32], labels: Integers) -> Floats:
    """(N,) inner product of each row's gradient with the mean gradient of the other rows, labels weighing the same.

    Where a row is the only one of its label, there are only the rows of the other label; a single row has 0.
    """
    present, code = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(present), embedding.shape[1] + 1))
    for rows, part in _parts(embedding):
        weights = np.where(code[rows, None] == np.arange(len(present)), residuals[rows, None], 0)
        sums[:, :-1] += weights.T @ part
        sums[:, -1] += weights.sum(axis=0)
    counts = np.bincount(code)
    # Of each label the mean over the rows that are not the row itself.
    others = counts[None, :] - (code[:, None] == np.arange(len(present)))
    products = np.concatenate([part @ sums[:, :-1].T + sums[:, -1] for _, part in _parts(embedding)])
    products *= residuals[:, None]
    products[np.arange(len(labels)), code] -= self_influence(residuals, embedding)
    means = np.divide(products, others, out=np.zeros_like(products), where=others > 0)
    found: Floats = means.sum(axis=1) / np.maximum((others > 0).sum(axis=1), 1)
    return found


def _parts(embedding: NDArray[np.float32]) -> Iterator[tuple[slice, Floats]]:
    # In double precision, a batch of rows at a time.
    for start in range(0, len(embedding), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        yield rows, embedding[rows].astype(np.float64)


def _check_finite(checkpoint: Checkpoint, detector: str) -> None:
    if not (np.isfinite(checkpoint.logits).all() and np.isfinite(checkpoint.embedding).all()):
        raise BackdoorError(
            f"detector {detector}: the model's log-odds or activations after epoch {checkpoint.epoch} are not finite; "
            "the model must be trained without diverging (a lower learning rate, scaled inputs)"
        )
