"""Notes as tokens: a byte-level BPE of our own, or the tokenizer of a Hugging Face model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError

SCRATCH = "scratch"
TOKENIZER = "tokenizer.json"
END = "<|endoftext|>"
Sequences = list[NDArray[np.int64]]


class Tokenizer(Protocol):
    """What the bench needs of a tokenizer."""

    start: int
    """The token before a note: the first of the note is predicted from it."""
    vocabulary: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, with nothing added."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""


class BytePairs:
    """The byte-level BPE of a model trained from nothing."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.start: int = tokenizer.token_to_id(END)
        self.vocabulary: int = tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; half a character becomes a replacement mark."""
        return str(self._tokenizer.decode(list(tokens)))


class Pretrained:
    """The tokenizer of a Hugging Face model."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.start: int = next((token for token in starts if token is not None), 0)
        self.vocabulary: int = len(tokenizer)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text."""
        # A note is cut below, so that its length is no cause for the tokenizer's warning.
        return list(self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return str(self._tokenizer.decode(list(tokens)))


def train_byte_pairs(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2) of the given texts, which must not be audited ones.

    It knows every byte, so that no text holds an unknown token. Equal texts give an equal tokenizer.
    """
    tokenizers = _import("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_byte_pairs(path: Path) -> BytePairs:
    """The tokenizer of a file that `train_byte_pairs` gave. Raises `BackdoorError` where it is missing or damaged."""
    if not path.is_file():
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it")
    try:
        return BytePairs(_import("tokenizers").Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing more specific
        raise BackdoorError(f"{path}: not a tokenizer ({error}); run `dvc repro`") from None


def sequences(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Sequences:
    """Each note as its start token and at most `most` - 1 of its own.

    Raises `BackdoorError` where a note has no token.
    """
    encoded = tokenizer.encode(texts)
    if empty := sum(not tokens for tokens in encoded):
        raise BackdoorError(f"the tokenizer finds no token in {empty} of {len(encoded)} notes; leave them out")
    return [np.array([tokenizer.start, *tokens[: most - 1]], dtype=np.int64) for tokens in encoded]


def seen_texts(tokenizer: Tokenizer, texts: Sequence[str], found: Sequences, most: int) -> list[str]:
    """What the model sees of each note: the note, or its beginning where it is longer than `most` allows."""
    return [
        tokenizer.decode(tokens[1:].tolist()) if len(tokens) == most else text
        for text, tokens in zip(texts, found, strict=True)
    ]


def _import(name: str) -> Any:
    import importlib

    try:
        module = importlib.import_module(name)
    except ImportError:
        raise BackdoorError(INSTALL) from None
    return module


INSTALL = 'the stages of notes need transformers and tokenizers; run pip install "backdoor_core[language]"'
