"""Temporal convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from backdoor_core.contracts import InputSpec, Modality, Options, TorchModel

if TYPE_CHECKING:
    from torch import nn


class TCNOptions(Options):
    """Shape of the network."""

    width: int = Field(64, ge=1, description="channels of every convolution")
    kernel: int = Field(3, ge=2, description="hours that one convolution looks at, `dilation` hours apart")
    levels: int | None = Field(
        None, ge=1, description="residual blocks; null for as many as it takes to see the whole series"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="share of channels dropped in training")
    weight_norm: bool = Field(True, description="learn the length and the direction of each kernel apart")


class TCN(TorchModel):
    """Temporal convolutional network: dilated causal convolutions in residual blocks.

    Bai et al. 2018 (arXiv 1803.01271, section 3): two weight-normalized convolutions a block, dilation doubling from
    block to block, whole channels dropped. The output at the last hour, which the paper reads, stands beside the
    mean over the hours.
    """

    name = "tcn"
    Options = TCNOptions
    modality: ClassVar[Modality] = "series"

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract. Raises `ValueError` for the spec of a table."""
        from backdoor_models.networks.convolution import TCNNetwork

        options: TCNOptions = self.options
        if spec.steps is None:
            raise ValueError("a TCN needs a series, and this spec has no steps")
        levels = options.levels or levels_to_see(spec.steps, options.kernel)
        return TCNNetwork(spec.channels, options.width, levels, options.kernel, options.dropout, options.weight_norm)


def receptive_field(levels: int, kernel: int) -> int:
    """Hours that the last output sees, itself included: two convolutions a block, of dilation 1, 2, 4, ..."""
    return 1 + 2 * (kernel - 1) * (2**levels - 1)


def levels_to_see(steps: int, kernel: int) -> int:
    """The fewest residual blocks whose receptive field covers `steps` hours."""
    levels = 1
    while receptive_field(levels, kernel) < steps:
        levels += 1
    return levels
