"""The shape that the bench expects of every torch model."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Network(Protocol):
    """A torch module that shows its penultimate activations; see `contracts.TorchModel.build`."""

    def embed(self, x: Tensor) -> Tensor:
        """(batch, D) input of the last linear layer."""
        ...

    def head(self, z: Tensor) -> Tensor:
        """(batch,) logits from those activations."""
        ...
