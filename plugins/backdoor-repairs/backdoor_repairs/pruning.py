"""The arithmetic of fine-pruning."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import RepairCase
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.inputs import Inputs, as_inputs, in_batches, mini_batches
from backdoor_core.learning.network import Network


def fine_prune(
    case: RepairCase, share: float, epochs: int, learning_rate: float, batch_size: int
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of the case with a share of its penultimate units pruned, fine-tuned; and what was done."""
    network = case.network
    device = next(network.parameters()).device
    rows = (case.inputs, case.labels) if case.trusted is None else case.trusted
    inputs = as_inputs(rows[0]).to(device)
    labels = torch.from_numpy(rows[1].astype(np.float32)).to(device)
    weight = head_weight(network, inputs.index_select(0, torch.arange(1, device=device)))
    activity = mean_activity(network, inputs)
    pruned = least_active(activity, share)
    silent = torch.from_numpy(pruned).to(device).view_as(weight)
    with torch.no_grad():
        weight.masked_fill_(silent, 0.0)
    seed = int(case.rng.integers(2**63))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        order = torch.Generator().manual_seed(seed)
        optimizer = Adam(network.parameters(), learning_rate, case.weight_decay)
        network.train()
        for _ in range(epochs):
            for batch in mini_batches(inputs, batch_size, order):
                loss = binary_cross_entropy_with_logits(network(inputs.index_select(0, batch)), labels[batch])
                optimizer.step(
                    torch.autograd.grad(loss, optimizer.parameters, allow_unused=True, materialize_grads=True)
                )
                with torch.no_grad():
                    weight.masked_fill_(silent, 0.0)
    check_finite(network, "fine_pruning")
    return network.eval(), {
        "rows": "trusted" if case.trusted is not None else "training, which may be poisoned",
        "row_count": len(labels),
        "units": len(activity),
        "pruned": int(pruned.sum()),
        "never_active": int((activity == 0).sum()),
        "activity_pruned": float(activity[pruned].mean()) if pruned.any() else None,
        "activity_kept": float(activity[~pruned].mean()),
        "epochs": epochs,
    }


def head_weight(network: nn.Module, x: Inputs) -> nn.Parameter:
    """The weights (D numbers) of the last linear layer, for any input x (1, ...) of the network.

    It is the one parameter by which the logit has the activations themselves as its gradient: so it is found
    whatever the layer is called and however ``head`` is written. Raises `BackdoorError` where there is none.
    """
    with torch.no_grad():
        width = cast(Network, network).embed(x).shape[1]
    probe = torch.linspace(0.5, 1.5, width, device=next(network.parameters()).device)[None] * 3
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    logit = cast(Network, network).head(probe).sum()
    gradients = torch.autograd.grad(logit, [p for _, p in named], allow_unused=True)
    for (_, parameter), gradient in zip(named, gradients, strict=True):
        if gradient is not None and gradient.numel() == width and torch.allclose(gradient.flatten(), probe[0]):
            return parameter
    raise BackdoorError(
        f"repair fine_pruning: {type(network).__name__} has no weights that its `head` multiplies the {width} "
        "penultimate activations with; end the network in one linear layer, such as torch.nn.Linear"
    )


@torch.no_grad()
def mean_activity(network: nn.Module, inputs: Inputs) -> NDArray[np.float64]:
    """(D,) mean absolute penultimate activation over the rows, in evaluation mode."""
    network.eval()
    activations = in_batches(lambda x: cast(Network, network).embed(x).abs(), inputs)
    return cast(NDArray[np.float64], activations.double().mean(dim=0).cpu().numpy())


def least_active(activity: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """(D,) which units are pruned: the least active ones, as many as the share of D, rounded; never all."""
    pruned = np.zeros(len(activity), dtype=np.bool_)
    count = min(round(share * len(activity)), len(activity) - 1)
    pruned[np.argsort(activity, kind="stable")[:count]] = True
    return pruned


def check_finite(network: nn.Module, repair: str) -> None:
    """Raises `BackdoorError` where the training of a repair diverged."""
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        raise BackdoorError(
            f"repair {repair}: its training diverged, weights are not finite; set a lower learning_rate in "
            f"repair_options.{repair}"
        )
