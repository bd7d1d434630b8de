"""Feature tokenizer and transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from backdoor_core.contracts import Capability, InputSpec, Modality, Options, TorchModel

if TYPE_CHECKING:
    from torch import nn


class FTTransformerOptions(Options):
    """Shape of the network. The paper's default has 3 blocks of width 192, 8 heads and attention dropout 0.2."""

    width: int = Field(64, ge=1, description="width of a token; `heads` must divide it")
    layers: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads of each block")
    hidden_factor: float = Field(4 / 3, gt=0, description="width of a block's hidden layer over that of a token")
    attention_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of attention weights dropped in training; several times slower on a CPU"
    )
    hidden_dropout: float = Field(0.1, ge=0, lt=1, description="share of hidden activations dropped in training")
    residual_dropout: float = Field(0.0, ge=0, lt=1, description="share of each block's output dropped in training")

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads should divide width, and {self.heads} does not divide {self.width}")
        if int(self.width * self.hidden_factor) < 1:
            raise ValueError(f"width * hidden_factor should be 1 or more, not {self.width * self.hidden_factor:g}")
        return self


class FTTransformer(TorchModel):
    """Transformer over the features with a CLS token that gathers what the logit needs.

    Gorishniy et al. 2021 (arXiv 2106.11959, section 3.3; default configuration in the appendix): feature tokens,
    pre-norm blocks with ReGLU, prediction from the normalized CLS token. Narrower, one block shallower and
    without attention dropout, so that it trains on a CPU; its dropouts of 0.1 and 0.0 are the paper's.
    """

    name = "ft_transformer"
    Options = FTTransformerOptions
    modality: ClassVar[Modality] = "table"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"embedding", "gradient", "attention"})

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from backdoor_models.networks.transformers import FTTransformerNetwork

        options: FTTransformerOptions = self.options
        return FTTransformerNetwork(
            len(spec.features),
            spec.blocks,
            options.width,
            options.layers,
            options.heads,
            int(options.width * options.hidden_factor),
            (options.attention_dropout, options.hidden_dropout, options.residual_dropout),
        )
