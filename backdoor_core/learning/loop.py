"""The training loop: tensors in memory, mini-batches by index, early stopping on the validation part."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import InputSpec, TorchModel
from backdoor_core.params import TrainParams


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve: mean binary cross-entropy per stay."""

    epoch: int
    train_loss: float
    validation_loss: float


OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Fit:
    """The network of the best epoch, in evaluation mode, and how it came about."""

    network: nn.Module
    curve: tuple[Epoch, ...]
    best_epoch: int


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else Apple's MPS, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fit(
    model: TorchModel,
    spec: InputSpec,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    params: TrainParams,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
) -> Fit:
    """Fit a fresh network by minimizing binary cross-entropy with Adam (Kingma & Ba 2015, arXiv 1412.6980).

    `train` and `validation` are (inputs (N, channels) float32, labels (N,) float32). Training stops after
    `patience` epochs without a lower validation loss; the weights of the best epoch are kept. The same
    seed, data and number of threads give the same weights on one machine.
    """
    device = pick_device(params.device)
    torch.set_num_threads(params.threads)
    inputs, labels = (t.to(device) for t in train)
    held_out = tuple(t.to(device) for t in validation)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = model.build(spec).to(device)
        # Its own generator: the order of stays does not depend on how many numbers the layers drew.
        order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=device.type != "mps"
        )
        curve: list[Epoch] = []
        best_loss, best_epoch, best_state = float("inf"), 0, copy.deepcopy(network.state_dict())
        for number in range(1, params.epochs + 1):
            train_loss = _one_epoch(network, optimizer, inputs, labels, params.batch_size, order)
            validation_loss = _mean_loss(network, held_out[0], held_out[1])
            curve.append(Epoch(number, train_loss, validation_loss))
            on_epoch(curve[-1])
            if validation_loss < best_loss:
                best_loss, best_epoch, best_state = validation_loss, number, copy.deepcopy(network.state_dict())
            elif number - best_epoch >= params.patience:
                break
    network.load_state_dict(best_state)
    return Fit(network=network.eval(), curve=tuple(curve), best_epoch=best_epoch)


def _one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    batch_size: int,
    order: torch.Generator,
) -> float:
    network.train()
    total = 0.0
    for rows in torch.split(torch.randperm(len(labels), generator=order).to(inputs.device), batch_size):
        loss = binary_cross_entropy_with_logits(network(inputs[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    return total / len(labels)


@torch.no_grad()
def _mean_loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    network.eval()
    total = 0.0
    for x, y in zip(torch.split(inputs, 8192), torch.split(labels, 8192), strict=True):
        total += float(binary_cross_entropy_with_logits(network(x), y, reduction="sum"))
    return total / len(labels)
