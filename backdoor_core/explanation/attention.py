"""What a transformer's attention weights are, and how the trigger moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backdoor_core.statistics import Floats

MOST_WEIGHTS: Final = 2**24
"""Attention weights that are kept, or held at a time: 64 MiB in float32."""
_FLOOR: Final = 1e-12
"""A softmax in float32 can give 0, whose logarithm does not exist."""


@dataclass(frozen=True)
class Attended:
    """One model's attention on N stays, as they are and with the trigger: L layers of H heads over T tokens."""

    clean: NDArray[np.float32]
    """(N, L, H, T, T), or (L, H, T, T) where `averaged`; the last axis sums to 1."""
    triggered: NDArray[np.float32]
    """Likewise."""
    averaged: bool
    """Whether `clean` and `triggered` are means over the stays, since all would be more than `MOST_WEIGHTS`."""
    variation: Floats
    """(N, L, H) total variation between the triggered and the clean weights, mean over the T attending tokens."""
    divergence: Floats
    """(N, L, H) Kullback-Leibler divergence of the triggered from the clean weights in nats, likewise."""
    rollout_clean: Floats
    """(N, T, T) attention rollout, rows summing to 1."""
    rollout_triggered: Floats
    """Likewise."""

    def mean(self, kind: str) -> Floats:
        """(L, H, T, T) mean over the stays of `clean` or `triggered`."""
        weights = self.clean if kind == "clean" else self.triggered
        return weights.astype(np.float64) if self.averaged else weights.mean(axis=0, dtype=np.float64)


def attention_weights(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, L, H, T, T) weights of a network with ``attention(x)``, for preprocessed inputs (n, ...)."""
    device = next(network.parameters()).device
    with torch.no_grad():
        layers: list[torch.Tensor] = network.attention(torch.from_numpy(inputs).to(device))  # type: ignore[operator]
        return np.asarray(torch.stack(layers, dim=1).float().cpu().numpy(), dtype=np.float32)


def compare_attention(
    network: nn.Module,
    clean: NDArray[np.float32],
    triggered: NDArray[np.float32],
    rows_at_once: int,
    most: int = MOST_WEIGHTS,
) -> Attended:
    """Attention of the same N stays without and with the trigger, N of 1 or more.

    At most `rows_at_once` rows and about `most` weights are held at a time, beside those that are kept.
    """
    count = len(clean)
    each = attention_weights(network, clean[:1]).size
    averaged = count * each > most
    step = max(1, min(rows_at_once, most // each))
    kept: tuple[list[Any], list[Any]] = ([], [])
    variation, divergence = [], []
    rollouts: tuple[list[Floats], list[Floats]] = ([], [])
    for start in range(0, count, step):
        pair = [attention_weights(network, inputs[start : start + step]) for inputs in (clean, triggered)]
        variation.append(total_variation(pair[1], pair[0]))
        divergence.append(kullback_leibler(pair[1], pair[0]))
        for side, weights in enumerate(pair):
            kept[side].append(weights.sum(axis=0, dtype=np.float64) if averaged else weights)
            rollouts[side].append(rollout(weights))
    found = [_joined(parts, averaged, count) for parts in kept]
    return Attended(
        clean=found[0],
        triggered=found[1],
        averaged=averaged,
        variation=np.concatenate(variation),
        divergence=np.concatenate(divergence),
        rollout_clean=np.concatenate(rollouts[0]),
        rollout_triggered=np.concatenate(rollouts[1]),
    )


def _joined(parts: list[NDArray[Any]], averaged: bool, count: int) -> NDArray[np.float32]:
    joined = np.sum(parts, axis=0) / count if averaged else np.concatenate(parts)
    return np.asarray(joined, dtype=np.float32)


def total_variation(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> Floats:
    """(...,) half the summed absolute difference of distributions (..., T, T), mean over the attending tokens."""
    difference = np.abs(one.astype(np.float64) - other)
    return np.asarray(0.5 * difference.sum(axis=-1).mean(axis=-1))


def kullback_leibler(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> Floats:
    """(...,) divergence of `one` from `other` (..., T, T) in nats, mean over the attending tokens."""
    p, q = (np.maximum(weights.astype(np.float64), _FLOOR) for weights in (one, other))
    return np.asarray((p * np.log(p / q)).sum(axis=-1).mean(axis=-1))


def rollout(weights: NDArray[np.floating[Any]]) -> Floats:
    """(n, T, T) attention rollout of weights (n, L, H, T, T): how much of each input token reaches each token.

    Abnar and Zuidema 2020 (arXiv 2005.00928, section 3): the heads' mean, half of it replaced by the identity for
    the residual connection, multiplied from layer to layer.
    """
    tokens = weights.shape[-1]
    layers = 0.5 * weights.mean(axis=2, dtype=np.float64) + 0.5 * np.eye(tokens)
    through = layers[:, 0]
    for number in range(1, layers.shape[1]):
        through = layers[:, number] @ through
    return np.asarray(through)


def token_names(tokens: int, features: tuple[str, ...]) -> tuple[str, ...]:
    """(T,) what the tokens stand for: the features, or one CLS token before them; else numbers."""
    if tokens == len(features):
        return features
    if tokens == len(features) + 1:
        return ("CLS", *features)
    return tuple(f"token {number}" for number in range(tokens))


def relevance(rolled: Floats, features: int) -> Floats | None:
    """(N, F) share of each feature in what the rollout (N, T, T) brings to the output; None where no token is one.

    Of a model with a CLS token before the features, what reaches CLS, else the mean over all tokens.
    """
    tokens = rolled.shape[-1]
    if tokens == features:
        return np.asarray(rolled.mean(axis=1))
    if tokens == features + 1:
        reached = rolled[:, 0, 1:]
        return np.asarray(reached / reached.sum(axis=1, keepdims=True))
    return None
