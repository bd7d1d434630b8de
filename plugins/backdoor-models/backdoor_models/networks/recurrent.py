"""Recurrent networks on the hours of a series."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backdoor_models.networks.headed import HeadedNetwork


class RecurrentNetwork(HeadedNetwork):
    """An LSTM or GRU over the hours; its last state beside its mean over the hours; dropout; one linear unit."""

    def __init__(self, cell: type[nn.LSTM | nn.GRU], channels: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__(2 * hidden)
        # torch drops between layers only, and warns where there is no between.
        self.cell = cell(channels, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)

    def embed(self, x: Tensor) -> Tensor:
        """(batch, 2 * hidden): the state after the last hour, then the mean state; x is (batch, hours, channels)."""
        states = self.cell(x)[0]
        embedded: Tensor = self.dropout(torch.cat([states[:, -1], states.mean(dim=1)], dim=-1))
        return embedded
