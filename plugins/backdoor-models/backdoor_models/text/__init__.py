"""Frozen text encoders by name. Importing this imports neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path

from backdoor_core.errors import BackdoorError
from backdoor_core.text import TextEncoder
from backdoor_models.text.hashing import HashingEncoder

BUILT_IN = ("hashing", "minilm")


def text_encoder(
    name: str,
    *,
    revision: str | None = None,
    max_tokens: int | None = None,
    root: Path = Path(),
    device: str = "cpu",
) -> TextEncoder:
    """The encoder called `name`.

    `hashing` (768 wide) needs nothing else; `minilm` (384 wide) needs the extra minilm; any other name is a folder
    that holds a saved Transformers encoder (relative to `root`) or, where there is no such folder, an id on the
    Hugging Face Hub such as yikuan8/Clinical-Longformer; both need the extra text and are as wide as the model.
    `revision` is the branch, tag or commit of a Hub id, `max_tokens` cuts texts shorter than the model's own limit.

    Raises `BackdoorError` where the extra is missing, the model cannot be had or is no encoder with a CLS token, or
    an option does not fit the encoder.
    """
    if revision is not None and (name in BUILT_IN or (root / name).is_dir()):
        raise BackdoorError(f"text encoder {name}: revision goes with an id on the Hugging Face Hub only; leave it out")
    if name == "hashing":
        if max_tokens is not None:
            raise BackdoorError("text encoder hashing: it reads the whole text; leave max_tokens out")
        return HashingEncoder()
    if name == "minilm":
        from backdoor_models.text.minilm import minilm

        return minilm(max_tokens, device)
    from backdoor_models.text.hugging_face import hugging_face

    return hugging_face(name, revision, max_tokens, root, device)
