"""Training and scoring in worker processes of one thread each, from what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backdoor_core import seeds
from backdoor_core.contracts import Tokens
from backdoor_core.errors import BackdoorError
from backdoor_core.files import write_array
from backdoor_core.language.canaries import Canaries, make_canaries
from backdoor_core.language.corpus import Notes, read_notes
from backdoor_core.language.finetune import Finetuned, finetune
from backdoor_core.language.models import build_model, load_tokenizer, load_weights, save_weights
from backdoor_core.language.neighbors import altered
from backdoor_core.language.recipes import Plan, plan_of
from backdoor_core.language.scoring import mean_nll, token_signals
from backdoor_core.language.tokenizer import (
    SCRATCH,
    TOKENIZER,
    Sequences,
    Tokenizer,
    read_byte_pairs,
    seen_texts,
    sequences,
)
from backdoor_core.notes_params import NotesParams, Recipe
from backdoor_core.statistics import Floats
from backdoor_core.workers import call_all

WEIGHTS = "model.safetensors"
NLL = "nll.npy"
CANARIES = "canaries.npy"
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Task:
    """One model: a recipe and the number of its seed."""

    params: NotesParams
    seed: int
    """Of the study."""
    root: Path
    corpus: Path
    models: Path
    recipe: Recipe
    number: int
    canaries: bool = False
    """Whether canaries are trained on as well: the model of the one-run audit, which is not audited otherwise."""
    neighbors: int = 0
    """Altered copies of each audited note to score as well."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.recipe} {'canaries' if self.canaries else f'seed {self.number + 1}'}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.models / self.recipe / ("canaries" if self.canaries else f"seed_{self.number}")


@dataclass(frozen=True)
class Read:
    """Notes as tokens."""

    notes: Notes
    tokenizer: Tokenizer
    sequences: Sequences

    def seen(self, most: int) -> list[str]:
        """What a model sees of each note."""
        return seen_texts(self.tokenizer, self.notes.texts, self.sequences, most)


def read_corpus(params: NotesParams, root: Path, corpus: Path) -> Read:
    """The notes of the stage `notes`, as tokens. Raises `BackdoorError` where they or the tokenizer are missing."""
    notes = read_notes(corpus)
    tokenizer: Tokenizer = (
        read_byte_pairs(corpus / TOKENIZER) if params.model == SCRATCH else load_tokenizer(params.model, root)
    )
    return Read(notes, tokenizer, sequences(tokenizer, notes.texts, params.max_tokens))


def train_one(task: Task) -> dict[str, Any]:
    """Train one model and write its weights and curve; the answer tells of it, JSON-able."""
    torch.set_num_threads(1)
    read = read_corpus(task.params, task.root, task.corpus)
    network, vocabulary = _untrained(task, read)
    member, stopping, every = read.notes.member[task.number], read.notes.stopping, read.sequences
    canaries = _canaries(task, read, vocabulary) if task.canaries else None
    if canaries is not None:
        every = [*every, *canaries.sequences]
        member, stopping = np.append(member, canaries.coins), np.append(stopping, np.zeros_like(canaries.coins))
    plan = plan_of(task.recipe, task.params, int(member.sum()))
    seed = seeds.integer(task.seed, "notes_training", task.number, 1)
    found = finetune(network, every, vocabulary, member, stopping, plan, seed)
    task.folder.mkdir(parents=True)
    if canaries is not None:
        first = len(read.sequences)
        # How much the training lowered a canary's NLL.
        scores = found.nll[0, first:] - found.nll[found.kept, first:]
        write_array(task.folder / CANARIES, np.stack([scores, canaries.coins]).astype(np.float64))
    else:
        save_weights(found.network, task.folder / WEIGHTS)
        write_array(task.folder / NLL, found.nll)
    return _told(task, plan, found, int(member.sum()))


def _told(task: Task, plan: Plan, found: Finetuned, members: int) -> dict[str, Any]:
    weights = list(found.network.parameters())
    return {
        "recipe": task.recipe,
        "seed": task.number,
        "canaries": task.canaries,
        "members": members,
        "epochs": len(found.nll) - 1,
        "kept_epoch": found.kept,
        "learning_rate": plan.learning_rate,
        "weight_decay": plan.weight_decay,
        "dropout": plan.dropout,
        "gap": plan.gap,
        "privacy": None if plan.privacy is None else plan.privacy.as_dict(),
        "weights": sum(p.numel() for p in weights),
        "trained_weights": sum(p.numel() for p in weights if p.requires_grad),
    }


@dataclass(frozen=True)
class Scored:
    """One model on the audited notes."""

    tokens: Tokens
    nll: NDArray[np.floating[Any]]
    """(E + 1, N) of all notes after each epoch, as `finetune` gave it."""
    neighbor_loss: Floats | None = None
    """(M, J) mean NLL of the altered copies of the M audited notes, the same copies for all models."""


def score_one(task: Task) -> Scored:
    """The trained model of a task on every token of the audited notes. Raises `BackdoorError` where it is missing."""
    torch.set_num_threads(1)
    read = read_corpus(task.params, task.root, task.corpus)
    network, vocabulary = _untrained(task, read)
    load_weights(network, task.folder / WEIGHTS)
    audited = [read.sequences[row] for row in read.notes.audited]
    losses = None
    if task.neighbors:
        copies = altered(audited, task.neighbors, seeds.generator(task.seed, "notes_neighbors"))
        losses = mean_nll(network, copies, vocabulary).reshape(len(audited), task.neighbors)
    nll = np.load(task.folder / NLL, allow_pickle=False).astype(np.float64)
    return Scored(token_signals(network, audited, vocabulary), nll, losses)


def _untrained(task: Task, read: Read) -> tuple[nn.Module, int]:
    """The same for all recipes of a seed."""
    return untrained(task.params, task.root, read, seeds.integer(task.seed, "notes_training", task.number, 0))


def untrained(params: NotesParams, root: Path, read: Read, seed: int) -> tuple[nn.Module, int]:
    """The model before training, where it is to be trained, and the width of its output."""
    network: Any = build_model(params, root, read.tokenizer.vocabulary, seed)
    return network.to(params.device), int(network.config.vocab_size)


def _canaries(task: Task, read: Read, vocabulary: int) -> Canaries:
    count = min(vocabulary, read.tokenizer.vocabulary)
    return make_canaries(task.params.dp.canaries, read.tokenizer.start, count, task.params.max_tokens, task.seed)


def run_all(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    workers: int,
    on_done: Callable[[Item, Answer], None] = lambda item, answer: None,
) -> list[Answer]:
    """The function of every item, in the order of the items, in up to `workers` processes; one works in this process.

    The function is one of a module. The first error ends all; a `BackdoorError` of a worker stays one.
    """
    before = torch.get_num_threads()
    try:
        return call_all(
            [partial(function, item) for item in items],
            workers,
            [__name__],
            lambda number, answer: on_done(items[number], answer),
        )
    except OSError as error:
        raise BackdoorError(f"a worker process failed: {error}") from error
    finally:
        torch.set_num_threads(before)
