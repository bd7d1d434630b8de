"""Products of large float32 matrices on the CPU, by oneDNN where torch has it.

torch leaves these to MKL, which does without AVX-512 on processors that are not Intel's: there oneDNN, which torch uses
for convolutions, is twice as fast. The two differ in the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LEAST = 2**22
"""Multiplications. Of fewer, what oneDNN takes to prepare (10 µs) is no longer small beside them."""


_onednn: Callable[..., Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's linear layer, as torch's own compiler calls it; None where torch was built without it."""


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """(m, n) of a (m, k) and b (k, n), plus a bias (n,), where torch notes no gradient; in `out` or in a new tensor."""
    if _onednn is not None and a.shape[0] * a.shape[1] * b.shape[1] >= _LEAST:
        return _onednn(a, b.mT, bias, "none", [], "")
    return torch.mm(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)
