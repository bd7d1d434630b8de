"""What a model says of notes: the NLL of each, and of each token its log-probability among the vocabulary's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from backdoor_core.contracts import Tokens
from backdoor_core.errors import BackdoorError
from backdoor_core.language.batches import Rows, by_length, padded
from backdoor_core.language.models import logits_of
from backdoor_core.language.tokenizer import Sequences

_LOGITS_AT_ONCE = 2**24
"""Most logits in memory at once, as float32: 64 MiB."""
_NOTES_AT_ONCE = 32


def note_nll(logits: Tensor, tokens: Tensor, own: Tensor) -> Tensor:
    """(B,) mean NLL in nats of each note's tokens after the start, from logits (B, T, V)."""
    losses = cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return (losses * own).sum(dim=1) / own.sum(dim=1)


def mean_nll(model: nn.Module, sequences: Sequences, vocabulary: int) -> NDArray[np.float64]:
    """(N,) mean NLL of each note in nats a token, the model in evaluation mode. Raises `BackdoorError` for NaN."""
    found = np.empty(len(sequences))
    for rows, tokens, own in _batches(model, sequences, vocabulary):
        found[rows] = note_nll(logits_of(model, tokens), tokens, own).cpu().numpy()
    return _finite(found)


def token_signals(model: nn.Module, sequences: Sequences, vocabulary: int) -> Tokens:
    """The model on every token after the start of each note; see `Tokens`. Raises `BackdoorError` for NaN."""
    offsets = np.concatenate([[0], np.cumsum([len(tokens) - 1 for tokens in sequences])]).astype(np.int64)
    parts = {name: np.empty(int(offsets[-1])) for name in ("log_prob", "mean", "sd")}
    for rows, tokens, own in _batches(model, sequences, vocabulary):
        logs = logits_of(model, tokens)[:, :-1].float().log_softmax(dim=-1)
        chance = logs.exp()
        mean = (chance * logs).sum(dim=-1)
        # About the mean: the difference of two large moments would lose the small spread of a sure token.
        spread = (chance * (logs - mean.unsqueeze(-1)) ** 2).sum(dim=-1).sqrt()
        log_prob = logs.gather(2, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
        places = np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows])
        for name, values in (("log_prob", log_prob), ("mean", mean), ("sd", spread)):
            parts[name][places] = values[own].cpu().numpy()
    return Tokens(offsets, *(_finite(parts[name]) for name in ("log_prob", "mean", "sd")))


def _batches(model: nn.Module, sequences: Sequences, vocabulary: int) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    lengths = [len(tokens) for tokens in sequences]
    size = max(1, _LOGITS_AT_ONCE // (max(lengths) * vocabulary))
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for rows in by_length(lengths, min(size, _NOTES_AT_ONCE)):
            yield rows, *padded(sequences, rows, device)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if broken := int((~np.isfinite(values)).sum()):
        raise BackdoorError(
            f"the language model gives {broken} of {len(values)} values that are NaN or infinite: its training "
            "diverged; set a smaller learning rate"
        )
    return values
