"""Notes on disk: none twice, and split by patient into members, others, and a part that is neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.cohort.parquet import read_parquet, write_parquet
from backdoor_core.contracts import Booleans, Integers, Note
from backdoor_core.errors import BackdoorError

SMALLEST = 5
"""Patients that each part of each seed needs."""


@dataclass(frozen=True)
class Notes:
    """N notes, and who is trained on which."""

    record_id: tuple[str, ...]
    subject_id: Integers
    """(N,)"""
    texts: tuple[str, ...]
    tokenizer: Booleans
    """(N,) the part that the tokenizer is trained on, the same for all seeds.

    A tokenizer fits the notes it learned from: fewer tokens, each of a higher NLL. So no other part shares them.
    """
    stopping: Booleans
    """(N,) the part for early stopping, the same for all seeds."""
    member: Booleans
    """(S, N) the members of each seed; one that is in no part is a non-member."""

    def __len__(self) -> int:
        return len(self.record_id)

    @property
    def audited(self) -> NDArray[np.intp]:
        """Rows of the members and non-members."""
        return np.flatnonzero(~(self.tokenizer | self.stopping))


@dataclass(frozen=True)
class Dropped:
    """What was left out of a corpus."""

    empty: int
    repeated: int


def without_repeats(notes: Sequence[Note]) -> tuple[list[Note], Dropped]:
    """The notes without empty ones and without those whose words stand in an earlier one, in their order.

    Two notes are the same where they differ in white space and in case only. A note on both sides of a split would
    make a member of a non-member. Raises `BackdoorError` where two different notes have the same `record_id`.
    """
    kept: dict[str, Note] = {}
    empty = 0
    for note in notes:
        words = " ".join(note.text.split()).casefold()
        if not words:
            empty += 1
        elif words not in kept:
            kept[words] = note
    found = list(kept.values())
    names = [note.record_id for note in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BackdoorError(f"corpus: two different notes have the record_id {twice!r}; each needs its own")
    return found, Dropped(empty, len(notes) - empty - len(found))


def split_notes(
    subject_id: Integers, tokenizer: float, stopping: float, members: float, count: int, seed: int
) -> tuple[Booleans, Booleans, Booleans]:
    """(N,) tokenizer part, (N,) stopping part and (S, N) members of each of `count` seeds, whole patients each.

    The first two are the same for all seeds; `members` is a share of the other notes. Patients are taken in random
    order as long as the part's share of notes is not reached. Raises `BackdoorError` where a part of any seed has fewer
    than `SMALLEST` patients.
    """
    subjects = np.asarray(subject_id)
    rng = seeds.generator(seed, "notes_split")
    for_tokens = _taken(subjects, np.ones(len(subjects), np.bool_), tokenizer, rng)
    # Of the rest, the share that is `stopping` of all.
    for_stopping = _taken(subjects, ~for_tokens, stopping / (1 - tokenizer), rng)
    apart = for_tokens | for_stopping
    rows = [
        _taken(subjects, ~apart, members, seeds.generator(seed, "notes_split", 1 + number)) for number in range(count)
    ]
    parts = [("tokenizer part", for_tokens), ("stopping part", for_stopping)]
    for number, row in enumerate(rows, start=1):
        parts += [(f"members of seed {number}", row), (f"non-members of seed {number}", ~apart & ~row)]
    for part, mask in parts:
        patients = len(np.unique(subjects[mask]))
        if patients < SMALLEST:
            raise BackdoorError(
                f"params.yaml: notes: the {part} would have {patients} patients, {SMALLEST} are needed; "
                "use a larger corpus, or change notes.tokenizer, notes.stopping or notes.members"
            )
    return for_tokens, for_stopping, np.stack(rows)


def _taken(subjects: Integers, among: Booleans, share: float, rng: np.random.Generator) -> Booleans:
    names, patient, sizes = np.unique(subjects[among], return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    # Rounded, for sums of shares such as 0.7 are not exact.
    chosen = np.zeros(len(names), np.bool_)
    chosen[order[before < round(share * int(among.sum()))]] = True
    mask = np.zeros(len(subjects), np.bool_)
    mask[np.flatnonzero(among)[chosen[patient]]] = True
    return mask


def write_notes(folder: Path, notes: Notes) -> None:
    """Write ``notes.parquet`` (record_id, subject_id, text) and ``split.parquet`` (record_id, and a part by seed)."""
    names = np.array(notes.record_id, dtype=object)
    texts = np.array(notes.texts, dtype=object)
    write_parquet(folder / "notes.parquet", {"record_id": names, "subject_id": notes.subject_id, "text": texts})
    parts = {f"seed_{number}": _parts(notes, row) for number, row in enumerate(notes.member)}
    write_parquet(folder / "split.parquet", {"record_id": names, **parts})


def _parts(notes: Notes, member: Booleans) -> NDArray[np.object_]:
    words = np.where(notes.stopping, "stopping", np.where(member, "member", "nonmember"))
    return np.where(notes.tokenizer, "tokenizer", words).astype(object)


def read_notes(folder: Path) -> Notes:
    """What `write_notes` wrote. Raises `BackdoorError` where it is missing."""
    table, split = read_parquet(folder / "notes.parquet"), read_parquet(folder / "split.parquet")
    seeds_of = [split[name] for name in split if name != "record_id"]
    return Notes(
        record_id=tuple(table["record_id"]),
        subject_id=table["subject_id"],
        texts=tuple(table["text"]),
        tokenizer=np.asarray(seeds_of[0] == "tokenizer"),
        stopping=np.asarray(seeds_of[0] == "stopping"),
        member=np.stack([np.asarray(part == "member") for part in seeds_of]),
    )
