"""The temporal convolutional network of Bai et al. 2018 (arXiv 1803.01271)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from backdoor_models.networks.headed import HeadedNetwork


class CausalConvolution(nn.Module):
    """A dilated convolution over time whose output at t sees the inputs up to t; zeros stand before the start.

    With `weight_norm`, each output channel's kernel is a direction times a learned length (Salimans & Kingma 2016,
    arXiv 1602.07868). Written out, since torch's own runs through hooks that stacking models does not see.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, weight_norm: bool) -> None:
        super().__init__()
        start = nn.Conv1d(inputs, outputs, kernel)
        self.weight = nn.Parameter(start.weight.detach())
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.length = nn.Parameter(_length(self.weight.detach())) if weight_norm else None
        self.dilation = dilation
        self.reach = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """(batch, outputs, hours) from (batch, inputs, hours)."""
        weight = self.weight if self.length is None else self.weight * (self.length / _length(self.weight))
        return functional.conv1d(functional.pad(x, (self.reach, 0)), weight, self.bias, dilation=self.dilation)


def _length(weight: Tensor) -> Tensor:
    """(outputs, 1, 1) norm of each output channel's kernel."""
    return weight.pow(2).sum(dim=(1, 2), keepdim=True).sqrt()


class ResidualBlock(nn.Module):
    """Twice causal convolution, ReLU and dropout of whole channels, added to the input; ReLU (figure 1b)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float, weight_norm: bool
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            CausalConvolution(inputs, outputs, kernel, dilation, weight_norm),
            nn.ReLU(),
            nn.Dropout1d(dropout),
            CausalConvolution(outputs, outputs, kernel, dilation, weight_norm),
            nn.ReLU(),
            nn.Dropout1d(dropout),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, outputs, hours) from (batch, inputs, hours)."""
        return functional.relu(self.branch(x) + self.skip(x))


class TCNNetwork(HeadedNetwork):
    """Residual blocks of dilation 1, 2, 4, ...; the last hour beside the mean over the hours; one linear unit."""

    def __init__(self, channels: int, width: int, levels: int, kernel: int, dropout: float, weight_norm: bool) -> None:
        super().__init__(2 * width)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(width if level else channels, width, kernel, 2**level, dropout, weight_norm)
                for level in range(levels)
            )
        )

    def states(self, x: Tensor) -> Tensor:
        """(batch, hours, width) output of the last block at each hour, from x (batch, hours, channels)."""
        states: Tensor = self.blocks(x.transpose(1, 2))
        return states.transpose(1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, 2 * width): the output at the last hour, then its mean over the hours."""
        states = self.states(x)
        return torch.cat([states[:, -1], states.mean(dim=1)], dim=-1)
