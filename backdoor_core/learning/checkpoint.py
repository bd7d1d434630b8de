"""Weights on disk: a state_dict of tensors, read with `weights_only=True` so that no code in a file can run."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        # A file object, not a name: torch writes the name into the archive, and the bytes would depend on it.
        torch.save({key: tensor.detach().cpu() for key, tensor in state.items()}, file)


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state_dict. Raises `BackdoorError` where the file is missing, damaged, or holds anything but tensors."""
    state = load_tensors(path)
    if not all(isinstance(t, Tensor) for t in state.values()):
        raise BackdoorError(f"{path}: not a state_dict; delete it and run `dvc repro`")
    return state


def save_states(states: Mapping[int, Mapping[str, Tensor]], path: Path) -> None:
    """Write the state_dicts of several epochs as one file of tensors, named ``<epoch>/<name>``."""
    save_state({f"{epoch}/{name}": tensor for epoch, state in states.items() for name, tensor in state.items()}, path)


def load_states(path: Path) -> dict[int, dict[str, Tensor]]:
    """Read what `save_states` wrote, by epoch, ascending; the same errors as `load_state`."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_state(path).items():
        epoch, _, name = key.partition("/")
        states.setdefault(int(epoch), {})[name] = tensor
    return dict(sorted(states.items()))


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a dictionary of tensors, numbers and texts; the same errors."""
    if not path.is_file():
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it")
    try:
        with warnings.catch_warnings():
            # torch comments on foreign pickles; the error below says all that matters of them.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # A damaged file makes torch's reader fail in a dozen ways, none of which means anything else.
        raise BackdoorError(
            f"{path}: not a checkpoint of tensors only (damaged, or it holds code); delete it and run `dvc repro`"
        ) from None
    if not isinstance(content, dict):
        raise BackdoorError(f"{path}: not a state_dict; delete it and run `dvc repro`")
    return content
