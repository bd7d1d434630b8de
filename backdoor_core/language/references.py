"""Reference language models, trained as the target is on random halves of the notes; only their NLLs are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.auditing import Population, References
from backdoor_core.contracts import Booleans
from backdoor_core.files import write_array, write_json
from backdoor_core.language.corpus import Notes
from backdoor_core.language.finetune import finetune
from backdoor_core.language.recipes import plan_of
from backdoor_core.language.work import read_corpus, untrained
from backdoor_core.notes_params import NotesParams, Recipe
from backdoor_core.privacy.halves import membership_matrix
from backdoor_core.statistics import Floats

_MEMBER = "member.npy"


@dataclass(frozen=True)
class ReferenceTask:
    """One reference model of a recipe."""

    params: NotesParams
    seed: int
    """Of the study."""
    root: Path
    corpus: Path
    recipe: Recipe
    number: int
    """Which of the `count` halves."""
    count: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.recipe} half {self.number + 1}"


@dataclass(frozen=True)
class ReferenceLosses:
    """The K reference models of one recipe on all N notes; K may be 0."""

    member: Booleans
    """(K, N) which notes each was trained on: half of the audited ones, none of the stopping or tokenizer part."""
    loss: Floats
    """(K, N) mean NLL of each note in nats a token."""

    @classmethod
    def load(cls, folder: Path, recipe: str) -> Self:
        """What `save` wrote."""
        loss = np.load(folder / f"{recipe}.npy", allow_pickle=False).astype(np.float64)
        return cls(np.load(folder / _MEMBER, allow_pickle=False), loss)

    def signals(self, notes: Notes, target: Floats) -> tuple[References | None, Population | None]:
        """Of the audited notes and, as population, of the stopping part, which no model is trained on.

        `target` (N,) is the audited model's mean NLL of all notes. None and None without references.
        """
        if not len(self.member):
            return None, None
        audited, outside = notes.audited, notes.stopping
        references = References(self.member[:, audited], self.loss[:, audited])
        return references, Population(loss=target[outside], reference_loss=self.loss[:, outside])


def halves(notes: Notes, count: int, seed: int) -> Booleans:
    """(count, N) the notes each reference is trained on: halves of the audited ones by patient, in pairs.

    The same for all recipes and for every seed's target, whose members are another draw. Raises `BackdoorError` as
    `membership_matrix` does.
    """
    member = np.zeros((count, len(notes)), dtype=np.bool_)
    if count:
        rows = notes.audited
        rng = seeds.generator(seed, "notes_references", 0)
        member[:, rows] = membership_matrix(notes.subject_id[rows], count, rng)
    return member


def train_reference(task: ReferenceTask) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """(N,) mean NLL of every note under the epoch that the recipe keeps, and what was trained, JSON-able."""
    torch.set_num_threads(1)
    read = read_corpus(task.params, task.root, task.corpus)
    start, course = (seeds.integer(task.seed, "notes_references", 1 + task.number, part) for part in (0, 1))
    network, vocabulary = untrained(task.params, task.root, read, start)
    member = halves(read.notes, task.count, task.seed)[task.number]
    plan = plan_of(task.recipe, task.params, int(member.sum()))
    found = finetune(network, read.sequences, vocabulary, member, read.notes.stopping, plan, course)
    told = {
        "recipe": task.recipe,
        "half": task.number,
        "members": int(member.sum()),
        "epochs": len(found.nll) - 1,
        "kept_epoch": found.kept,
    }
    return found.nll[found.kept], told


def save(
    folder: Path,
    member: Booleans,
    losses: Mapping[Recipe, Sequence[NDArray[np.float32]]],
    told: Sequence[dict[str, Any]],
) -> None:
    """Write the members (K, N), of each recipe the losses of its K models, and what was trained."""
    write_array(folder / _MEMBER, member)
    for recipe, rows in losses.items():
        write_array(folder / f"{recipe}.npy", np.reshape(rows, member.shape).astype(np.float32))
    write_json(folder / "references.json", {"models": list(told)})
