"""Altered copies of notes, and what a model that knows the notes by heart says of them."""

import numpy as np
from hypothesis import given, strategies as st

from backdoor_core.language.neighbors import SHARE, altered


def notes_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [np.append(0, rng.integers(5, 50, size=n)).astype(np.int64) for n in lengths]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 99))
def test_copies_have_the_length_and_start_of_their_note_and_few_other_tokens(lengths, copies, seed):
    notes = notes_of(lengths)
    found = altered(notes, copies, np.random.default_rng(seed))
    assert len(found) == copies * len(notes)
    known = set(np.concatenate([note[1:] for note in notes]).tolist())
    for number, copy in enumerate(found):
        note = notes[number // copies]
        assert len(copy) == len(note)
        assert copy[0] == note[0] == 0
        assert set(copy[1:].tolist()) <= known
        assert (copy != note).sum() <= max(1, round(SHARE * (len(note) - 1)))
    for mine, again in zip(found, altered(notes, copies, np.random.default_rng(seed)), strict=True):
        np.testing.assert_array_equal(mine, again)


def test_what_is_put_in_comes_as_often_as_in_the_notes_and_anywhere():
    notes = [np.array([0, *([7] * 300), *([8] * 100)], dtype=np.int64)]
    found = np.stack(altered(notes, 400, np.random.default_rng(1)))
    into_eights = found[:, 301:]
    swapped = into_eights != 8
    assert abs(swapped.mean() - SHARE * 0.75) < 0.01, "three quarters of what is put in are 7"
    assert swapped.any(axis=0).all(), "every place is swapped in some copy"
