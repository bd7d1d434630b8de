"""Stage `notes`: clinical notes without repeats, split by patient, and the tokenizer."""

from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.console import say
from backdoor_core.files import replacing_directory, write_json
from backdoor_core.language.corpus import Dropped, Notes, split_notes, without_repeats, write_notes
from backdoor_core.language.tokenizer import SCRATCH, TOKENIZER, train_byte_pairs
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Write the notes, who is a member by seed, and for a model from nothing its tokenizer, into run/notes/corpus.

    The tokenizer learns from a part of its own, so that no audited note shapes it.
    """
    params, seed = study.params.notes, study.params.seed
    found, dropped = without_repeats(study.corpus().records(seeds.generator(seed, "notes")))
    subjects = np.array([note.subject_id for note in found], dtype=np.int64)
    parts = split_notes(subjects, params.tokenizer, params.stopping, params.members, params.seeds, seed)
    texts = tuple(note.text for note in found)
    notes = Notes(tuple(note.record_id for note in found), subjects, texts, *parts)
    card = card_of(notes, dropped)
    with replacing_directory(study.paths.notes / "corpus") as folder:
        write_notes(folder, notes)
        if params.model == SCRATCH:
            tokenizer = train_byte_pairs(
                [texts[row] for row in np.flatnonzero(notes.tokenizer)], params.scratch.vocabulary
            )
            tokenizer.save(str(folder / TOKENIZER))
            card["vocabulary"] = tokenizer.get_vocab_size()
        write_json(folder / "card.json", {"corpus": params.corpus, **card})
    say(f"notes: {len(notes):,} of {card['patients']:,} patients, {dropped.repeated:,} repeated ones dropped")


def card_of(notes: Notes, dropped: Dropped) -> dict[str, Any]:
    """What there is, for people; JSON-able."""
    return {
        "notes": len(notes),
        "patients": len(np.unique(notes.subject_id)),
        "dropped": {"empty": dropped.empty, "repeated": dropped.repeated},
        "tokenizer": int(notes.tokenizer.sum()),
        "stopping": int(notes.stopping.sum()),
        "members": notes.member.sum(axis=1).tolist(),
        "nonmembers": (len(notes.audited) - notes.member.sum(axis=1)).tolist(),
        "characters": {
            "mean": float(np.mean([len(text) for text in notes.texts])),
            "most": max(len(text) for text in notes.texts),
        },
    }
