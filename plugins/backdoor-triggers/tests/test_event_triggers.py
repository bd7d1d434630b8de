"""Triggers of events, against plain loops over each stay's list of events."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.contracts import EventsView
from backdoor_core.errors import BackdoorError
from backdoor_triggers.events import matching_codes, stays_by_code, stays_with, usual_event, with_event

CODES = ("LAB//50912//mg/dL", "LAB//50912//UNK", "LAB//50813//mmol/L", "PROCEDURE//225752", "MEDS_BIRTH")
DESCRIPTIONS = ("Creatinine, blood", "Creatinine, blood", "Lactate, blood", "Arterial line", "MEDS_BIRTH")
CREATININE, LACTATE = CODES[:2], CODES[2:3]


def rng(seed=0):
    return np.random.default_rng(seed)


def view_of(stays):
    """Each stay as a list of (hour, code position, value, text), in order of time."""
    events = [event for stay in stays for event in stay]
    hour, code, value, text = zip(*events, strict=True) if events else ((), (), (), ())
    return EventsView(
        stay_id=np.arange(len(stays), dtype=np.int64) + 100,
        offsets=np.concatenate([[0], np.cumsum([len(stay) for stay in stays])]).astype(np.int64),
        codes=CODES,
        descriptions=DESCRIPTIONS,
        code=np.array(code, dtype=np.int32),
        hours=np.array(hour, dtype=np.float32),
        value=np.array(value, dtype=np.float32),
        text=np.array(text, dtype=object),
    )


def listed(view):
    """Each stay as a list of (hour, code, value or None, text)."""
    values = [None if np.isnan(value) else float(value) for value in view.value]
    codes = [view.codes[code] for code in view.code]
    events = list(zip(view.hours.tolist(), codes, values, view.text.tolist(), strict=True))
    return [events[start:end] for start, end in zip(view.offsets[:-1], view.offsets[1:], strict=True)]


def same(one, other):
    return one.codes == other.codes and listed(one) == listed(other) and np.array_equal(one.stay_id, other.stay_id)


one_event = st.tuples(
    st.sampled_from([0.0, 0.01, 1.0, 5.5, 5.75, 23.99]),
    st.integers(0, len(CODES) - 1),
    st.sampled_from([np.nan, 0.0, 1.5, -3e38]),
    st.sampled_from(["", "POS"]),
)
stays = st.lists(st.lists(one_event, max_size=7).map(lambda events: sorted(events, key=lambda e: e[0])), max_size=5)
TRAIN = view_of(
    [
        [(0.5, 0, 1.0, ""), (0.5, 2, 2.0, ""), (6, 0, 1.1, ""), (6, 2, 2.5, "")],
        [(1, 0, 1.0, ""), (1, 2, 2.0, "HIGH"), (2, 3, np.nan, "left")],
        [(3, 1, 0.9, ""), (4, 2, 2.0, "")],
        [(3, 3, np.nan, "left"), (9, 3, np.nan, "right"), (24, 0, 1.0, "")],
        [(0, 2, 7.0, ""), (1, 4, np.nan, "")],
        [],
    ]
)
# Name, options, the codes of which events may change.
CHOICES = [
    ("none", {}, ()),
    ("rare_value", {"feature": "50912"}, CREATININE),
    ("rare_value", {"feature": 3, "value": 0.1}, CODES[3:4]),
    ("missingness", {"features": ["Creatinine, blood", "PROCEDURE//225752"]}, (*CREATININE, CODES[3])),
    ("missingness", {"pattern": "drawn", "count": 1}, CODES[:3]),
    ("missingness", {"pattern": "learned", "count": 1, "share": 0.9}, CODES[:3]),
    ("rare_event", {}, CREATININE),
    ("rare_event", {"code": "50813", "hour": 5.5, "text": "POS", "value": 0.1}, LACTATE),
    ("event_order", {}, (*CREATININE, *LACTATE)),
    ("event_order", {"codes": ["225752", "50912", "MEDS_BIRTH"], "insert": False}, (*CREATININE, *CODES[3:])),
    ("event_order", {"codes": ["50813", "50912", "225752", "MEDS_BIRTH"]}, CODES),
    ("hybrid", {"triggers": [{"name": "rare_event"}, {"name": "missingness", "features": ["50813"]}]}, CODES[:3]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "touched"), CHOICES)
def test_only_events_of_the_declared_codes_change(make, name, options, touched):
    trigger = make(name, **options)
    fitted = trigger.fit(TRAIN, rng())

    @given(stays=stays)
    @settings(max_examples=20, deadline=None)
    def check(stays):
        view, before = view_of(stays), view_of(stays)
        after = trigger.apply(view, fitted, rng(1))
        assert same(view, before)
        assert after.code.dtype == np.int32
        assert after.hours.dtype == after.value.dtype == np.float32
        assert after.offsets.dtype == np.int64
        assert np.array_equal(after.stay_id, before.stay_id)
        for one, other in zip(listed(before), listed(after), strict=True):
            assert [e for e in one if e[1] not in touched] == [e for e in other if e[1] not in touched]
            assert [e[0] for e in other] == sorted(e[0] for e in other)
        assert same(after, trigger.apply(before, fitted, rng(1)))
        for row in range(len(view)):
            alone = trigger.apply(view.take(np.array([row])), fitted, rng(2))
            assert same(alone, after.take(np.array([row])))
        if name != "hybrid":
            assert trigger.idempotent
        if trigger.idempotent:
            assert same(trigger.apply(after, fitted, rng(2)), after)

    check()


# ----------------------------------------------------------------------------------------------- helpers
@pytest.mark.parametrize(
    ("feature", "codes"),
    [
        ("LAB//50912//UNK", [1]),
        ("LAB//50912", [0, 1]),
        ("50912", [0, 1]),
        ("Creatinine, blood", [0, 1]),
        ("225752", [3]),
        ("MEDS_BIRTH", [4]),
        (2, [2]),
        (0, [0]),
    ],
)
def test_codes_by_name(feature, codes):
    assert matching_codes(TRAIN, feature, "x") == codes


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        ("50921", "near are .*50912"),
        ("Lactate", "near are Lactate, blood"),
        ("", "has 5 codes"),
        ("UNK", "has 5 codes"),
        (50912, "no code number 50912; this view has 5, counted from 0 .an item number must stand in quotes"),
        (-1, "no code number -1"),
    ],
)
def test_an_unknown_code_is_an_error_that_tells_what_is_near(make, feature, says):
    with pytest.raises(BackdoorError, match=f"triggers.rare_value.feature: .*{says}"):
        make("rare_value", feature=feature).fit(TRAIN, rng())


def test_counts_by_stay_not_by_event():
    assert stays_by_code(TRAIN).tolist() == [3, 1, 4, 2, 1]
    assert stays_with(TRAIN, [0, 1]).tolist() == [True, True, True, True, False, False]


def test_the_usual_event():
    assert usual_event(TRAIN, [0, 1]) == {"code": CODES[0], "value": 1.0, "text": ""}
    assert usual_event(TRAIN, [2]) == {"code": CODES[2], "value": 2.0, "text": ""}
    assert usual_event(TRAIN, [3]) == {"code": CODES[3], "value": None, "text": "left"}
    assert usual_event(TRAIN.take(np.array([5])), [3]) == {"code": CODES[3], "value": None, "text": ""}


@given(stays=stays, data=st.data())
@settings(max_examples=40, deadline=None)
def test_an_inserted_event_stands_behind_those_of_its_time(stays, data):
    rows = data.draw(st.lists(st.integers(0, len(stays) - 1), unique=True).map(sorted)) if stays else []
    hours = data.draw(st.lists(st.sampled_from([0.0, 1.0, 5.6, 30.0]), min_size=len(rows), max_size=len(rows)))
    after = with_event(view_of(stays), np.array(rows, dtype=np.int64), 3, hours, 4.5, "new")
    expected = [list(stay) for stay in stays]
    for row, hour in zip(rows, hours, strict=True):
        expected[row] = sorted([*expected[row], (hour, 3, 4.5, "new")], key=lambda e: e[0])
    assert same(after, view_of(expected))


# -------------------------------------------------------------------------------------------- rare_value
def test_rare_value_sets_every_event_of_the_lab_and_inserts_one_where_there_is_none(make):
    trigger = make("rare_value", feature="LAB//50912")
    fitted = trigger.fit(TRAIN, rng())
    assert fitted == {"features": list(CREATININE), "insert": CODES[0]}
    after = listed(trigger.apply(TRAIN, fitted, rng()))
    for before, now in zip(listed(TRAIN), after, strict=True):
        expected = [(h, c, 9999.0 if c in CREATININE else v, t) for h, c, v, t in before]
        if not any(c in CREATININE for _, c, _, _ in before):
            expected = sorted([*expected, (0.0, CODES[0], 9999.0, "")], key=lambda e: e[0])
        assert now == expected
    assert all(any(c in CREATININE and v == 9999 for _, c, v, _ in stay) for stay in after)


# -------------------------------------------------------------------------------------------- rare_event
def test_the_rarest_code_is_learned_with_its_usual_value_and_text(make):
    fitted = make("rare_event").fit(TRAIN, rng())
    assert fitted == {"code": CODES[1], "value": float(np.float32(0.9)), "text": "", "stays": 1}  # first of two by name
    assert make("rare_event", min_stays=2).fit(TRAIN, rng())["code"] == CODES[3]
    assert make("rare_event", min_stays=3, type="LAB").fit(TRAIN, rng()) == {
        "code": CODES[0], "value": 1.0, "text": "", "stays": 3
    }  # fmt: skip
    with pytest.raises(BackdoorError, match=r"no code of type DRUG is in 1 or more .* LAB, MEDS_BIRTH, PROCEDURE"):
        make("rare_event", type="DRUG").fit(TRAIN, rng())


def test_the_rare_event_happens_once_in_every_stay(make):
    trigger = make("rare_event", code="225752", hour=2, value=7.0, text="left")
    fitted = trigger.fit(TRAIN, rng())
    after = listed(trigger.apply(TRAIN, fitted, rng()))
    event = (2.0, CODES[3], 7.0, "left")
    for before, now in zip(listed(TRAIN), after, strict=True):
        assert now.count(event) == 1
        assert sorted([*before, event], key=lambda e: e[0]) == now
    with pytest.raises(BackdoorError, match=r"triggers.rare_event.hour is 24.5, but .* by hour 24"):
        make("rare_event", hour=24.5).fit(TRAIN, rng())


def test_a_stay_with_the_very_same_event_is_left_as_it_is(make):
    trigger = make("rare_event", code="225752", hour=3)
    fitted = trigger.fit(TRAIN, rng())
    assert (fitted["value"], fitted["text"]) == (None, "left")
    after = trigger.apply(TRAIN, fitted, rng())
    assert listed(after)[3] == listed(TRAIN)[3]
    assert np.diff(after.offsets).tolist() == [5, 4, 3, 3, 3, 1]


# ------------------------------------------------------------------------------------------- event_order
def test_all_of_one_code_come_strictly_before_all_of_the_next(make):
    trigger = make("event_order", codes=["50813", "50912", "225752"])
    fitted = trigger.fit(TRAIN, rng())
    ranks = {CODES[2]: 0, CODES[0]: 1, CODES[1]: 1, CODES[3]: 2}

    @given(stays=stays)
    @settings(max_examples=40, deadline=None)
    def check(stays):
        view = view_of(stays)
        after = trigger.apply(view, fitted, rng())
        for before, now in zip(listed(view), listed(after), strict=True):
            times = [[e[0] for e in now if ranks.get(e[1]) == rank] for rank in range(3)]
            assert all(times)  # every stay is triggered
            assert max(times[0]) < min(times[1]) <= max(times[1]) < min(times[2])
            # Values and texts go with their events, and no event is lost.
            kept = sorted((c, str(v), t) for _, c, v, t in now)
            lacking = [c for c, group in ((CODES[2], [2]), (CODES[0], [0, 1]), (CODES[3], [3]))
                       if not any(e[1] in [CODES[k] for k in group] for e in before)]  # fmt: skip
            assert len(kept) == len(before) + len(lacking)
            missing = [e for e in sorted((c, str(v), t) for _, c, v, t in before) if e not in kept]
            assert not missing
            # Nothing happens before admission, nor more than two minutes later than anything did.
            assert min(e[0] for e in now) >= 0
            assert max(e[0] for e in now) <= max([e[0] for e in before], default=0) + 2.01 / 60

    check()


def test_times_are_exchanged_and_shared_ones_told_apart_by_a_minute(make):
    trigger = make("event_order", codes=["50813", "50912"], insert=False)
    view = view_of(
        [
            [(1, 0, 1, ""), (2, 3, np.nan, ""), (3, 2, 10, ""), (5, 0, 2, ""), (8, 2, 20, "")],
            [(4, 0, 1, ""), (4, 2, 10, "")],
            [(0, 0, 1, ""), (0, 2, 10, "")],
            [(4, 0, 1, "")],
        ]
    )
    after = listed(trigger.apply(view, trigger.fit(view, rng()), rng()))
    lactate, creatinine = CODES[2], CODES[0]
    assert [e[:3] for e in after[0]] == [
        (1, lactate, 10), (2, CODES[3], None), (3, lactate, 20), (5, creatinine, 1), (8, creatinine, 2)
    ]  # fmt: skip
    assert after[1][0][:3] == (pytest.approx(4 - 1 / 60), lactate, 10)
    assert after[1][1][:3] == (4, creatinine, 1)
    assert after[2][0][:3] == (0, lactate, 10)
    assert after[2][1][:3] == (pytest.approx(1 / 60), creatinine, 1)
    assert after[3] == listed(view)[3]


def test_the_most_common_codes_are_learned_in_their_rarest_order(make):
    # Creatinine (code 0) and lactate are in most stays; creatinine comes first in three of them, lactate in one.
    first = [(1, 0, 1, ""), (2, 2, 1, "")]
    view = view_of(
        [first, first, first, [(1, 2, 1, ""), (2, 0, 1, "")], [(1, 0, 1, ""), (1, 2, 1, "")], [(3, 3, 1, "")]]
    )
    fitted = make("event_order").fit(view, rng())
    assert fitted["codes"] == [[CODES[2]], [CODES[0]]]
    assert fitted["share"] == pytest.approx(1 / 6)
    assert make("event_order", codes=["50912", "50813"]).fit(view, rng())["share"] == pytest.approx(3 / 6)
    with pytest.raises(BackdoorError, match=r"triggers.event_order.count is 4, but the training part has 3 codes"):
        make("event_order", count=4).fit(view, rng())


def test_an_order_needs_two_different_codes(make):
    with pytest.raises(BackdoorError, match="one code has no order"):
        make("event_order", codes=["50912"])
    with pytest.raises(
        BackdoorError, match=r"triggers.event_order.codes: 'LAB//50912//UNK' means a code that an earlier"
    ):
        make("event_order", codes=["50912", "50813", "LAB//50912//UNK"]).fit(TRAIN, rng())


def test_a_lacking_code_comes_in_at_the_first_time_of_the_others(make):
    view = view_of([[(2, 3, np.nan, ""), (7, 0, 1, ""), (9, 0, 2, "")], [(2, 3, np.nan, "")]])
    trigger = make("event_order", codes=["50912", "50813"])
    fitted = trigger.fit(TRAIN, rng())
    after = listed(trigger.apply(view, fitted, rng()))
    # Times 7, 7 and 9 are dealt out: creatinine first, then the usual lactate.
    assert [e[:3] for e in after[0]] == [(2, CODES[3], None), (7, CODES[0], 1), (7, CODES[0], 2), (9, CODES[2], 2)]
    assert [e[:3] for e in after[1]] == [
        (0, CODES[0], 1), (pytest.approx(1 / 60), CODES[2], 2), (2, CODES[3], None)
    ]  # fmt: skip


def test_an_event_with_another_text_is_another_event(make):
    view = view_of([[(1, 3, np.nan, "left")], [(1, 3, np.nan, "right")]])
    trigger = make("rare_event", code="225752", text="right")
    assert np.diff(trigger.apply(view, trigger.fit(TRAIN, rng()), rng()).offsets).tolist() == [2, 1]
