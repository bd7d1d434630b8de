"""Transformer over the features of a table, pooled by their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from backdoor_core.contracts import Capability, InputSpec, Modality, Options, TorchModel

if TYPE_CHECKING:
    from torch import nn


class TabTransformerOptions(Options):
    """Shape of the network."""

    width: int = Field(32, ge=1, description="width of a feature's token; `heads` must divide it")
    layers: int = Field(2, ge=1, description="transformer layers")
    heads: int = Field(4, ge=1, description="attention heads of each layer")
    hidden: tuple[int, ...] = Field((128, 64), min_length=1, description="hidden layers on top of the mean token")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads should divide width, and {self.heads} does not divide {self.width}")
        return self


class TabTransformer(TorchModel):
    """Transformer over the features: each attends to all others; their mean goes into a small MLP.

    After Huang et al. 2020 (arXiv 2012.06678, section 2): width 32, post-norm layers with a hidden layer of four
    times the width, and an MLP of four and two times its input. There, only categorical features
    become tokens. Here, all features do, each by a linear map of its value and its missingness, and there are 2 layers
    of 4 heads (there 6 of 8). Dropout is that of Vaswani et al. 2017 (arXiv 1706.03762, section 5.4), on the output
    of each sublayer, and that of the MLP.
    """

    name = "tab_transformer"
    Options = TabTransformerOptions
    modality: ClassVar[Modality] = "table"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"embedding", "gradient", "attention"})

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from backdoor_models.networks.transformers import TabTransformerNetwork

        options: TabTransformerOptions = self.options
        return TabTransformerNetwork(
            len(spec.features),
            spec.blocks,
            options.width,
            options.layers,
            options.heads,
            options.hidden,
            options.dropout,
        )
