"""DP-SGD with Opacus' gradients for each row, its noise and its accountants."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from opacus.accountants import create_accountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import RepairCase
from backdoor_core.errors import BackdoorError
from backdoor_repairs.pruning import check_finite

_NUMBERS_AT_ONCE = 2**25
"""Most numbers in the gradients of the rows that are held at once; 128 MiB."""


@dataclass(frozen=True)
class Privacy:
    """What the accountant needs to know of a training, and what it answers."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    accountant: str
    expected_batch: float

    @property
    def epsilon(self) -> float | None:
        """The budget that the whole training spends; None where nothing is guaranteed."""
        if self.noise_multiplier == 0:
            return None
        accountant = create_accountant(self.accountant)
        accountant.history = [(self.noise_multiplier, self.sample_rate, self.steps)]
        with warnings.catch_warnings():
            # That another order than the accountant tries would give a tighter bound: this one holds all the same.
            warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
            epsilon = float(accountant.get_epsilon(delta=self.delta))
        return epsilon if math.isfinite(epsilon) else None

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {"epsilon": self.epsilon, **asdict(self)}


def plan_privacy(
    *,
    rows: int,
    batch_size: int,
    epochs: int,
    noise_multiplier: float,
    epsilon: float | None,
    delta: float | None,
    accountant: str,
) -> Privacy:
    """The steps of a training on so many rows, and its noise: as given, or the least that keeps to `epsilon`.

    A pass has as many steps as batches of `batch_size` cover the rows; each takes a row with one chance in that many.
    Raises `BackdoorError` where no noise keeps to the budget.
    """
    per_epoch = math.ceil(rows / batch_size)
    sample_rate, steps = 1 / per_epoch, per_epoch * epochs
    delta = rows**-1.1 if delta is None else delta
    if epsilon is not None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
                noise_multiplier = get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=sample_rate,
                    steps=steps,
                    accountant=accountant,
                )
        except ValueError as error:
            raise BackdoorError(
                f"repair dp_sgd: no noise keeps to epsilon {epsilon:g} at delta {delta:.3g} over {steps} steps; "
                f"set a larger epsilon ({error})"
            ) from None
    return Privacy(float(noise_multiplier), sample_rate, steps, delta, accountant, rows * sample_rate)


def train_privately(case: RepairCase, privacy: Privacy, max_grad_norm: float, learning_rate: float) -> nn.Module:
    """A fresh network of the case's architecture, trained on all rows; see `dp_sgd.DPSGD`."""
    device = next(case.network.parameters()).device
    inputs = torch.from_numpy(case.inputs).to(device)
    labels = torch.from_numpy(case.labels.astype(np.float32)).to(device)
    seeds = [int(seed) for seed in case.rng.integers(2**63, size=3)]
    network = case.fresh(seeds[0]).to(device).train()
    with torch.random.fork_rng():
        torch.manual_seed(seeds[1])
        by_row = rowwise(network, inputs[:8], labels[:8])
        optimizer = DPOptimizer(
            torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=case.weight_decay),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=privacy.expected_batch,
            generator=torch.Generator(device).manual_seed(seeds[2]),
        )
        for _ in range(privacy.steps):
            drawn = np.flatnonzero(case.rng.random(len(labels)) < privacy.sample_rate)
            batch = torch.from_numpy(drawn).to(device)
            _step(by_row, optimizer, inputs[batch], labels[batch])
    check_finite(network, "dp_sgd")
    # A network without Opacus' hooks takes the weights.
    case.network.load_state_dict(network.state_dict())
    return case.network.eval()


def _step(by_row: GradSampleModule, optimizer: DPOptimizer, inputs: Tensor, labels: Tensor) -> None:
    """One step on a batch of any size, also none: then it is noise alone."""
    if not len(labels):
        for parameter in optimizer.params:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimizer.step()
        optimizer.zero_grad()
        return
    size = max(1, _NUMBERS_AT_ONCE // sum(p.numel() for p in optimizer.params))
    portions = list(zip(torch.split(inputs, size), torch.split(labels, size), strict=True))
    for number, (x, y) in enumerate(portions, start=1):
        _backward(by_row, x, y)
        optimizer.signal_skip_step(do_skip=number < len(portions))
        optimizer.step()
        optimizer.zero_grad()


def _backward(by_row: GradSampleModule, x: Tensor, y: Tensor) -> None:
    # A gradient by the input is of no use, but without it torch warns at every step of how Opacus' hooks fire.
    logits = by_row(x.detach().requires_grad_())
    with warnings.catch_warnings():
        # torch says of some layers that their gradients by row are slow.
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        binary_cross_entropy_with_logits(logits, y, reduction="sum").backward()


def rowwise(network: nn.Module, inputs: Tensor, labels: Tensor) -> GradSampleModule:
    """The network with gradients for each row, tried on some rows: they must sum to the gradient of the whole.

    Raises `BackdoorError` naming the network where Opacus cannot do it.
    """
    name = type(network).__name__
    if faults := ModuleValidator.validate(network):
        raise BackdoorError(_unfit(name, faults[0]))
    try:
        by_row = GradSampleModule(network, loss_reduction="sum")
        _backward(by_row, inputs, labels)
    # Opacus and the parts of torch that it builds on raise what they please for a network they cannot take.
    except Exception as error:
        raise BackdoorError(_unfit(name, error)) from error
    for key, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rows, whole = parameter.grad_sample, parameter.grad
        if rows is None or whole is None or not torch.allclose(rows.sum(dim=0), whole, rtol=1e-3, atol=1e-5):
            raise BackdoorError(_unfit(name, f"no gradient for each row of the weights {key}"))
        parameter.grad, parameter.grad_sample = None, None
    return by_row


def _unfit(network: str, reason: object) -> str:
    said = " ".join(str(reason).split()).split(". ")[0]
    return f"repair dp_sgd: Opacus cannot train the network {network}: {said}; choose another model, such as mlp or tcn"
