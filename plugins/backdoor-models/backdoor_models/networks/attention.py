"""Tokens for features, and attention among tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeatureTokens(nn.Module):
    """One token a feature: a linear map of the feature's own channels, plus an embedding of which feature it is.

    The tokenizer of Gorishniy et al. 2021 (arXiv 2106.11959, section 3.3) and its initialization; a feature with
    several channels (value, missing) has one direction for each.
    """

    def __init__(self, features: int, blocks: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(blocks, features, width).uniform_(-bound, bound))
        self.feature = nn.Parameter(torch.empty(features, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features, width) from x (batch, blocks * features)."""
        blocks, features, _ = self.weight.shape
        channels = x.unflatten(-1, (blocks, features)).unsqueeze(-1)
        return (channels * self.weight).sum(dim=1) + self.feature


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    Raises `ValueError` where `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor, queries: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        """(batch, Q, width): what each of `queries` (batch, Q, width; by default the tokens) takes from the tokens.

        Where `real` (batch, tokens) is False nothing is taken; each row has a token where it is True.
        """
        query = self._split(self.query(tokens if queries is None else queries))
        key, value = self._split(self.key(tokens)), self._split(self.value(tokens))
        dropout = self.dropout if self.training else 0.0
        mask = None if real is None else real[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def weights(self, tokens: Tensor, queries: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        """(batch, heads, Q, tokens): row i is how query i, by default token i, weighs the tokens; no dropout."""
        query = self._split(self.query(tokens if queries is None else queries))
        scores = query @ self._split(self.key(tokens)).transpose(-2, -1) / math.sqrt(query.shape[-1])
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None, :], -math.inf)
        return torch.softmax(scores, dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, heads, tokens, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
