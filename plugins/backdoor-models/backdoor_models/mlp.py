"""Multilayer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from backdoor_core.contracts import InputSpec, Modality, Options, TorchModel

if TYPE_CHECKING:
    from torch import nn


class MLPOptions(Options):
    """Shape of the network."""

    hidden: tuple[int, ...] = Field((512, 256, 128), min_length=1, description="width of each hidden layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of hidden activations dropped in training")


class MLP(TorchModel):
    """Multilayer perceptron: linear layers with ReLU and dropout.

    The plain feed-forward baseline of tabular deep learning (Gorishniy et al. 2021, arXiv 2106.11959,
    section 3.1), in the widths common in work on backdoors.
    """

    name = "mlp"
    Options = MLPOptions
    modality: ClassVar[Modality] = "table"

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from backdoor_models.networks.feed_forward import MLPNetwork

        options: MLPOptions = self.options
        return MLPNetwork(spec.channels, options.hidden, options.dropout)
