"""Gradients of a chain of layers in closed form: autograd's own numbers, without its bookkeeping.

Autograd notes every call and walks the notes back, which takes most of a small network's step. The gradient of linear
layers, ReLU and dropout in a row is a few products that can be written down (Rumelhart et al. 1986, Nature 323). They
are taken here by the kernels that autograd calls, in its order, so that the results are equal to the last bit. Large
products are taken by oneDNN (`products`): results are then equal within rounding, as they are for a layer of one unit
in a batch of one stay.

Weights are lists of tensors in the order of ``network.parameters()``. Several networks of one shape may be stacked
along a leading axis of K models; everything else then has that axis too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backdoor_core.learning.dropout import scale
from backdoor_core.learning.inputs import Inputs
from backdoor_core.learning.network import Layered, OwnLoss
from backdoor_core.learning.products import product

Drop = Callable[[Tensor, float], None]
"""Multiplies a tensor by the next dropout mask of a rate, in place (`dropout.Masks.drop`)."""

_relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class Linear:
    """A linear layer: positions of its weight (outputs, inputs) and bias (outputs) among the parameters."""

    weight: int
    bias: int | None


@dataclass(frozen=True)
class ReLU:
    """A rectifier."""


@dataclass(frozen=True)
class Dropout:
    """A dropout layer and its rate."""

    p: float


class Scratch:
    """Tensors that are used again at each step, where products can be put into them.

    The system would have to clear the pages of new ones each time, which slows a stack by a quarter or more.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int, tuple[int, ...]], Tensor] = {}

    def take(self, name: str, place: int, *shape: int) -> Tensor:
        """The float32 tensor of that name, place and shape, with whatever it holds."""
        key = (name, place, shape)
        if key not in self._held:
            self._held[key] = torch.empty(shape)
        return self._held[key]


@dataclass(frozen=True)
class Chain:
    """The layers of a network in the order of its forward pass; the last is linear, with one output.

    What its methods return may be overwritten when they are called with the same `Scratch` again.
    """

    layers: tuple[Linear | ReLU | Dropout, ...]

    def logits(self, weights: Sequence[Tensor], x: Tensor, drop: Drop, scratch: Scratch) -> tuple[Tensor, list[Tensor]]:
        """(batch,) logits in training mode of x (batch, channels), and what `gradients` needs. Overwrites `x`.

        `drop` is asked for one mask after the other. To be called where torch notes no gradient.
        """
        kept = []
        times = product if x.ndim == 2 else _products
        for place, layer in enumerate(self.layers):
            if isinstance(layer, Linear):
                kept.append(x)
                weight, bias = weights[layer.weight], None if layer.bias is None else weights[layer.bias]
                out = scratch.take("activations", place, *x.shape[:-1], weight.shape[-2])
                x = times(x, weight.mT, bias, out=out)
            elif isinstance(layer, ReLU):
                kept.append(x.relu_())
            elif self._rectified(place):
                drop(x, layer.p)
                kept.append(x)
            else:
                mask = scratch.take("mask", place, *x.shape).fill_(1)
                drop(mask, layer.p)
                kept.append(mask)
                x.mul_(mask)
        return x.squeeze(-1), kept

    def gradients(
        self, weights: Sequence[Tensor], kept: Sequence[Tensor], slopes: Tensor, scratch: Scratch
    ) -> list[Tensor]:
        """The gradient by each of the weights, from what `logits` kept and the (batch,) slopes of the loss by logit."""
        times = product if slopes.ndim == 1 else _products
        found = [scratch.take("gradient", place, *weight.shape) for place, weight in enumerate(weights)]
        back = slopes.unsqueeze(-1)
        first = next(place for place, layer in enumerate(self.layers) if isinstance(layer, Linear))
        for place in range(len(self.layers) - 1, first - 1, -1):
            layer, seen = self.layers[place], kept[place]
            if isinstance(layer, Linear):
                found[layer.weight] = times(back.mT, seen, out=found[layer.weight])
                if layer.bias is not None:
                    torch.sum(back, -2, out=found[layer.bias])
                if place > first:
                    back = times(back, weights[layer.weight], out=scratch.take("back", place, *seen.shape))
            elif isinstance(layer, ReLU):
                _relu_backward(back, seen, 0, grad_input=back)
            elif self._rectified(place):
                # What was dropped has become 0 in what ReLU keeps, and gets no gradient there.
                back.mul_(scale(layer.p))
            else:
                back.mul_(seen)
        return found

    def _rectified(self, place: int) -> bool:
        """Whether the dropout at this place comes right behind a ReLU: its mask then need not be kept."""
        return place > 0 and isinstance(self.layers[place - 1], ReLU)


def chain_of(network: nn.Module, inputs: Inputs) -> Chain | None:
    """The chain that a network which reads `inputs` says it is (`network.Layered`).

    None where it says nothing, holds anything else, or reads anything but rows (N, channels): that is autograd's.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim != 2 or not isinstance(network, Layered):
        return None
    # A network may have a part of that name.
    if isinstance(network.chain, nn.Module) or isinstance(network, OwnLoss) or any(True for _ in network.buffers()):
        return None
    weights = list(network.parameters())
    if any(w.dtype != torch.float32 or not w.requires_grad for w in weights):
        return None
    places = {id(weight): place for place, weight in enumerate(weights)}
    found: list[Linear | ReLU | Dropout] = []
    for layer in network.chain():
        if layer._forward_hooks or layer._forward_pre_hooks:
            return None
        # A subclass may compute something else.
        if type(layer) is nn.Linear:
            bias = None if layer.bias is None else places.get(id(layer.bias), -1)
            found.append(Linear(places.get(id(layer.weight), -1), bias))
        elif type(layer) is nn.ReLU:
            found.append(ReLU())
        elif type(layer) is nn.Dropout:
            # As in `dropout.own_dropout`: a rate of 0 asks for no mask.
            found += [Dropout(layer.p)] if layer.p > 0 else []
        else:
            return None
    used = [place for link in found if isinstance(link, Linear) for place in (link.weight, link.bias)]
    # A weight that no layer has, that two share, or that is not the network's, needs autograd.
    if sorted(place for place in used if place is not None) != list(range(len(weights))):
        return None
    ends = bool(found) and isinstance(found[-1], Linear) and len(weights[found[-1].weight]) == 1
    return Chain(tuple(found)) if ends else None


def slopes(logits: Tensor, labels: Tensor, pos_weight: Tensor | None) -> Tensor:
    """The derivative of each stay's cross-entropy by its logit; `pos_weight` weighs the stays of label 1."""
    if pos_weight is None:
        return logits.sigmoid().sub_(labels)
    weighted = pos_weight * labels
    return weighted.add(1).sub_(labels).mul_(logits.sigmoid()).sub_(weighted)


def _products(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """`product` of each of K models: (K, m, n) of a (K, m, k) and b (K, k, n), plus a bias (K, n)."""
    return torch.bmm(a, b, out=out) if bias is None else torch.baddbmm(bias.unsqueeze(1), a, b, out=out)
