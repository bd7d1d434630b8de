"""Differentially private training of a causal language model, with Opacus' gradients by record and its accountant.

Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv 1607.00133, algorithm 1, with AdamW in place of
plain descent, which only processes what is already private. The record is the note: who has k notes has k times the
budget at least.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backdoor_core.errors import BackdoorError
from backdoor_core.language.batches import Rows, padded
from backdoor_core.language.models import logits_of
from backdoor_core.language.scoring import note_nll
from backdoor_core.language.tokenizer import Sequences

_NUMBERS_AT_ONCE = 2**24
"""Most numbers in the gradients by record that are held at once; 64 MiB."""
INSTALL = 'params.yaml: notes.recipe: dp needs Opacus; run pip install "backdoor_core[language]"'


@dataclass(frozen=True)
class Privacy:
    """What the accountant needs to know of a training, and what it answers."""

    epsilon: float
    """As Opacus reckons it for the whole training, by Renyi orders."""
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    expected_batch: float
    max_grad_norm: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@cache
def plan_privacy(
    members: int, batch_size: int, epochs: int, epsilon: float, delta: float, max_grad_norm: float
) -> Privacy:
    """The least noise that keeps to the budget over all steps, each taking a note with one chance in steps a pass.

    Raises `BackdoorError` where Opacus is not installed, and where no noise does.
    """
    if find_spec("opacus") is None:
        raise BackdoorError(INSTALL)
    per_epoch = max(1, math.ceil(members / batch_size))
    rate, steps = 1 / per_epoch, per_epoch * epochs
    accountants = import_module("opacus.accountants")
    with warnings.catch_warnings():
        # That another order than the accountant tries would give a tighter bound: this one holds all the same.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        try:
            noise = float(
                import_module("opacus.accountants.utils").get_noise_multiplier(
                    target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="rdp"
                )
            )
        except ValueError as error:
            raise BackdoorError(
                f"params.yaml: notes.dp.epsilon: no noise keeps to {epsilon:g} at delta {delta:.3g} over {steps} "
                f"steps; set a larger one ({error})"
            ) from None
        accountant = accountants.create_accountant("rdp")
        accountant.history = [(noise, rate, steps)]
        spent = float(accountant.get_epsilon(delta=delta))
    return Privacy(spent, delta, noise, rate, steps, members * rate, max_grad_norm)


class PrivateTraining:
    """Steps of DP-SGD on one model."""

    def __init__(self, model: nn.Module, sequences: Sequences, rows: Rows, privacy: Privacy, rate: float, seed: int):
        self._model, self._sequences, self._rows, self._privacy = model, sequences, rows, privacy
        self._device = next(model.parameters()).device
        self._rng = np.random.default_rng(seed)
        self._by_record = by_record(model, sequences, rows[:4])
        parameters = [p for p in model.parameters() if p.requires_grad]
        self._at_once = max(1, _NUMBERS_AT_ONCE // sum(p.numel() for p in parameters))
        self._optimizer = import_module("opacus.optimizers").DPOptimizer(
            torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=privacy.expected_batch,
            generator=torch.Generator(self._device).manual_seed(int(self._rng.integers(2**62))),
        )

    def epoch(self) -> None:
        """As many steps as make one pass on average, each on notes drawn independently (Poisson sampling)."""
        for _ in range(round(1 / self._privacy.sample_rate)):
            drawn = self._rows[self._rng.random(len(self._rows)) < self._privacy.sample_rate]
            self._step(drawn[np.argsort([len(self._sequences[row]) for row in drawn], kind="stable")])

    def _step(self, rows: Rows) -> None:
        portions = [rows[start : start + self._at_once] for start in range(0, len(rows), self._at_once)]
        if not portions:  # no note was drawn: the step is noise alone
            for parameter in self._optimizer.params:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            self._optimizer.step()
            self._optimizer.zero_grad()
        for number, portion in enumerate(portions, start=1):
            backward_by_record(self._by_record, *padded(self._sequences, portion, self._device))
            self._optimizer.signal_skip_step(do_skip=number < len(portions))
            self._optimizer.step()
            self._optimizer.zero_grad()

    def close(self) -> None:
        """Take Opacus' hooks off the model."""
        self._by_record.remove_hooks()


def by_record(model: nn.Module, sequences: Sequences, rows: Rows) -> Any:
    """The model with gradients by record, tried on some notes: they must sum to the gradient of the whole.

    Raises `BackdoorError` naming the model where Opacus cannot do it: weights shared by layers, for example.
    """
    opacus = import_module("opacus.grad_sample")
    _register_conv1d(opacus)
    device = next(model.parameters()).device
    try:
        found = opacus.GradSampleModule(model.train(), loss_reduction="sum")
        backward_by_record(found, *padded(sequences, rows, device))
    # Opacus and the parts of torch that it builds on raise what they please for a network they cannot take.
    except Exception as error:
        raise BackdoorError(_unfit(model, error)) from error
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        each, whole = getattr(parameter, "grad_sample", None), parameter.grad
        if not isinstance(each, Tensor) or whole is None or not torch.allclose(each.sum(0), whole, 1e-3, 1e-4):
            raise BackdoorError(_unfit(model, f"no gradient for each record of the weights {name}"))
        parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]
    return found


def _unfit(model: nn.Module, reason: object) -> str:
    said = " ".join(str(reason).split()).split(". ")[0]
    return f"params.yaml: notes.recipe: dp: Opacus cannot train {type(model).__name__}: {said}; use model scratch"


def backward_by_record(model: Any, tokens: Tensor, own: Tensor) -> None:
    """Leave the gradient of each record's mean NLL in the parameters' `grad_sample`."""
    with _quiet():
        note_nll(logits_of(model, tokens), tokens, own).sum().backward()  # type: ignore[no-untyped-call]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch says how Opacus' hooks fire where no input needs a gradient (tokens cannot), and which layers are slow.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        yield


def _register_conv1d(opacus: Any) -> None:
    """GPT-2's linear layers are Hugging Face's `Conv1D`, x W + b with W (in, out), which Opacus does not know."""
    layer = import_module("transformers.pytorch_utils").Conv1D

    def gradients(module: nn.Module, inputs: list[Tensor], above: Tensor) -> dict[nn.Parameter, Tensor]:
        weight, bias = module.weight, module.bias
        found: dict[nn.Parameter, Tensor] = {}
        if weight.requires_grad:
            found[weight] = torch.einsum("n...i,n...j->nij", inputs[0], above)  # type: ignore[index]
        if bias.requires_grad:
            found[bias] = above.flatten(1, -2).sum(dim=1)  # type: ignore[index]
        return found

    opacus.GradSampleModule.GRAD_SAMPLERS[layer] = gradients
