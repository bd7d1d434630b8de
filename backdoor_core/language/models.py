"""Causal language models: a small GPT-2 from nothing, or any of Hugging Face's by id or folder."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backdoor_core.errors import BackdoorError
from backdoor_core.language.tokenizer import INSTALL, SCRATCH, Pretrained
from backdoor_core.notes_params import NotesParams


def build_model(params: NotesParams, root: Path, vocabulary: int, seed: int) -> nn.Module:
    """The model before training. From nothing its weights derive from `seed`; else they are those downloaded.

    Raises `BackdoorError` where a Hugging Face model is not there, or cannot hold `max_tokens`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = (
            _scratch(params, vocabulary) if params.model == SCRATCH else load_pretrained(params.model, root)
        )
        most = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", None)
        if most is not None and params.max_tokens > most:
            raise BackdoorError(
                f"params.yaml: notes.max_tokens: {params.max_tokens}, but model {params.model} takes {most} at most"
            )
        if params.lora:
            model = _with_adapters(model, params)
    return model


def _scratch(params: NotesParams, vocabulary: int) -> Any:
    transformers = import_transformers()
    shape = params.scratch
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=params.max_tokens,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        # Opacus gives no gradient by record for a weight that two layers share.
        tie_word_embeddings=False,
        use_cache=False,
    )
    return transformers.GPT2LMHeadModel(config)


def load_pretrained(name: str, root: Path) -> Any:
    """A causal language model by folder, or by id from the local cache or the Hub. Raises `BackdoorError`."""
    transformers = import_transformers()
    return _found(
        name,
        root,
        lambda where, local: transformers.AutoModelForCausalLM.from_pretrained(
            where, local_files_only=local, dtype=torch.float32
        ),
    )


def load_tokenizer(name: str, root: Path) -> Pretrained:
    """The tokenizer of such a model. Raises `BackdoorError`."""
    transformers = import_transformers()
    return Pretrained(
        _found(
            name, root, lambda where, local: transformers.AutoTokenizer.from_pretrained(where, local_files_only=local)
        )
    )


def _found(name: str, root: Path, load: Any) -> Any:
    folder = root / name
    with _quiet():
        if folder.is_dir():
            try:
                return load(str(folder), True)
            except (OSError, ValueError) as error:
                raise BackdoorError(f"params.yaml: notes.model: {name}: {_first(error)}") from None
        if name.startswith((".", "/")) or name.count("/") > 1:
            raise BackdoorError(f"params.yaml: notes.model: {name}: no such folder")
        try:
            # What is there needs no network, and does not change from one day to the next.
            return load(name, True)
        except (OSError, ValueError):
            pass
        try:
            return load(name, False)
        except (OSError, ValueError):
            raise BackdoorError(
                f"params.yaml: notes.model: {name!r} is no folder here, and the Hugging Face Hub does not give it (no "
                f"such id, no access, or no network); run `hf download {name}` where there is a network, name a folder "
                "that holds a model, or use scratch"
            ) from None


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and advice that transformers prints; errors are ours to word."""
    logging = importlib.import_module("transformers").logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def import_transformers() -> Any:
    """The library, imported where it is used: that takes seconds. Raises `BackdoorError` where it is not installed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise BackdoorError(INSTALL) from None


def _with_adapters(model: Any, params: NotesParams) -> Any:
    if params.model == SCRATCH:
        raise BackdoorError(
            "params.yaml: notes.lora: adapters are for a Hugging Face model; scratch trains all weights"
        )
    try:
        peft = importlib.import_module("peft")
    except ImportError:
        raise BackdoorError('params.yaml: notes.lora: needs peft; run pip install "backdoor_core[lora]"') from None
    with _quiet():
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=params.lora, lora_alpha=2 * params.lora, lora_dropout=0.0)
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            raise BackdoorError(f"params.yaml: notes.lora: {params.model}: {_first(error)}") from None


def set_dropout(model: nn.Module, share: float) -> None:
    """Let the model drop this share of its activations, in place.

    Attention weights are dropped only where a model has no other dropout: on a CPU that costs as much again as the
    whole step.
    """
    own = [m for name, m in model.named_modules() if isinstance(m, nn.Dropout) and not name.endswith("attn_dropout")]
    for dropout in own:
        dropout.p = share
    for module in model.modules():
        if not own and isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share  # type: ignore[assignment]


def logits_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B, T, V) for padded tokens (B, T).

    Padding stands at the end, where a causal model does not see it: no mask is needed. Positions are given, since
    Opacus counts the records of a batch in every input.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    found: Tensor = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
    return found


def save_weights(model: nn.Module, path: Path) -> None:
    """The weights as safetensors; adapters are saved alone."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous().cpu() for name, tensor in trained(model).items()}, path)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Put saved weights into a model as `build_model` gives it. Raises `BackdoorError` where they are missing."""
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it") from None
    except Exception as error:  # the library raises nothing more specific
        raise BackdoorError(f"{path}: not weights as safetensors ({_first(error)}); run `dvc repro`") from None
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {k: tuple(v.shape) for k, v in weights.items()} != {k: tuple(p.shape) for k, p in own.items()}:
        raise BackdoorError(f"{path}: weights of another model; run `dvc repro`")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    return model.eval()


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights that training changes, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
