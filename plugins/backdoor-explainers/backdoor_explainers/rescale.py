"""DeepLIFT's Rescale rule where a network calls ReLU as a function. Imports torch: to be imported inside methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_NONLINEAR = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_LINEAR = (
    nn.Linear,
    nn.Conv1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.BatchNorm1d,
    nn.ConstantPad1d,
    nn.Dropout,
    nn.Dropout1d,
    nn.AlphaDropout,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_RULED = {*_NONLINEAR, *_LINEAR, *_CONTAINERS, nn.Module}
_RELU = (functional.relu, torch.relu, Tensor.relu)
_EPSILON = 1e-10


class Signed(nn.Module):
    """A network times 1 or -1, as the module that Captum's DeepLIFT asks for."""

    def __init__(self, network: nn.Module, sign: float) -> None:
        super().__init__()
        self.network = network
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        """(batch,) log-odds of the explained label."""
        out: Tensor = self.sign * self.network(x)
        return out


def unruled(network: nn.Module) -> tuple[str, nn.Module] | None:
    """The first module, with its name, that torch defines and that is neither linear nor has a Rescale rule.

    Softmax and max pooling, which Captum has rules for, count: those rules are not complete, and the one of softmax
    mixes rows. What a module of one's own computes by itself cannot be seen; the delta tells.
    """
    for name, module in network.named_modules():
        base = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn."))
        if base not in _RULED:
            return name, module
    return None


class RescaledReLU(TorchFunctionMode):
    """While it is on, ReLU called as a function has the gradient of the Rescale rule.

    Captum finds modules only. The batch must be the inputs followed by their references, as Captum makes it.
    Within `nn.ReLU`, Captum's own rule, which is the same, comes on top and decides.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The call, or the ruled ReLU in its place."""
        if func in _RELU:
            return _Rescale.apply(args[0] if args else (kwargs or {})["input"])
        return func(*args, **(kwargs or {}))


class _Rescale(torch.autograd.Function):
    """ReLU whose multiplier is the output's difference from the reference over the input's.

    Shrikumar et al. 2017 (arXiv 1704.02685, section 3.5.2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        given, reference = x.chunk(2)
        apart = given - reference
        ratio = (given.clamp(min=0) - reference.clamp(min=0)) / apart
        ratio = torch.where(apart.abs() < _EPSILON, (given > 0).to(x.dtype), ratio)
        return gradients[0] * torch.cat([ratio, ratio])
