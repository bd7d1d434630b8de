"""Gram statistics of activation vectors and how far rows lie outside their usual bounds (Ma et al. 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .activations import Floats

# Part of the typical bound below which a bound is no unit of measure: pairs of neurons that are hardly ever active.
_FLOOR = 0.01
_CHUNK = 256


@dataclass(frozen=True)
class Bounds:
    """For each order, the lowest and highest usual value of every pair of D neurons."""

    low: tuple[Floats, ...]
    """By order: (D (D + 1) / 2,), the pairs by first neuron."""
    high: tuple[Floats, ...]
    unit: Floats
    """By order: the smallest unit in which a deviation is counted."""


def parities(powers: tuple[int, ...]) -> list[tuple[bool, int]]:
    """The distinct Gram matrices of the powers: whether its entries keep their sign (odd powers), and how many powers.

    The Gram matrix of order p has the entries (x_i^p x_j^p)^(1/p). Of a vector (not a feature map, whose entries are
    sums over places) these are x_i x_j for odd p and |x_i x_j| for even p.
    """
    odd = sum(power % 2 for power in powers)
    return [(signed, count) for signed, count in ((True, odd), (False, len(powers) - odd)) if count]


def usual_bounds(activations: Floats, powers: tuple[int, ...], width: float) -> Bounds:
    """Median plus and minus `width` median absolute deviations of every entry over activations (n, D).

    Of rectified neurons most pairs are 0 in most rows: their bounds have no width, and any co-activation passes them.
    """
    low: list[Floats] = []
    high: list[Floats] = []
    for signed, _ in parities(powers):
        lowest: list[Floats] = []
        highest: list[Floats] = []
        for products in _products(activations, signed):
            middle = np.median(products, axis=0)
            away = np.abs(products - middle)
            deviation = np.median(away, axis=0)
            lowest.append(middle - width * deviation)
            highest.append(middle + width * deviation)
        low.append(np.concatenate(lowest))
        high.append(np.concatenate(highest))
    typical = [max(np.abs(one).mean(), np.abs(other).mean()) for one, other in zip(low, high, strict=True)]
    return Bounds(tuple(low), tuple(high), np.maximum(_FLOOR * np.array(typical), np.finfo(np.float64).tiny))


def deviations(activations: Floats, bounds: Bounds, powers: tuple[int, ...]) -> Floats:
    """(n,) amount by which the Gram entries of activations (n, D) pass their bounds, in units of the bound.

    The average over pairs and powers.
    """
    found = np.concatenate(
        [_deviations(activations[at : at + _CHUNK], bounds, powers) for at in range(0, len(activations), _CHUNK)]
    )
    return found / (len(bounds.low[0]) * len(powers))


def _deviations(activations: Floats, bounds: Bounds, powers: tuple[int, ...]) -> Floats:
    total = np.zeros(len(activations))
    for (signed, count), low, high, unit in zip(parities(powers), bounds.low, bounds.high, bounds.unit, strict=True):
        below_weight, above_weight = (count / np.maximum(np.abs(bound), unit) for bound in (low, high))
        start = 0
        for products in _products(activations, signed):
            pairs = slice(start, start + products.shape[1])
            start = pairs.stop
            total += np.maximum(low[pairs] - products, 0) @ below_weight[pairs]
            total += np.maximum(products - high[pairs], 0) @ above_weight[pairs]
    return total


def _products(activations: Floats, signed: bool) -> Iterator[Floats]:
    """The Gram entries of each row, one neuron with itself and all later ones at a time: (n, D), (n, D - 1), ..."""
    values = activations if signed else np.abs(activations)
    for neuron in range(values.shape[1]):
        yield values[:, neuron : neuron + 1] * values[:, neuron:]
