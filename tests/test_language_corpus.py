import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.contracts import Note
from backdoor_core.errors import BackdoorError
from backdoor_core.language.corpus import Notes, read_notes, split_notes, without_repeats, write_notes


def test_repeats_and_empty_notes_are_dropped_and_the_first_stays():
    texts = ["Fever.", " fever. \n", "", "cough", "  ", "Cough", "rash"]
    kept, dropped = without_repeats([Note(str(n), n, text) for n, text in enumerate(texts)])
    assert [note.record_id for note in kept] == ["0", "3", "6"]
    assert (dropped.empty, dropped.repeated) == (2, 2)


def test_two_notes_of_one_name_are_refused():
    with pytest.raises(BackdoorError, match="two different notes have the record_id 'a'"):
        without_repeats([Note("a", 1, "fever"), Note("a", 1, "cough")])


@settings(deadline=None, max_examples=40)
@given(st.integers(160, 300), st.integers(1, 3), st.floats(0.15, 0.3), st.floats(0.3, 0.7), st.integers(0, 10**6))
def test_parts_hold_whole_patients_and_have_their_shares(notes, most, stopping, members, seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(notes), rng.integers(1, most + 1, size=notes))[:notes]
    tokens, apart, chosen = split_notes(patients, 0.1, stopping, members, 3, seed)
    assert not (tokens & apart).any()
    apart_from_all = tokens | apart
    assert chosen.shape == (3, notes)
    assert not (chosen & apart_from_all).any()
    for mask in (tokens, apart, *chosen):
        assert not set(patients[mask]) & set(patients[~mask])
    # A part exceeds its share by less than the notes of its last patient.
    assert 0 <= tokens.sum() - round(0.1 * notes) < most
    assert abs(apart.sum() - stopping * notes) <= most
    rest = notes - apart_from_all.sum()
    for row in chosen:
        assert 0 <= row.sum() - round(members * rest) < most
    assert len({row.tobytes() for row in chosen}) == 3


def test_more_seeds_leave_the_first_as_they_were():
    patients = np.arange(200)
    few, many = (split_notes(patients, 0.05, 0.1, 0.7, count, 5) for count in (1, 4))
    assert all((a == b).all() for a, b in zip(few[:2], many[:2], strict=True))
    assert (few[2][0] == many[2][0]).all()


def test_a_corpus_that_is_too_small_is_refused():
    with pytest.raises(BackdoorError, match="the tokenizer part would have 1 patients, 5 are needed"):
        split_notes(np.arange(12), 0.1, 0.1, 0.7, 1, 0)


def test_every_seed_has_patients_enough_in_each_part():
    # One patient has two notes of three. Where a seed takes that one for a member, it takes few others.
    patients = np.concatenate([np.zeros(120, int), np.arange(1, 61)])
    tokens, apart, chosen = split_notes(patients, 0.05, 0.1, 0.7, 1, 14)
    for mask in (tokens, apart, chosen[0], ~(tokens | apart | chosen[0])):
        assert len(np.unique(patients[mask])) >= 5
    with pytest.raises(BackdoorError, match="the members of seed 2 would have 2 patients, 5 are needed"):
        split_notes(patients, 0.05, 0.1, 0.7, 3, 14)


def test_notes_come_back_from_disk(tmp_path):
    patients = np.arange(60) // 2
    tokens, apart, chosen = split_notes(patients, 0.2, 0.3, 0.6, 2, 0)
    names, texts = tuple(f"n{i}" for i in range(60)), tuple(f"über {i}\n" for i in range(60))
    write_notes(tmp_path, Notes(names, patients, texts, tokens, apart, chosen))
    found = read_notes(tmp_path)
    assert (found.record_id, found.texts) == (names, texts)
    for one, other in (
        (found.subject_id, patients),
        (found.stopping, apart),
        (found.tokenizer, tokens),
        (found.member, chosen),
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.audited, np.flatnonzero(~(apart | tokens)))


def test_a_corpus_that_was_not_made_is_named(tmp_path):
    with pytest.raises(BackdoorError, match=r"notes\.parquet: no such file; run `dvc repro`"):
        read_notes(tmp_path)
