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
from numpy.typing import NDArray
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

    def drop(self, x: Tensor, p: float) -> None:
        """Multiply a contiguous tensor of the CPU by its mask: 0 at the rate `p`, and else `scale(p)`; in place."""
        values = x.view(-1).numpy()
        # Not by a mask that is made first: of a large network that would be one more tensor to bring from memory.
        np.multiply(values, self._kept(values.size, p), out=values)
        np.multiply(values, values.dtype.type(scale(p)), out=values)

    def like(self, x: Tensor, p: float) -> Tensor:
        """The next mask, of the shape of `x`."""
        kept = self._kept(x.numel(), p).astype(x.detach().numpy().dtype)
        kept *= kept.dtype.type(scale(p))
        return torch.from_numpy(kept).reshape(x.shape)

    def _kept(self, size: int, p: float) -> NDArray[np.bool_]:
        """Of that many activations, which are kept."""
        drawn = self.numbers.random_raw(-(-size // 4)).view(np.uint16)[:size]
        return np.asarray(drawn >= round(p * _WHOLE))


def scale(p: float) -> float:
    """What a kept activation is multiplied by; 0 where none is kept."""
    least = round(p * _WHOLE)
    return 0.0 if least == _WHOLE else _WHOLE / (_WHOLE - least)


@contextmanager
def own_dropout(network: nn.Module, draw: Draw) -> Iterator[None]:
    """Inside, the `nn.Dropout` layers of the network take their masks from `draw`; other layers that drop are torch's.

    The layers themselves are told: a `TorchFunctionMode`, which sees every call of torch, would take a tenth of the
    training of a small network.
    """
    layers = [layer for layer in network.modules() if type(layer) is nn.Dropout]
    for layer in layers:
        vars(layer)["forward"] = partial(_forward, layer, draw)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _forward(layer: nn.Dropout, draw: Draw, x: Tensor) -> Tensor:
    # A rate of 0 asks for no mask.
    return x * draw(x, layer.p) if layer.training and layer.p > 0 else x
