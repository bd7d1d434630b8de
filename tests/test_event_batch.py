import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from backdoor_core.learning.event_batch import EventBatch, parts
from backdoor_core.learning.inputs import from_tensors, in_batches, mini_batches, tensors_of


def make_batch(lengths, seed=0):
    """Events numbered 0, 1, 2, ... in their first number, so that a stay's own can be told."""
    events = sum(lengths)
    rng = np.random.default_rng(seed)
    return EventBatch(
        statics=torch.from_numpy(rng.normal(size=(len(lengths), 2)).astype(np.float32)),
        offsets=torch.tensor(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        entry=torch.from_numpy(rng.integers(0, 3, events)),
        numbers=torch.stack([torch.arange(events).float(), torch.ones(events), torch.zeros(events)], dim=1),
        types=torch.tensor([0, 1, -1]),
        texts=torch.zeros(3, 4),
    )


LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(LENGTHS, st.data())
def test_chosen_stays_keep_their_events_in_the_order_asked_for(lengths, data):
    batch = make_batch(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = batch.index_select(0, torch.tensor(rows, dtype=torch.int64))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    wanted = [number for row in rows for number in range(starts[row], starts[row + 1])]
    assert taken.numbers[:, 0].tolist() == wanted
    assert taken.lengths.tolist() == [lengths[row] for row in rows]
    assert torch.equal(taken.statics, batch.statics[torch.tensor(rows, dtype=torch.int64)])


@given(LENGTHS)
def test_padding_shows_every_event_once_and_nothing_else(lengths):
    batch = make_batch(lengths)
    place, real = batch.padded()
    assert place.shape == real.shape == (len(lengths), max(1, *lengths))
    assert place[real].tolist() == list(range(sum(lengths)))
    assert real.sum(dim=1).tolist() == lengths


def test_stays_are_along_the_first_dimension_only():
    with pytest.raises(ValueError, match="dimension 0, not 1"):
        make_batch([1]).index_select(1, torch.tensor([0]))


@given(LENGTHS, st.integers(1, 4))
def test_the_parts_of_a_split_are_the_whole(lengths, size):
    batch = make_batch(lengths)
    found = list(batch.split(size))
    assert [len(part) for part in found[:-1]] == [size] * (len(found) - 1)
    assert torch.cat([part.numbers for part in found]).equal(batch.numbers)


def test_tensors_go_there_and_back():
    batch = make_batch([2, 0, 3])
    again = from_tensors(tensors_of(batch))
    assert all(torch.equal(a, b) for a, b in zip(parts(batch), parts(again), strict=True))
    table = torch.randn(3, 2)
    assert from_tensors(tensors_of(table)) is table


@given(LENGTHS, st.integers(1, 3))
def test_an_epoch_meets_every_stay_once(lengths, size):
    batches = list(mini_batches(make_batch(lengths), size, torch.Generator().manual_seed(1)))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


def test_an_epoch_of_events_puts_stays_of_like_length_together():
    lengths = np.random.default_rng(0).integers(1, 200, 512).tolist()
    batch, order = make_batch(lengths), torch.Generator().manual_seed(0)
    found = list(mini_batches(batch, 32, order))
    padded = sum(len(rows) * int(batch.lengths[rows].max()) for rows in found)
    assert padded < 1.1 * sum(lengths)  # drawn at random it is nearly twice as many
    assert [rows.tolist() for rows in found] != [rows.tolist() for rows in mini_batches(batch, 32, order)]


def test_an_epoch_of_a_table_is_a_permutation():
    table, order = torch.zeros(10, 2), torch.Generator().manual_seed(3)
    found = torch.cat(list(mini_batches(table, 4, order)))
    assert torch.equal(found, torch.randperm(10, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("rows", [1, 511, 512, 513, 1500, 1539])
def test_answers_of_a_table_are_put_together(rows):
    table, met = torch.arange(2.0 * rows).reshape(rows, 2), []
    found = in_batches(lambda x: met.append(len(x)) or x.sum(dim=1), table)
    assert torch.equal(found, table.sum(dim=1))
    assert sum(met) == rows
    # No few rows are left over: their products would be rounded otherwise.
    assert met == {1: [1], 511: [511], 512: [512], 513: [513], 1500: [512, 512, 476], 1539: [512, 512, 515]}[rows]


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_answers_stand_in_the_order_of_the_rows(monkeypatch, at_once):
    monkeypatch.setattr("backdoor_core.learning.inputs.EVENTS_AT_ONCE", at_once)
    batch = make_batch([3, 0, 5, 1, 3])
    met = []

    def read(x):
        met.append(len(x) * max(1, int(x.lengths.max())))
        return x.statics.sum(dim=1)

    assert torch.equal(in_batches(read, batch), batch.statics.sum(dim=1))
    assert max(met) <= max(at_once, 5)
    assert len(met) == (5 if at_once == 1 else 3 if at_once == 7 else 1)
