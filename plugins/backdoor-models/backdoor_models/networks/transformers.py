"""Transformers whose tokens are the features of a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from backdoor_models.networks.attention import Attention, FeatureTokens
from backdoor_models.networks.feed_forward import hidden_layers
from backdoor_models.networks.headed import HeadedNetwork


class PostNormLayer(nn.Module):
    """Attention, then a ReLU layer of four times the width, each dropped from, added to its input, and normalized."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = Attention(width, heads)
        self.forth = nn.Linear(width, 4 * width)
        self.back = nn.Linear(4 * width, width)
        self.attend_norm = nn.LayerNorm(width)
        self.hidden_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width), likewise."""
        tokens = self.attend_norm(tokens + self.dropout(self.attend(tokens)))
        hidden = self.back(functional.relu(self.forth(tokens)))
        out: Tensor = self.hidden_norm(tokens + self.dropout(hidden))
        return out


class TabTransformerNetwork(HeadedNetwork):
    """Feature tokens, post-norm layers, the mean over the tokens, hidden layers, one linear unit."""

    def __init__(
        self, features: int, blocks: int, width: int, layers: int, heads: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__(hidden[-1])
        self.tokens = FeatureTokens(features, blocks, width)
        self.layers = nn.ModuleList(PostNormLayer(width, heads, dropout) for _ in range(layers))
        self.body = hidden_layers(width, hidden, dropout)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, hidden[-1]) activations of the last hidden layer, from x (batch, blocks * features)."""
        tokens = self.tokens(x)
        for layer in self.layers:
            tokens = layer(tokens)
        embedded: Tensor = self.body(tokens.mean(dim=1))
        return embedded

    def attention(self, x: Tensor) -> list[Tensor]:
        """For each layer (batch, heads, features, features)."""
        tokens, weights = self.tokens(x), []
        for layer in self.layers:
            weights.append(layer.attend.weights(tokens))
            tokens = layer(tokens)
        return weights


class PreNormBlock(nn.Module):
    """Attention, then a ReGLU layer, each of the normalized tokens and added to the tokens as they are."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropouts: tuple[float, float, float], normalize_first: bool
    ) -> None:
        super().__init__()
        attention_dropout, hidden_dropout, residual_dropout = dropouts
        self.attend_norm = nn.LayerNorm(width) if normalize_first else nn.Identity()
        self.attend = Attention(width, heads, attention_dropout)
        self.hidden_norm = nn.LayerNorm(width)
        self.forth = nn.Linear(width, 2 * hidden)
        self.back = nn.Linear(hidden, width)
        self.hidden_dropout = nn.Dropout(hidden_dropout)
        self.residual_dropout = nn.Dropout(residual_dropout)

    def forward(self, tokens: Tensor, count: int) -> Tensor:
        """(batch, count, width): the first `count` of the tokens (batch, tokens, width), each having seen them all."""
        normalized = self.attend_norm(tokens)
        out: Tensor = tokens[:, :count]
        out = out + self.residual_dropout(self.attend(normalized, normalized[:, :count]))
        values, gates = self.forth(self.hidden_norm(out)).chunk(2, dim=-1)
        return out + self.residual_dropout(self.back(self.hidden_dropout(values * functional.relu(gates))))

    def weights(self, tokens: Tensor) -> Tensor:
        """(batch, heads, tokens, tokens) attention weights."""
        return self.attend.weights(self.attend_norm(tokens))


class FTTransformerNetwork(HeadedNetwork):
    """A CLS token before the feature tokens, pre-norm blocks, then norm, ReLU and one linear unit on CLS alone."""

    def __init__(
        self,
        features: int,
        channel_blocks: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        dropouts: tuple[float, float, float],
    ) -> None:
        super().__init__(width)
        self.tokens = FeatureTokens(features, channel_blocks, width)
        bound = width**-0.5
        self.cls = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        # The first block has no normalization before its attention: the paper found it to hurt (section 3.3).
        self.blocks = nn.ModuleList(
            PreNormBlock(width, heads, hidden, dropouts, normalize_first=number > 0) for number in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, width): the CLS token after norm and ReLU, from x (batch, blocks * features)."""
        tokens = self._with_cls(x)
        for number, block in enumerate(self.blocks, start=1):
            # Of the last block only CLS is read: the other tokens need not be computed.
            tokens = block(tokens, 1 if number == len(self.blocks) else tokens.shape[1])
        return functional.relu(self.norm(tokens[:, 0]))

    def attention(self, x: Tensor) -> list[Tensor]:
        """For each block (batch, heads, 1 + features, 1 + features); CLS is the first token."""
        tokens, weights = self._with_cls(x), []
        for block in self.blocks:
            weights.append(block.weights(tokens))
            tokens = block(tokens, tokens.shape[1])
        return weights

    def _with_cls(self, x: Tensor) -> Tensor:
        return torch.cat([self.cls.expand(len(x), 1, -1), self.tokens(x)], dim=1)
