"""The shape that the bench expects of every torch model."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from backdoor_core.learning.inputs import Inputs


@runtime_checkable
class Network(Protocol):
    """A torch module that shows its penultimate activations; see `contracts.TorchModel.build`."""

    def embed(self, x: Inputs) -> Tensor:
        """(batch, D) input of the last linear layer."""
        ...

    def head(self, z: Tensor) -> Tensor:
        """(batch,) logits from those activations."""
        ...


@runtime_checkable
class Layered(Protocol):
    """Says that it is a chain of layers, each the only input of the next: it is fitted faster (`chain`).

    It reads rows (batch, channels). One that reads anything else may say so too, and is fitted as any network is.
    """

    def chain(self) -> Sequence[nn.Module]:
        """`nn.Linear`, `nn.ReLU` and `nn.Dropout` as `forward` calls them, the last linear and of one output."""
        ...


@runtime_checkable
class OwnLoss(Protocol):
    """A network that is not trained by the cross-entropy of its logits alone."""

    def loss(self, x: Inputs, labels: Tensor, pos_weight: Tensor | None) -> Tensor:
        """The mean loss per stay that a step lowers; `pos_weight` weighs the stays of label 1, None for 1."""
        ...
