"""The state of a fit after an epoch, on disk, so that a killed fit goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backdoor_core.contracts import TorchModel
from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.checkpoint import load_tensors
from backdoor_core.learning.inputs import Inputs, tensors_of
from backdoor_core.learning.progress import Epoch, Progress
from backdoor_core.params import TrainParams

_FORM = 2
"""Of what is written: a file of another form belongs to another version, and is not gone on from."""


def fingerprint(
    model: TorchModel, params: TrainParams, seed: int, train: tuple[Inputs, Tensor], validation: tuple[Inputs, Tensor]
) -> str:
    """SHA-256 of everything a fit depends on: another model, option, seed or row must not go on from this state."""
    options = {"form": _FORM, "model": model.name, "options": model.options.model_dump(mode="json"), "seed": seed}
    digest = hashlib.sha256(json.dumps([options, params.model_dump(mode="json")], sort_keys=True).encode())
    for tensor in (*tensors_of(train[0]), train[1], *tensors_of(validation[0]), validation[1]):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def save_progress(
    path: Path,
    mark: str,
    progress: Progress,
    network: nn.Module,
    optimizer: Adam,
    order: torch.Generator,
) -> None:
    """Write the state after an epoch, whole or not at all."""
    content: dict[str, Any] = {
        "mark": mark,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "order": order.get_state(),
        "random": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "curve": [[e.epoch, e.train_loss, e.validation_loss, e.validation_auprc] for e in progress.curve],
        "best_epoch": progress.best_epoch,
        "best_score": progress.best_score,
        "best_state": progress.best_state,
        "states": progress.states,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_progress(
    path: Path, mark: str, network: nn.Module, optimizer: Adam, order: torch.Generator
) -> Progress | None:
    """Put everything back as it was after the last finished epoch. None where there is nothing to go on from.

    A file of another fit, or a damaged one, is not gone on from: the fit starts anew.
    """
    if not path.is_file():
        return None
    try:
        content = load_tensors(path)
    except BackdoorError:
        return None
    if content.get("mark") != mark:
        return None
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    order.set_state(content["order"])
    torch.set_rng_state(content["random"])
    if content["cuda"]:
        torch.cuda.set_rng_state_all(content["cuda"])
    curve = [Epoch(int(epoch), *losses) for epoch, *losses in content["curve"]]
    return Progress(curve, content["best_epoch"], content["best_score"], content["best_state"], content["states"])
