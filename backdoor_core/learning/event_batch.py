"""Stays as events, ready for a network: ragged in memory, padded only where a network computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

NUMBERS = ("value", "measured", "hours")
"""What `EventBatch.numbers` holds of each event."""


@dataclass(frozen=True, eq=False)
class EventBatch:
    """N stays with E events in all; stay i owns events offsets[i]:offsets[i + 1], in order of time.

    It answers to the few methods of a tensor that fits use: ``len``, `to`, `index_select`, `split`.
    """

    statics: Tensor
    """(N, S) float32 encoded static columns."""
    offsets: Tensor
    """(N + 1,) int64."""
    entry: Tensor
    """(E,) int64 which row of `types` and `texts` an event has: its type and its text."""
    numbers: Tensor
    """(E, 3) float32: the scaled value (0 where there is none), 1.0 where there is one, days since ICU admission."""
    types: Tensor
    """(V,) int64 position of the type among those of the `EventSpec`; -1 for none of them."""
    texts: Tensor
    """(V, width) float32 embeddings; rows that no event of these stays has do no harm."""

    def __len__(self) -> int:
        return len(self.statics)

    @property
    def lengths(self) -> Tensor:
        """(N,) int64 number of events of each stay."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(*(tensor.to(device) for tensor in parts(self)))

    def index_select(self, dim: int, rows: Tensor) -> Self:
        """The stays `rows` (int64 positions), in that order; `dim` must be 0."""
        if dim != 0:
            raise ValueError(f"stays are along dimension 0, not {dim}")
        lengths = self.lengths[rows]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        # Each event's place: where its stay starts, and how far it is from the first event of its stay.
        shift = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths, output_size=int(offsets[-1]))
        events = torch.arange(len(shift), device=shift.device) + shift
        return type(self)(self.statics[rows], offsets, self.entry[events], self.numbers[events], self.types, self.texts)

    def split(self, size: int) -> Iterator[Self]:
        """Consecutive parts of `size` stays; the last may have fewer."""
        for rows in torch.split(torch.arange(len(self), device=self.offsets.device), size):
            yield self.index_select(0, rows)

    def padded(self) -> tuple[Tensor, Tensor]:
        """(N, L) positions of each stay's events, 0 where padded, and (N, L) whether there is one; L is 1 or more."""
        longest = max(1, int(self.lengths.max())) if len(self) else 1
        within = torch.arange(longest, device=self.offsets.device)
        real = within < self.lengths[:, None]
        return torch.where(real, self.offsets[:-1, None] + within, 0), real


def parts(batch: EventBatch) -> tuple[Tensor, ...]:
    """Its tensors in order: `EventBatch(*parts(batch))` is the batch again."""
    return tuple(getattr(batch, field.name) for field in fields(batch))
