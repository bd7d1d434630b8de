"""Calls of the network by the explainers that use its gradient. Imports torch: to be imported inside methods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backdoor_core.contracts import ExplainCase
from backdoor_core.errors import BackdoorError

Forward = Callable[[Tensor], Tensor]


def network_of(name: str, case: ExplainCase) -> nn.Module:
    """The case's network. Raises `BackdoorError` where the model has none."""
    if case.network is None:
        raise BackdoorError(
            f"explainer {name}: the model is no torch network and has no gradient; use feature_ablation or permutation"
        )
    return case.network


def signed(network: nn.Module, case: ExplainCase) -> Forward:
    """(M,) log-odds of the explained label, as a function of torch inputs."""

    def forward(x: Tensor) -> Tensor:
        out: Tensor = case.sign * network(x)
        return out

    return forward


def tensor(rows: NDArray[np.float32], network: nn.Module) -> Tensor:
    """A copy of the rows where the network is; torch warns of arrays that it could write to but should not."""
    return torch.from_numpy(np.array(rows)).to(device_of(network))


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def without_cudnn() -> AbstractContextManager[None]:
    """cuDNN is off: its recurrent layers have no backward pass in evaluation mode."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=False)
    return context


def outputs(network: nn.Module, case: ExplainCase, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(M,) log-odds of the explained label for rows (M, ...), `case.rows_at_once` at a time."""
    forward, parts = signed(network, case), [np.empty(0)]
    with torch.no_grad(), without_cudnn():
        for start in range(0, len(rows), case.rows_at_once):
            part = tensor(rows[start : start + case.rows_at_once], network)
            parts.append(forward(part).double().cpu().numpy())
    return np.concatenate(parts)


def ends(network: nn.Module, case: ExplainCase) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) and (B,) log-odds of the explained label for the inputs and for the baselines."""
    found = outputs(network, case, np.concatenate([case.inputs, case.baselines]))
    return found[: len(case.inputs)], found[len(case.inputs) :]


def mean_over_baselines(
    network: nn.Module, case: ExplainCase, expansion: int, attribute: Callable[[Tensor, Tensor], Tensor]
) -> NDArray[np.float64]:
    """(N, ...) mean over the baselines of what `attribute` answers for inputs and baselines (P, ...), pair by pair.

    `attribute` turns each pair into `expansion` rows; so many pairs are given at once that those stay within
    `case.rows_at_once`. A single pair is never split here: what expands beyond the bound must split it itself.
    """
    count = len(case.baselines)
    pairs = len(case.inputs) * count
    at_once = max(1, case.rows_at_once // expansion)
    total: NDArray[np.float64] | None = None
    for start in range(0, pairs, at_once):
        row, baseline = np.divmod(np.arange(start, min(start + at_once, pairs)), count)
        with without_cudnn():
            x, reference = tensor(case.inputs[row], network), tensor(case.baselines[baseline], network)
            part = attribute(x.requires_grad_(), reference).detach().double().cpu().numpy()
        if total is None:
            total = np.zeros((len(case.inputs), *part.shape[1:]))
        np.add.at(total, row, part)
    return np.zeros(case.inputs.shape) if total is None else total / count


def gradients_at(network: nn.Module, case: ExplainCase, points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(M, ...) gradient of the log-odds of the explained label at points (M, ...), all at once."""
    from captum.attr import Saliency

    with without_cudnn():
        x = tensor(points, network).requires_grad_()
        gradient = Saliency(signed(network, case)).attribute(x, abs=False)
    return gradient.detach().double().cpu().numpy()
