"""Networks on the whole row at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from backdoor_models.networks.headed import HeadedNetwork


def hidden_layers(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each width."""
    layers: list[nn.Module] = []
    for before, width in zip((inputs, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


class MLPNetwork(HeadedNetwork):
    """Hidden layers, then one linear unit."""

    def __init__(self, channels: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__(hidden[-1])
        self.body = hidden_layers(channels, hidden, dropout)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, hidden[-1]) activations of the last hidden layer, from x (batch, channels)."""
        embedded: Tensor = self.body(x)
        return embedded

    def chain(self) -> list[nn.Module]:
        """All layers in order; see `backdoor_core.learning.network.Layered`."""
        return [*self.body, self.last]


class LogisticNetwork(HeadedNetwork):
    """One linear unit on the channels themselves."""

    def embed(self, x: Tensor) -> Tensor:
        """(batch, channels): x itself."""
        return x.flatten(1)

    def chain(self) -> list[nn.Module]:
        """The one layer; see `backdoor_core.learning.network.Layered`."""
        return [self.last]
