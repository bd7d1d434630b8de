"""Dropout on the CPU, with masks that are drawn ten times as fast as torch draws them.

torch's `bernoulli_` takes 7 ns a number, which is half of the training of a small network. SFC64 gives four 16-bit
numbers at once; a number below 65,536 p drops its activation. The share that is dropped is thus p to within 1 in
131,072, and what is kept is divided by the very share that is kept (dropout: Srivastava et al. 2014, JMLR 15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

_WHOLE = 2**16
Draw = Callable[[Tensor, float], Tensor]
"""The mask for an input and a rate, already divided by the share that is kept."""


class Masks:
    """The masks of one fit, in the order in which they are asked for; those of an epoch do not depend on the others."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Go to the masks of an epoch."""
        self.numbers = np.random.SFC64(np.random.SeedSequence([self.seed, epoch]))

    def fill(self, mask: Tensor, p: float) -> Tensor:
        """Fill a contiguous tensor of the CPU with 0, at the rate `p`, and else 1 / (1 - p)."""
        values = mask.detach().numpy().reshape(-1)
        least = round(p * _WHOLE)
        if least == _WHOLE:
            return mask.zero_()
        drawn = self.numbers.random_raw(-(-values.size // 4)).view(np.uint16)[: values.size]
        np.multiply(drawn >= least, values.dtype.type(_WHOLE / (_WHOLE - least)), out=values)
        return mask

    def like(self, x: Tensor, p: float) -> Tensor:
        """The next mask, of the shape of `x`."""
        return self.fill(torch.empty(x.shape, dtype=x.dtype), p)


@contextmanager
def own_dropout(network: nn.Module, draw: Draw) -> Iterator[None]:
    """Inside, the `nn.Dropout` layers of the network take their masks from `draw`; other layers that drop are torch's.

    The layers themselves are told: a `TorchFunctionMode`, which sees every call of torch, would take a tenth of the
    training of a small network.
    """
    layers = dropouts(network)
    for layer in layers:
        vars(layer)["forward"] = partial(_forward, layer, draw)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def dropouts(network: nn.Module) -> list[nn.Dropout]:
    """The layers that `own_dropout` tells."""
    return [layer for layer in network.modules() if type(layer) is nn.Dropout]


def _forward(layer: nn.Dropout, draw: Draw, x: Tensor) -> Tensor:
    return dropped(draw, x, layer.p, layer.training)


def dropped(draw: Draw, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`functional.dropout` with a mask of `draw`; never in place."""
    return x * draw(x, p) if training and p > 0 else x
