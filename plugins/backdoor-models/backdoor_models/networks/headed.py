"""What all networks share: the last linear layer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class HeadedNetwork(nn.Module, ABC):
    """A network that ends in one linear unit. A subclass gives `embed`, the input of that unit."""

    def __init__(self, embedded: int) -> None:
        super().__init__()
        self.last = nn.Linear(embedded, 1)

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(batch, D) penultimate activations."""

    def head(self, z: Tensor) -> Tensor:
        """(batch,) logits from penultimate activations (batch, D)."""
        logit: Tensor = self.last(z)
        return logit.squeeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch,) logits of label 1."""
        return self.head(self.embed(x))
