"""What detectors and repairs are given: a case, and through it what they declared of the victim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from backdoor_core.views import Booleans, Floats, Integers, View

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
Need = Literal["labels", "inputs", "embedding", "gradient", "predict", "checkpoints", "retrain", "trusted", "truth"]
"""What a detector may ask for; see the attribute of `DetectionCase` of that name."""


class WithheldError(RuntimeError):
    """A detector asked for something it did not declare in `requires`: a defect of the detector."""


@dataclass(frozen=True)
class Checkpoint:
    """The victim as it was after one epoch, on the rows of the case."""

    epoch: int
    learning_rate: float
    logits: Floats
    """(N,) log-odds of label 1."""
    embedding: NDArray[np.float32]
    """(N, D) penultimate activations: the gradient of the logit by the weights of the last linear layer."""


@dataclass(frozen=True)
class Trusted:
    """A small set of stays that the defender knows to be clean. None of them is among the rows of the case."""

    view: View
    labels: Integers


class VictimAccess(Protocol):
    """What the bench can do with the victim for a detector. Every view is given in raw clinical units."""

    def inputs(self, view: View) -> NDArray[np.float32]:
        """Preprocessed: see `DetectionCase.inputs`."""

    def embedding(self, view: View) -> NDArray[np.float32]:
        """(N, D) penultimate activations."""

    def logits(self, view: View) -> Floats:
        """(N,) log-odds of label 1."""

    def gradient(self, view: View) -> NDArray[np.float32]:
        """Of the logit by each input; the shape of `inputs`."""

    def checkpoints(self, view: View) -> Sequence[Checkpoint]:
        """After epochs 1, 2, 4, 8, ... of the training."""

    def retrained(self, keep: Booleans) -> Floats:
        """(N,) log-odds for all training rows by the same model, trained anew on those of the mask."""


@dataclass(frozen=True)
class RepairCase:
    """What a repair is given: the victim's network and the training part as it has it, and neither truth nor trigger.

    Inputs are preprocessed: arrays (N, channels) of a table, (N, T, channels) of a series, or an `EventBatch`;
    `backdoor_core.learning.inputs` walks through either.
    """

    inputs: Any
    labels: Integers
    """(N,) as given."""
    trusted: tuple[Any, Integers] | None
    """Inputs and labels of stays known to be clean, where the study grants some (`detection.trusted`)."""
    network: nn.Module
    """A copy of the victim's network, in evaluation mode, that the repair may change."""
    fresh: Callable[[int], nn.Module]
    """A network of the same architecture with the initial weights of a seed."""
    retrain: Callable[[Mapping[str, Any]], Retrained]
    """Trains the victim anew on the same rows with other preprocessing, given as changes of the params `preprocess`."""
    batch_size: int
    learning_rate: float
    weight_decay: float
    epochs: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Retrained:
    """A victim that `RepairCase.retrain` trained; the bench knows what it holds."""

    victim: Any


@dataclass(frozen=True)
class DetectionCase:
    """All that a training-set detector may see: the training part as the victim has it, and the victim's model.

    It holds neither trigger, rate nor truth. What a detector did not declare in `requires` raises
    `WithheldError`. Rows of every array are the rows of `view`.
    """

    view: View
    rng: np.random.Generator
    granted: frozenset[Need]
    _labels: Integers
    _victim: VictimAccess
    _truth: Booleans | None = field(default=None, repr=False)
    _trusted: Trusted | None = field(default=None, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> Integers:
        """(N,) training labels as given, that is after any flip by the attacker."""
        self._check("labels")
        return self._labels

    @property
    def inputs(self) -> NDArray[np.float32]:
        """What the model reads after preprocessing: (N, channels) of a table, (N, T, channels) of a series.

        The channels are blocks of one channel per feature (see `InputSpec`): the first F are the scaled values. For
        a model without scaling they are the values in clinical units, NaN where missing.
        """
        self._check("inputs")
        return self._once("inputs", lambda: self._victim.inputs(self.view))

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(N, D) penultimate activations of the trained model on `view`."""
        self._check("embedding")
        return self._once("embedding", lambda: self._victim.embedding(self.view))

    def embed(self, view: View) -> NDArray[np.float32]:
        """(M, D) penultimate activations of other stays, such as the trusted ones. Needs "embedding"."""
        self._check("embedding")
        return self._victim.embedding(view)

    @property
    def gradient(self) -> NDArray[np.float32]:
        """The gradient of the logit of label 1 by each input; the shape of `inputs`."""
        self._check("gradient")
        return self._once("gradient", lambda: self._victim.gradient(self.view))

    @property
    def logits(self) -> Floats:
        """(N,) the trained model's log-odds of label 1. Needs "predict"."""
        self._check("predict")
        return self._once("logits", lambda: self._victim.logits(self.view))

    def predict(self, view: View) -> Floats:
        """(M,) log-odds of label 1 for any stays, such as edited copies of `view`."""
        self._check("predict")
        return self._victim.logits(view)

    @property
    def checkpoints(self) -> Sequence[Checkpoint]:
        """The victim after epochs 1, 2, 4, 8, ..., in that order; at least one."""
        self._check("checkpoints")
        return self._once("checkpoints", lambda: self._victim.checkpoints(self.view))

    def retrained(self, keep: Booleans) -> Floats:
        """(N,) log-odds of label 1 for all rows by the same model, trained anew on the rows `keep`. Needs "retrain"."""
        self._check("retrain")
        return self._victim.retrained(keep)

    @property
    def trusted(self) -> Trusted:
        """Stays known to be clean; a study has them only where it grants some (`detection.trusted`)."""
        self._check("trusted")
        if self._trusted is None:
            raise WithheldError("this case has no trusted stays")
        return self._trusted

    @property
    def truth(self) -> Booleans:
        """(N,) which rows are poisoned. Only for controls and for `oracle` options; every figure says so."""
        self._check("truth")
        if self._truth is None:
            raise WithheldError("this case has no truth")
        return self._truth

    def _check(self, need: Need) -> None:
        if need not in self.granted:
            raise WithheldError(f"the detector uses {need!r} without declaring it in `requires`")

    def _once(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._kept:
            self._kept[name] = make()
        return cast(T, self._kept[name])
