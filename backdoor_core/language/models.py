"""Causal language models: a small GPT-2 from nothing, or any of Hugging Face's by id or folder."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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


_DROPOUT = re.compile(r"(dropout|drop|pdrop|layerdrop|drop_path)(_p|_prob|_rate|_ratio)?$")
"""How the end of a name says that it is a share to drop."""


@dataclass(frozen=True)
class _Share:
    """A number of a model that says which share of something is dropped."""

    owner: Any
    """An `nn.Dropout`, a module that calls the function, or a configuration that a module reads as it runs."""
    key: str
    what: Literal["activations", "attention", "other"]
    """Attention: the weights, not what comes of them. Other: whole layers or paths, which no recipe drops."""


def set_dropout(model: nn.Module, share: float) -> None:
    """Let the model drop this share of its activations, in place; with 0 it drops nothing at all.

    Attention weights are dropped only where a model has no other dropout: on a CPU that costs as much again as the
    whole step. The model is run on eight tokens to see that it obeys; torch's random streams stay as they are.

    Raises `BackdoorError` naming the model where it drops something all the same, or where nothing drops the share.
    """
    shares = _shares(model)
    _put(shares, 0.0)
    if _is_random(model):
        raise BackdoorError(
            f"params.yaml: notes.model: {_kind(model)} stays random in training with every dropout that is known set "
            "to 0; use another model"
        )
    if share == 0:
        return
    among = [one for one in shares if one.what == "activations"]
    # Tried with half: of a small share eight tokens may well lose nothing.
    _put(among, 0.5)
    if not _is_random(model):
        _put(among, 0.0)
        among = [one for one in shares if one.what == "attention"]
        _put(among, 0.5)
        if not _is_random(model):
            raise BackdoorError(
                f"params.yaml: notes.regularized.dropout: {_kind(model)} has no dropout that can be set; use 0 or "
                "another model"
            )
    _put(among, share)


def _kind(model: Any) -> str:
    return type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__


def _shares(model: nn.Module) -> list[_Share]:
    found, configurations = [], {}
    for path, module in model.named_modules():
        above, name = ["", *path.split(".")][-2:]
        if isinstance(module, nn.Dropout):
            found.append(_Share(module, "p", _dropped(above, name)))
            continue
        found += [_Share(module, key, _dropped(name, key)) for key in _keys(module)]
        if (config := vars(module).get("config")) is not None:
            configurations[id(config)] = config
    for config in configurations.values():
        found += [_Share(config, key, _dropped("", key)) for key in _keys(config)]
    return found


def _keys(owner: Any) -> list[str]:
    return [
        key
        for key, value in vars(owner).items()
        if _DROPOUT.search(key) and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _dropped(above: str, name: str) -> Literal["activations", "attention", "other"]:
    """What is dropped, by the name of the share (or its module) and the name of the module around it."""
    if re.search("layerdrop|drop_path", name):
        return "other"
    # OPT's `self_attn.dropout` is of the weights, GPT-2's `attn.resid_dropout` and NeoX's `post_attention_dropout` not.
    attends = re.search("attn|attention", above if _DROPOUT.match(name) else name)
    return "attention" if attends and not re.search("resid|post", name) else "activations"


def _put(shares: Iterable[_Share], value: float) -> None:
    for one in shares:
        setattr(one.owner, one.key, value)


def _is_random(model: nn.Module) -> bool:
    """Whether two runs of a model in training differ by more than rounding."""
    device = next(model.parameters()).device
    tokens, training = torch.arange(8, device=device)[None], model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        try:
            one, other = (logits_of(model.train(), tokens) for _ in range(2))
        finally:
            model.train(training)
    return bool((one - other).abs().max() > 1e-4 * one.abs().max())


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
