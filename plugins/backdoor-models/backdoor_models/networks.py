"""The torch modules. Apart from the components, so that listing plugins does not import torch."""

from collections.abc import Sequence

from torch import Tensor, nn


class MLPNetwork(nn.Module):
    """Linear, ReLU, dropout for each hidden width, then one linear unit."""

    def __init__(self, channels: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((channels, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(hidden[-1], 1)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, hidden[-1]) activations after the last ReLU: the input of the last linear layer."""
        embedded: Tensor = self.body(x)
        return embedded

    def head(self, z: Tensor) -> Tensor:
        """(batch,) logits."""
        logit: Tensor = self.last(z)
        return logit.squeeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch,) logits of label 1."""
        return self.head(self.embed(x))
