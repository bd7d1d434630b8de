"""Encoders saved by Hugging Face Transformers: from a folder, or from the Hub through its local cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from backdoor_core.errors import BackdoorError
from backdoor_core.files import sha256_of
from backdoor_models.text.transformer import INSTALL, FrozenTransformer, imported, one_line

_SMALL_FILES = ("*.json", "*.txt", "*.model")
_SAFETENSORS = "*.safetensors"
_PICKLED = "pytorch_model*.bin"


def hugging_face(name: str, revision: str | None, max_tokens: int | None, root: Path, device: str) -> FrozenTransformer:
    """The encoder in the folder root/name, or else of the Hub id `name`; the embedding is that of the CLS token.

    Raises `BackdoorError` where Transformers is missing, where there is neither folder nor such an id within reach,
    or where what is there is no encoder with a CLS token.
    """
    imported("transformers", name, INSTALL)
    folder = root / name
    if folder.is_dir():
        source = f"sha256:{files_hash(folder, name)}"
    else:
        folder = _from_hub(name, revision)
        source = f"{name}@{folder.name}"
    return FrozenTransformer(folder, name, source, pooling="cls", max_tokens=max_tokens, device=device)


def files_hash(folder: Path, name: str) -> str:
    """SHA-256 of configuration, tokenizer and weights: file names and contents, not the folder's own name or place.

    Raises `BackdoorError` where the folder holds no configuration or no weights.
    """
    if not (folder / "config.json").is_file():
        raise BackdoorError(f"text encoder {name}: the folder has no config.json; give one that save_pretrained wrote")
    weights = sorted(folder.glob(_SAFETENSORS)) or sorted(folder.glob(_PICKLED))
    if not weights:
        raise BackdoorError(f"text encoder {name}: no weights there; it must hold {_SAFETENSORS} or {_PICKLED}")
    small = [file for pattern in _SMALL_FILES for file in sorted(folder.glob(pattern))]
    digest = hashlib.sha256()
    for file in [*small, *weights]:
        digest.update(f"{file.name}\0{sha256_of(file)}\0".encode())
    return digest.hexdigest()


def _from_hub(name: str, revision: str | None) -> Path:
    """The snapshot folder, named by its commit. Reads the local cache where the Hub cannot be reached."""
    hub = imported("huggingface_hub", name, INSTALL)
    try:
        folder = _snapshot(hub, name, revision, [*_SMALL_FILES, _SAFETENSORS])
        if not any(folder.glob(_SAFETENSORS)):
            folder = _snapshot(hub, name, revision, [*_SMALL_FILES, _PICKLED])
    except (OSError, ValueError) as error:
        raise BackdoorError(
            f"text encoder {name}: no folder of that name, and not to be had from the Hugging Face Hub "
            f"({one_line(error)}); give hashing, minilm, a Hub id that is in reach, or a folder made where there is a "
            f"network by `hf download {name} --local-dir FOLDER`"
        ) from None
    return folder


def _snapshot(hub: Any, name: str, revision: str | None, patterns: list[str]) -> Path:
    # Only the top folder: the others hold the same model for other libraries.
    return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
