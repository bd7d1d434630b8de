"""Training a causal language model on member notes, by recipe, with what it says of every note after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backdoor_core.contracts import Booleans
from backdoor_core.language.batches import padded, shuffled
from backdoor_core.language.models import logits_of, set_dropout, trained
from backdoor_core.language.private import PrivateTraining
from backdoor_core.language.recipes import Plan
from backdoor_core.language.scoring import mean_nll
from backdoor_core.language.tokenizer import Sequences


@dataclass(frozen=True)
class Finetuned:
    """A trained model; its network holds the weights of the epoch that was kept."""

    network: nn.Module
    nll: NDArray[np.float32]
    """(E + 1, N) mean NLL of every note after each epoch, the untrained model first."""
    kept: int
    """The epoch that was kept, from 1."""


def finetune(
    network: nn.Module,
    sequences: Sequences,
    vocabulary: int,
    member: Booleans,
    stopping: Booleans,
    plan: Plan,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> Finetuned:
    """Train `network` on the members (N,) of the notes. Equal arguments give equal weights on one CPU thread.

    With a budget for the gap the weights are those of the last epoch in front of the first one whose stopping part
    (N,) has a higher NLL than the members by more than that share; those of the first epoch where that one does. The
    non-members have no part in that. Without a budget they are those of the last epoch.

    Raises `BackdoorError` where training diverges, or where the plan is private and the model does not allow it.
    """
    rows = np.flatnonzero(member)
    curve = [mean_nll(network, sequences, vocabulary)]
    kept, best = 0, trained(network)
    with torch.random.fork_rng(devices=_cuda(network)):
        torch.manual_seed(seed)
        step = _steps(network, sequences, rows, plan, seed)
        for epoch in range(1, plan.epochs + 1):
            network.train()
            step()
            found = mean_nll(network, sequences, vocabulary)
            curve.append(found)
            on_epoch(epoch)
            over = plan.gap is not None and found[stopping].mean() > (1 + plan.gap) * found[member].mean()
            if not over or epoch == 1:
                kept, best = epoch, trained(network)
            if over:
                break
    _restore(network, best)
    return Finetuned(network.eval(), np.stack(curve).astype(np.float32), kept)


def _steps(
    network: nn.Module, sequences: Sequences, rows: NDArray[np.intp], plan: Plan, seed: int
) -> Callable[[], None]:
    """A function that trains for one epoch."""
    set_dropout(network, plan.dropout)
    if plan.privacy is not None:
        return PrivateTraining(network, sequences, rows, plan.privacy, plan.learning_rate, seed).epoch
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    chosen = [sequences[row] for row in rows]
    lengths, rng = [len(tokens) for tokens in chosen], np.random.default_rng(seed)
    device = next(network.parameters()).device

    def epoch() -> None:
        for batch in shuffled(lengths, plan.batch_size, rng):
            optimizer.zero_grad(set_to_none=True)
            loss = token_nll(network, *padded(chosen, batch, device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return epoch


def token_nll(network: nn.Module, tokens: Tensor, own: Tensor) -> Tensor:
    """Mean NLL of the batch's own tokens, each counting the same."""
    # Only the positions that count are given to the output layer's loss.
    logits = logits_of(network, tokens)[:, :-1][own]
    return nn.functional.cross_entropy(logits, tokens[:, 1:][own])


def _restore(network: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def _cuda(network: nn.Module) -> list[int]:
    device = next(network.parameters()).device
    return [device.index or 0] if device.type == "cuda" else []
