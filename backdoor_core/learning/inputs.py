"""What networks read, a tensor or events, and how a fit walks through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backdoor_core.learning.event_batch import EventBatch, parts

Inputs = Tensor | EventBatch
"""(N, channels) of a table, (N, T, channels) of a series, or N stays as events."""

_ROWS_AT_ONCE = 512
"""On a CPU what so many rows become in a network stays in its cache: up to four times as fast as 8192 at once."""
_ROWS_ON_A_GPU = 8192
_FEW = 16
EVENTS_AT_ONCE = 65_536
"""Padded events in one batch of an evaluation."""
_POOL = 16
"""Mini-batches whose stays are put in order of length together."""


def as_inputs(found: NDArray[np.float32] | EventBatch) -> Inputs:
    """What `Victim.inputs` gave, as networks read it."""
    return found if isinstance(found, EventBatch) else torch.from_numpy(found)


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """All that the inputs are made of."""
    return (inputs,) if isinstance(inputs, Tensor) else parts(inputs)


def from_tensors(tensors: tuple[Tensor, ...]) -> Inputs:
    """The inverse of `tensors_of`."""
    return tensors[0] if len(tensors) == 1 else EventBatch(*tensors)


def mini_batches(inputs: Inputs, size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Positions of the stays of each mini-batch of one epoch, in an order drawn by `order`.

    Of events, stays of like length go together, so that little is padded: the stays of `_POOL` mini-batches at a time,
    as drawn, are sorted by length, cut, and the mini-batches drawn in turn.
    """
    shuffled = torch.randperm(len(inputs), generator=order)
    if isinstance(inputs, Tensor):
        yield from torch.split(shuffled.to(inputs.device), size)
        return
    lengths = inputs.lengths.cpu()
    batches: list[Tensor] = []
    for pool in torch.split(shuffled, _POOL * size):
        batches += torch.split(pool[lengths[pool].argsort(stable=True)], size)
    for number in torch.randperm(len(batches), generator=order).tolist():
        yield batches[number].to(inputs.offsets.device)


def in_batches(read: Callable[[Inputs], Tensor], inputs: Inputs) -> Tensor:
    """`read` of all rows, a part at a time, the answers (rows, ...) in the order of the rows; `inputs` has some.

    Events are read in order of length, in parts of `EVENTS_AT_ONCE` padded events.
    """
    if isinstance(inputs, Tensor):
        rows_at_once = _ROWS_AT_ONCE if inputs.device.type == "cpu" else _ROWS_ON_A_GPU
        return torch.cat([read(part) for part in torch.split(inputs, _sizes(len(inputs), rows_at_once))])
    order = inputs.lengths.argsort(stable=True)
    answers = torch.cat([read(inputs.index_select(0, rows)) for rows in _alike(order, inputs.lengths[order])])
    return torch.empty_like(answers).index_copy_(0, order, answers)


def _sizes(rows: int, at_once: int) -> list[int]:
    """Of the parts. A few rows that are left over go with the last part: products of so few have another rounding."""
    full, rest = divmod(rows, at_once)
    if full and rest < _FEW:
        return [*[at_once] * (full - 1), at_once + rest]
    return [*[at_once] * full, rest]


def _alike(order: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    """Cuts `order` (ascending `lengths`) where the padded part would hold too many events."""
    longest = lengths.clamp(min=1).tolist()
    start = 0
    for place, length in enumerate(longest):
        if place > start and (place - start + 1) * length > EVENTS_AT_ONCE:
            yield order[start:place]
            start = place
    yield order[start:]
