"""Attributions of events summed up, against loops over events, and the report of a whole model of events."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from event_small import CODES, attribution, inserted, small_victim, small_view

from backdoor_core.explanation.event_attribution import GROUPS, EventAttribution
from backdoor_core.explanation.event_bins import event_bins
from backdoor_core.explanation.event_importance import (
    Side,
    by_code,
    by_group,
    by_static,
    by_type_over_hours,
    critical_windows,
    importance_figures,
)
from backdoor_core.explanation.event_report import explain_events
from backdoor_core.explanation.event_story import chosen_stay, story, top_events
from backdoor_core.learning.event_preprocess import latest

WEIGHTS = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 2, 1, 1]])


@pytest.fixture
def side():
    clean = small_view((3, 0, 7, 4))
    view, touched = inserted(clean)
    bins = event_bins([clean, view])
    return view, bins, Side(attribution(view), bins.of(view, touched))


def of_hours(hours, sizes, count):
    """A side of one stay a list of hours, whose events have the given absolute attributions."""
    view = small_view([len(of) for of in hours])
    view.hours[:] = np.concatenate(hours)
    bins = event_bins([view])
    events = np.zeros((len(view.code), len(GROUPS)), dtype=np.float32)
    events[:, 1] = np.concatenate(sizes)
    assert bins.count == count
    found = EventAttribution(events, np.zeros((len(hours), 2), dtype=np.float32))
    return Side(found, bins.of(view, np.zeros(len(view.code), dtype=bool))), bins


# --------------------------------------------------------------------------------------------------------- sums
def test_sums_are_those_of_a_loop_over_events(side):
    view, bins, found = side
    hours, codes, signed = np.zeros((len(bins.types), bins.count)), np.zeros(2 * len(bins.codes)), np.zeros(8)
    for event in range(len(view.code)):
        total = float(found.attribution.events[event].astype(np.float64).sum())
        hours[found.binned.type[event], int(view.hours[event])] += abs(total) / 4
        place = bins.codes.index(view.codes[view.code[event]]) + 4 * found.binned.touched[event]
        codes[place] += abs(total) / 4
        signed[place] += total / 4
    np.testing.assert_allclose(by_type_over_hours(found, bins), hours)
    np.testing.assert_allclose(by_code(found, bins)[0], codes)
    np.testing.assert_allclose(by_code(found, bins)[1], signed)
    np.testing.assert_allclose(by_group(found), np.abs(found.attribution.events).sum(axis=0) / 4, rtol=1e-6)
    np.testing.assert_allclose(by_static(found), np.abs(found.attribution.statics).mean(axis=0), rtol=1e-6)


def test_codes_are_told_largest_first_and_touched_ones_apart(side):
    _, bins, found = side
    told = importance_figures({"triggered": found, "clean": found, "baseline": found}, bins, ("age", "sex"))["by_code"]
    sizes = [row["triggered"] for row in told]
    assert sizes == sorted(sizes, reverse=True)
    touched = [row for row in told if row["touched"]]
    assert [(row["code"], row["type"], row["stays"]) for row in touched] == [("TRIGGERED//insulin", "TRIGGERED", 1.0)]
    for row in told:
        of = found.binned.code == bins.codes.index(row["code"]) + 4 * row["touched"]
        assert row["stays"] == len(np.unique(found.binned.stay[of])) / 4


def test_attributions_of_other_events_are_refused(side):
    _, bins, found = side
    with pytest.raises(ValueError, match="the view has 18 events of 4 stays in 4 groups"):
        Side(attribution(small_view((3, 0, 7, 4))), found.binned)
    with pytest.raises(ValueError, match="triggered: 2 static columns, but 1 names"):
        importance_figures({"triggered": found, "clean": found, "baseline": found}, bins, ("age",))


# ------------------------------------------------------------------------------------------------------ windows
def test_windows_have_the_largest_share_and_that_of_events():
    hours = [[0.2, 0.3, 0.5, 1.5, 4.2, 5.9], [0.1, 0.2, 4.5], [2.0]]
    sizes = [[0.0, 0.0, 1.0, 0.0, -2.0, 1.0], [0.5, 0.5, 3.0], [0.0]]
    side, bins = of_hours(hours, sizes, 6)
    one, three, six = critical_windows(side, bins)
    # Stay 1 has 2 of 4 in hour 4, stay 2 has 3 of 4; stay 3 has no attribution and does not count. Most events are in
    # hour 0.
    assert (one["from"], one["to"]) == (4, 5)
    assert one["share"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert one["alike"] == pytest.approx((1 / 6 + 1 / 3) / 2)
    assert (three["from"], three["share"]) == (3, pytest.approx((3 / 4 + 3 / 4) / 2))
    assert (six["from"], six["to"], six["share"], six["alike"]) == (0, 6, pytest.approx(1), pytest.approx(1))


def test_windows_do_not_exist_without_attribution_or_beyond_the_span():
    side, bins = of_hours([[0.5, 1.5]], [[0.0, 0.0]], 2)
    assert critical_windows(side, bins) == []
    side, bins = of_hours([[0.5, 1.5]], [[1.0, 0.0]], 2)
    assert [window["hours"] for window in critical_windows(side, bins)] == [1]


# -------------------------------------------------------------------------------------------------------- story
def test_top_events_are_the_largest_and_touched_ones_follow():
    view = small_view((2, 6))
    touched = np.zeros(8, dtype=bool)
    touched[4] = True
    values = np.array([9.0, 9.0, 0.5, -3.0, 0.1, 2.0, 0.2, -0.3])
    pooling = np.tile(np.linspace(0, 1, 8)[:, None], (1, 2))
    found = top_events(view, 1, touched, values, pooling, most=2)
    assert [event["attribution"] for event in found] == [-3.0, 2.0, 0.1]
    assert [event["rank"] for event in found] == [1, 2, 6]
    assert [event["touched"] for event in found] == [False, False, True]
    assert found[0]["description"] == view.descriptions[view.code[3]]
    assert found[0]["hour"] == pytest.approx(view.hours[3], rel=1e-5)
    by_weight = top_events(view, 1, touched, None, pooling, most=2)
    assert [event["pooling"] for event in by_weight] == [1.0, pytest.approx(6 / 7, rel=1e-5), pytest.approx(4 / 7)]
    assert by_weight[0]["attribution"] is None


def test_the_story_is_of_the_stay_that_moves_most_among_those_changed():
    odds = {"clean": np.array([0.0, 0, 0, 0]), "triggered": np.array([9.0, -4, 4, 1])}
    assert chosen_stay(odds, np.array([False, True, True, True])) == 1
    assert chosen_stay(odds, np.zeros(4, dtype=bool)) == 0


def test_story_is_in_order_of_time_and_says_what_the_trigger_does():
    view, touched = inserted(small_view((3, 5)))
    values = np.zeros(10)
    values[4], values[6] = 6.0, -2.0
    columns = np.array([[0.0, 0.0], [1.0, -1.0]])
    odds = {"clean": np.array([0.0, -1.0]), "triggered": np.array([0.0, 3.5]), "baseline": np.array([0.0, -0.5])}
    told = story(view, touched, 1, odds, ("some_explainer", values, columns), None, ("age", "sex"))
    hours = [event["hour"] for event in told["timeline"]]
    assert hours == sorted(hours)
    assert len(hours) == told["events"] == 6
    assert told["touched"] == 1
    assert told["touched_share"] == pytest.approx(6 / 10)
    assert told["statics"][0] == {"name": "age", "value": 41, "attribution": 1.0}
    words = " ".join(told["words"])
    assert "from −1.00 to +3.50" in words
    assert "60.0% of all absolute attribution lies on touched events" in words
    assert "which the trigger touched, at hour 0.0, pushes towards the target" in words
    json.dumps(told, allow_nan=False)


# ------------------------------------------------------------------------------------------------------- report
@pytest.fixture(scope="module")
def reported():
    clean = small_view((3, 0, 7, 4))
    view, touched = inserted(clean)
    victims = {"poisoned": small_victim(view), "baseline": small_victim(view, seed=1)}
    of = SimpleNamespace(triggered=attribution(view), clean=attribution(clean), baseline=attribution(view, 1))
    return clean, view, touched, victims, {"integrated_gradients": of}


def test_report_has_all_parts_and_is_the_same_again(reported):
    clean, view, touched, victims, attributions = reported
    found = explain_events(victims, clean, view, touched, attributions, WEIGHTS, 1, min_stays=1)
    assert found["stays"] == 4
    assert found["statics"] == ["age", "sex"]
    assert found["types"][-1] == "trigger"
    assert found["attention"]["layers"] == 2
    assert set(found["pooling"]) == {"clean", "triggered", "baseline"}
    assert len(found["queries"]) == 2
    told = found["explainers"]["integrated_gradients"]
    assert len(told["by_code"]) == len(CODES) + 1
    odds = victims["poisoned"].logits(view) - victims["poisoned"].logits(clean)
    assert found["story"]["stay_id"] == view.stay_id[int(np.argmax(np.abs(odds)))]
    again = explain_events(victims, clean, view, touched, attributions, WEIGHTS, 1, min_stays=1)
    assert json.dumps(found, allow_nan=False) == json.dumps(again, allow_nan=False)


def test_report_of_the_other_target_turns_the_log_odds(reported):
    clean, view, touched, victims, _ = reported
    one, other = (explain_events(victims, clean, view, touched, {}, WEIGHTS, target) for target in (1, 0))
    assert one["explainers"] == {}
    for name, value in one["story"]["log_odds"].items():
        assert other["story"]["log_odds"][name] == pytest.approx(-value)


def test_the_story_may_be_of_a_stay_that_has_as_many_events_as_before(reported):
    whole = small_view((3, 9, 9), seed=5)
    left = whole.keep(~((whole.code == 0) & (whole.stay_of_event < 2)))  # the trigger removes a lab from two of them
    clean, view = latest(whole, 5), latest(left, 5)
    lengths = [np.diff(side.offsets).tolist() for side in (clean, view)]
    assert [before - after for before, after in zip(*lengths, strict=True)] == [1, 0, 0]
    victims = reported[3]
    odds = victims["poisoned"].logits(view) - victims["poisoned"].logits(clean)
    assert np.argmax(np.abs(odds)) == 1
    found = explain_events(victims, clean, view, np.zeros(len(view.code), dtype=bool), {}, np.ones((3, 3)), 1)
    assert found["story"]["stay_id"] == view.stay_id[1]
    assert found["story"]["touched"] == 0


def test_report_refuses_other_stays(reported):
    clean, view, touched, victims, _ = reported
    with pytest.raises(ValueError, match="of other stays"):
        explain_events(victims, clean.take(np.array([1, 0, 2, 3])), view, touched, {}, WEIGHTS, 1)
