"""Views are edited without touching the view they came from."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from backdoor_core.attack.cells import changed_cells, events_of
from backdoor_core.testing.views import events_view, series_view, table_view
from backdoor_core.views import as_grid

MAKERS = [table_view, series_view, events_view]


def stay(view, row):
    """All that a view holds of one stay, as plain values."""
    if view.modality == "events":
        return events_of(view)[view.offsets[row] : view.offsets[row + 1]]
    return view.values[row].tobytes()


@pytest.mark.parametrize("make", MAKERS)
@given(rows=st.lists(st.integers(0, 8), max_size=12))
def test_take_gives_those_rows_in_that_order(make, rows):
    view = make(9)
    taken = view.take(np.array(rows, dtype=np.int64))
    assert taken.stay_id.tolist() == view.stay_id[rows].tolist()
    assert [stay(taken, i) for i in range(len(rows))] == [stay(view, row) for row in rows]


@pytest.mark.parametrize("make", MAKERS)
def test_take_by_mask_is_take_by_position(make):
    view, mask = make(9), np.arange(9) % 3 == 0
    one, other = view.take(mask), view.take(np.flatnonzero(mask))
    assert [stay(one, i) for i in range(3)] == [stay(other, i) for i in range(3)]


@pytest.mark.parametrize("make", MAKERS)
def test_with_rows_and_followed_by(make):
    view, other = make(9, seed=0), make(9, seed=1)
    rows = np.array([7, 2])
    changed = view.with_rows(rows, other.take(np.array([0, 1])))
    expected = [stay(view, i) for i in range(9)]
    expected[7], expected[2] = stay(other, 0), stay(other, 1)
    assert [stay(changed, i) for i in range(9)] == expected
    both = view.followed_by(other)
    assert len(both) == 18
    halves = [stay(view, i) for i in range(9)] + [stay(other, i) for i in range(9)]
    assert [stay(both, i) for i in range(18)] == halves


def test_kept_events_are_those_of_the_mask():
    view = events_view(9)
    mask = np.random.default_rng(0).random(len(view.code)) < 0.3
    kept = view.keep(mask)
    assert kept.stay_of_event.tolist() == view.stay_of_event[mask].tolist()
    assert events_of(kept) == [event for event, there in zip(events_of(view), mask, strict=True) if there]
    assert len(view.keep(np.zeros_like(mask))) == 9


def test_in_order_sorts_each_stay_by_time():
    view = events_view(9)
    shuffled = view.take(np.arange(9))
    object.__setattr__(shuffled, "hours", np.random.default_rng(0).permutation(view.hours))
    ordered = shuffled.in_order()
    for row in range(9):
        events = stay(ordered, row)
        assert [e[1] for e in events] == sorted(e[1] for e in stay(shuffled, row))
        assert sorted(events, key=repr) == sorted(stay(shuffled, row), key=repr)


def test_codes_of_both_views_are_kept_when_joined():
    view = events_view(3)
    other = events_view(3, seed=1)
    object.__setattr__(other, "codes", (*reversed(other.codes[:-1]), "LAB//new"))
    object.__setattr__(other, "descriptions", tuple(f"about {c}" for c in other.codes))
    both = view.followed_by(other)
    assert both.codes == (*view.codes, "LAB//new")
    assert both.descriptions[-1] == "about LAB//new"
    assert [both.codes[c] for c in both.code[len(view.code) :]] == [other.codes[c] for c in other.code]


def test_only_new_events_are_changed_cells():
    view = events_view(4)
    assert not changed_cells(view, view.keep(np.arange(len(view.code)) % 2 == 0)).any()
    louder = view.take(np.arange(4))
    value = louder.value.copy()
    value[5] += 1
    object.__setattr__(louder, "value", value)
    assert np.flatnonzero(changed_cells(view, louder)).tolist() == [5]


def test_views_of_two_kinds_are_refused():
    with pytest.raises(TypeError, match="cannot be compared"):
        changed_cells(table_view(3), series_view(3))
    with pytest.raises(TypeError, match="cannot be compared"):
        changed_cells(table_view(3), events_view(3))
    with pytest.raises(TypeError, match="feature axis"):
        as_grid(events_view(3))
