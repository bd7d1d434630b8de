"""A frozen Transformers encoder: loading it safely, batching, pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError

INSTALL = 'pip install "backdoor-models[text]"'
_BATCH_TOKENS = 1024
_SHORTEST_BATCH = 16
_POSITIONS_AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"}
    | {"xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Model types that number positions from pad_token_id + 1, and so have that many fewer than their table is long."""

Pooling = Literal["cls", "mean"]


class FrozenTransformer:
    """Texts to vectors by a pretrained encoder that is never trained here.

    `pooling` cls is the first token's last hidden state; mean is the mean over the tokens, brought to unit length.
    A text is cut at `max_tokens` tokens, CLS and SEP among them; without it, at the most the model can read. The
    empty text is its special tokens alone. Longformer's CLS token has global attention, as its authors do for
    classification (Beltagy et al. 2020, arXiv 2004.05150, section 3.1).

    Texts are batched with others of about their own length. The shape of a batch follows from that length alone
    (short batches are filled up), so neighbors, order and number of the texts change an embedding by no more than
    rounding. Weights are read when the first text is.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        source: str,
        *,
        pooling: Pooling,
        max_tokens: int | None = None,
        device: str = "cpu",
        install: str = INSTALL,
    ) -> None:
        self._transformers = imported("transformers", name, install)
        self._folder, self._name, self._pooling, self._device = folder, name, pooling, device
        self._config = self._read(self._transformers.AutoConfig)
        sized = hasattr(self._config, "hidden_size") and hasattr(self._config, "vocab_size")
        if getattr(self._config, "is_encoder_decoder", False) or not sized:
            raise self._wrong("is not a plain encoder of text; choose one such as BERT, RoBERTa or Longformer")
        self._tokenizer = self._read(self._transformers.AutoTokenizer)
        special = self._special_tokens()
        self._max_tokens = self._limit(max_tokens, special)
        self.width: int = self._config.hidden_size
        self.identity = (
            f"transformers={version('transformers')} {source} max_tokens={self._max_tokens} pooling={pooling}"
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(M, width) embeddings in the order of `texts`."""
        vectors = np.empty((len(texts), self.width), np.float32)
        if not len(texts):
            return vectors
        tokens = self._tokens(texts)
        shapes = [self._shape(len(ids)) for ids in tokens]
        for shape in sorted(set(shapes)):
            alike = [i for i, other in enumerate(shapes) if other == shape]
            for start in range(0, len(alike), shape[0]):
                part = alike[start : start + shape[0]]
                vectors[part] = self._embedded([tokens[i] for i in part], shape)
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        # A text that UTF-8 cannot hold would stop the tokenizer.
        readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids: list[list[int]] = self._tokenizer(readable, truncation=True, max_length=self._max_tokens)["input_ids"]
        return ids

    def _shape(self, length: int) -> tuple[int, int]:
        """(rows, columns) of the batch for a text of `length` tokens: a function of that length alone."""
        power = max(_SHORTEST_BATCH, 1 << (length - 1).bit_length())
        columns = min(power * 3 // 4 if length <= power * 3 // 4 else power, self._max_tokens)
        # Longformer computes whole windows and would pad by itself.
        window = np.max(getattr(self._config, "attention_window", 1))
        columns = int(-(-columns // window) * window)
        return max(1, _BATCH_TOKENS // columns), columns

    def _embedded(self, tokens: list[list[int]], shape: tuple[int, int]) -> NDArray[np.float32]:
        import torch

        ids = np.full(shape, self._tokenizer.pad_token_id, np.int64)
        mask = np.zeros(shape, np.int64)
        for row in range(shape[0]):
            # The rows left over repeat the first text: a row of padding alone has nothing to attend to.
            text = tokens[row] if row < len(tokens) else tokens[0]
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._config.model_type == "longformer":
            inputs["global_attention_mask"] = np.zeros_like(mask)
            inputs["global_attention_mask"][:, 0] = 1
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
            pooled = self._pooled(self._model(**tensors).last_hidden_state, tensors["attention_mask"])
            embedded: NDArray[np.float32] = pooled[: len(tokens)].float().cpu().numpy()
        return embedded

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        if self._pooling == "cls":
            return hidden[:, 0]
        weight = mask[:, :, None].to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)

    @cached_property
    def _model(self) -> Any:
        import torch

        # Loading draws random numbers for layers that the file lacks; ours must not move on for that.
        with torch.random.fork_rng(devices=[]), _quiet(self._transformers):
            model, loading = self._read(
                self._transformers.AutoModel,
                config=self._config,
                use_safetensors=any(self._folder.glob("*.safetensors")),
                weights_only=True,
                dtype=torch.float32,
                # Other kernels are chosen by what is in the batch.
                attn_implementation="eager",
                output_loading_info=True,
            )
        # A checkpoint saved with another head has no pooler, and none is used here.
        lacking = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
        if lacking:
            raise self._wrong(f"its weights lack {lacking[0]} and would be random there; give the complete model")
        try:
            return model.eval().requires_grad_(False).to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise self._wrong(f"cannot run on {self._device} ({one_line(error)}); choose another device") from None

    def _read(self, kind: Any, **arguments: Any) -> Any:
        from huggingface_hub.errors import StrictDataclassError
        from safetensors import SafetensorError

        unreadable = (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError)
        try:
            return kind.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False, **arguments)
        except UnpicklingError:
            raise self._wrong(
                "its weights are a pickle of more than tensors, which can run code; give safetensors"
            ) from None
        except (*unreadable, SafetensorError, StrictDataclassError) as error:
            raise self._wrong(
                f"cannot be loaded ({one_line(error)}); give a folder or id of a complete model"
            ) from None

    def _special_tokens(self) -> int:
        """How many tokens the tokenizer puts around a text. Raises where it is not one of an encoder like this."""
        tokens, rows = len(self._tokenizer), self._config.vocab_size
        # Transformers makes up an empty tokenizer where the folder has none.
        if not rows / 2 <= tokens <= rows:
            raise self._wrong(
                f"its tokenizer knows {tokens} tokens and its model {rows}; give the model's own tokenizer"
            )
        bare = self._tokenizer("")["input_ids"]
        if not bare or bare[0] != self._tokenizer.cls_token_id or self._tokenizer.pad_token_id is None:
            raise self._wrong("its tokenizer puts no CLS token first or has no padding token; choose another encoder")
        return len(bare)

    def _limit(self, asked: int | None, special: int) -> int:
        positions = getattr(self._config, "max_position_embeddings", None)
        if positions is not None and self._config.model_type in _POSITIONS_AFTER_PADDING:
            positions -= self._config.pad_token_id + 1
        # A tokenizer that knows no limit says 1e30.
        known = [int(most) for most in (positions, self._tokenizer.model_max_length) if most and 0 < most < 1e9]
        if asked is None and not known:
            raise self._wrong("says nowhere how long a text it can read; set max_tokens")
        if asked is not None and not special < asked <= min(known, default=asked):
            most = f" and at most {min(known)}" if known else ""
            raise self._wrong(f"max_tokens is {asked}; it must be more than {special}{most}")
        return min(known) if asked is None else asked

    def _wrong(self, what: str) -> BackdoorError:
        return BackdoorError(f"text encoder {self._name}: {what}")


def imported(module: str, name: str, install: str) -> Any:
    """A module of an extra. Raises `BackdoorError` where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise BackdoorError(f"text encoder {name} needs {module}, which is not installed; run {install}") from None


def one_line(error: BaseException) -> str:
    """The first line of another library's message, or its kind where it has none."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bar and no table of unused weights on the terminal."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
