"""The training loop: tensors in memory, mini-batches by index, early stopping, and going on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.chain import Chain, Scratch, chain_of, slopes
from backdoor_core.learning.dropout import Masks, own_dropout
from backdoor_core.learning.inputs import Inputs, in_batches, mini_batches
from backdoor_core.learning.network import OwnLoss
from backdoor_core.learning.progress import Epoch, Progress, copied_state
from backdoor_core.learning.resume import fingerprint, load_progress, save_progress
from backdoor_core.params import TrainParams
from backdoor_core.ranking import average_precision

OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Fit:
    """The network of the best epoch, in evaluation mode, the weights of the last one, and how it came about."""

    network: nn.Module
    last: dict[str, Tensor]
    curve: tuple[Epoch, ...]
    best_epoch: int
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Weights after epochs 1, 2, 4, 8, ..., where ``params.checkpoints`` is on."""


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else Apple's MPS, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fit(
    model: TorchModel,
    spec: InputSpec | EventSpec,
    train: tuple[Inputs, Tensor],
    validation: tuple[Inputs, Tensor],
    params: TrainParams,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Path | None = None,
) -> Fit:
    """Fit a fresh network by minimizing binary cross-entropy with Adam (Kingma & Ba 2015, arXiv 1412.6980).

    `train` and `validation` are (inputs as `spec` says, labels (N,) float32). Training stops after `patience`
    epochs without a better one by `monitor`; the weights of the best epoch are kept. The same seed, data and
    number of threads give the same weights on one machine. `resume` names a file for the state after each
    epoch: a fit of the same inputs that was killed goes on from it and ends with the same bytes as an unbroken
    one. The file is removed at the end. Raises `BackdoorError` for bf16 without a GPU.
    """
    device = pick_device(params.device)
    if params.precision == "bf16" and device.type != "cuda":
        raise BackdoorError(f"params.yaml: train.precision bf16 needs a GPU; the device is {device.type}, use float32")
    torch.set_num_threads(params.threads)
    inputs, labels = train[0].to(device), train[1].to(device)
    held_out = (validation[0].to(device), validation[1].to(device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = model.build(spec).to(device)
        # Its own generator: the order of stays does not depend on how many numbers the layers drew.
        order = torch.Generator().manual_seed(seed)
        optimizer = Adam(network.parameters(), params.learning_rate, params.weight_decay)
        # A GPU would not gain: it goes on while Python asks for the next call.
        chain = chain_of(network, inputs) if device.type == "cpu" else None
        step = _Step(network, optimizer, params, positive_weight(params, labels), device, Masks(seed), chain)
        progress, mark = Progress(), ""
        if resume is not None:
            mark = fingerprint(model, params, seed, train, validation)
            progress = load_progress(resume, mark, network, optimizer, order) or progress
        while not progress.stopped(params):
            number = len(progress.curve) + 1
            optimizer.learning_rate = learning_rate(params, number)
            step.masks.begin(number)
            train_loss = step.epoch(inputs, labels, order)
            loss, auprc = validate(network, *held_out)
            epoch = Epoch(number, train_loss, loss, auprc)
            progress.add(epoch, auprc if params.monitor == "auprc" else -loss, network, params.checkpoints)
            if resume is not None:
                save_progress(resume, mark, progress, network, optimizer, order)
            on_epoch(epoch)
    last = copied_state(network)
    network.load_state_dict(progress.best_state)
    if resume is not None:
        resume.unlink(missing_ok=True)
    return Fit(network.eval(), last, tuple(progress.curve), progress.best_epoch, progress.states)


@dataclass(frozen=True)
class _Step:
    """One pass over the training part."""

    network: nn.Module
    optimizer: Adam
    params: TrainParams
    pos_weight: Tensor | None
    device: torch.device
    masks: Masks
    chain: Chain | None
    scratch: Scratch = field(default_factory=Scratch)

    @cached_property
    def own_loss(self) -> Callable[..., Tensor] | None:
        """Asked of the network once: a check of its methods at every step takes a twentieth of a small one."""
        return self.network.loss if isinstance(self.network, OwnLoss) else None

    def epoch(self, inputs: Inputs, labels: Tensor, order: torch.Generator) -> float:
        """Mean loss per stay over the mini-batches of one epoch, as they were met."""
        self.network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device if self.device.type != "mps" else "cpu")
        gradients_of = self._by_autograd if self.chain is None else partial(self._in_closed_form, self.chain)
        with self._own_masks():
            for rows in mini_batches(inputs, self.params.batch_size, order):
                x, y = inputs.index_select(0, rows), labels.index_select(0, rows)
                loss, gradients = gradients_of(x, y)
                if self.params.clip_norm is not None:
                    _clip(gradients, self.params.clip_norm)
                self.optimizer.step(gradients)
                # Summed on the device: to fetch each loss would wait for the GPU at every step.
                total += loss.to(total.device) * len(rows)
        return float(total) / len(labels)

    def _by_autograd(self, x: Inputs, y: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """The mean loss per stay, and its gradient by each parameter."""
        with self._precision():
            loss = self._loss(x, y)
        parameters = self.optimizer.parameters
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)

    @torch.no_grad()
    def _in_closed_form(self, chain: Chain, x: Inputs, y: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """The same of a chain of layers. Overwrites `x`."""
        weights = self.optimizer.parameters
        logits, kept = chain.logits(weights, cast(Tensor, x), self.masks.drop, self.scratch)
        loss = binary_cross_entropy_with_logits(logits, y, pos_weight=self.pos_weight)
        return loss, chain.gradients(weights, kept, slopes(logits, y, self.pos_weight).div_(len(y)), self.scratch)

    def _own_masks(self) -> AbstractContextManager[None]:
        """On the CPU; a GPU draws its masks faster than they could be brought to it."""
        return own_dropout(self.network, self.masks.like) if self.device.type == "cpu" else nullcontext()

    def _precision(self) -> AbstractContextManager[Any]:
        """What the network is called in: bf16 on a GPU where the params ask for it."""
        if self.device.type == "cpu":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.params.precision == "bf16")

    def _loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Cross-entropy, or what a network that has a loss of its own says (`network.OwnLoss`)."""
        if self.own_loss is not None:
            return self.own_loss(inputs, labels, self.pos_weight)
        return binary_cross_entropy_with_logits(self.network(inputs).float(), labels, pos_weight=self.pos_weight)


def _clip(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale the gradient to a norm of at most `limit`, in place (Pascanu et al. 2013, arXiv 1211.5063)."""
    factor = (limit / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor)


def positive_weight(params: TrainParams, labels: Tensor) -> Tensor | None:
    """Weight of the positive stays in the loss; None for 1."""
    if params.pos_weight == 1.0:
        return None
    if params.pos_weight == "balanced":
        positives = labels.sum()
        return (len(labels) - positives) / positives.clamp(min=1)
    return torch.tensor(params.pos_weight, dtype=torch.float32, device=labels.device)


def learning_rate(params: TrainParams, epoch: int) -> float:
    """Cosine annealing by epoch (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5), from the full rate on."""
    share = (epoch - 1) / params.epochs
    return params.learning_rate * (1.0 if params.schedule == "constant" else (1 + math.cos(math.pi * share)) / 2)


@torch.no_grad()
def validate(network: nn.Module, inputs: Inputs, labels: Tensor) -> tuple[float, float]:
    """Mean loss per stay, and AUPRC."""
    network.eval()
    logits = in_batches(lambda x: network(x).double(), inputs)
    loss = float(binary_cross_entropy_with_logits(logits, labels.double()))
    scores: np.ndarray[Any, np.dtype[np.float64]] = logits.cpu().numpy()
    return loss, float(average_precision(scores, labels.cpu().numpy() == 1))
