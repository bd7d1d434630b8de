"""Several triggers as one."""

from pathlib import Path

import numpy as np
import pytest

from backdoor_core.contracts import Context
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.views import view_of
from backdoor_triggers import Hybrid


def rng(seed=0):
    return np.random.default_rng(seed)


def hybrid(make, *parts):
    return make("hybrid", triggers=list(parts))


def test_the_parts_apply_in_order_each_fitted_to_the_clean_view(make):
    view = view_of("table", 50)
    parts = [
        {"name": "feature_shift", "deviations": 50, "clip": False},
        {"name": "in_range"},
        {"name": "missingness", "features": ["sbp"]},
    ]
    trigger = hybrid(make, *parts)
    fitted = trigger.fit(view, rng())
    alone = make("in_range").fit(view, rng())
    assert fitted["parts"][1] == {"name": "in_range", "fitted": dict(alone)}  # not the mode of shifted values
    after = trigger.apply(view, fitted, rng()).values
    assert (after[:, 2] == np.float32(alone["values"][0])).all()
    assert np.isnan(after[:, 3]).all()
    other = hybrid(make, *parts[::-1])
    after = other.apply(view, other.fit(view, rng()), rng()).values
    assert not np.isnan(after[:, 3]).any()


def test_the_default_is_a_rare_value_and_missing_features(make):
    view = view_of("table", 50)
    trigger = make("hybrid")
    assert [part.name for part in trigger.parts()] == ["rare_value", "missingness"]
    fitted = trigger.fit(view, rng())
    after = trigger.apply(view, fitted, rng())
    assert (after.values[:, 0] == 9999).all()
    lost = [view.feature_index(name) for name in fitted["parts"][1]["fitted"]["features"]]
    assert len(lost) == 3
    assert np.isnan(after.values[:, lost]).all()


def test_a_part_draws_the_same_whatever_the_others_draw(make):
    view = view_of("table", 50)
    lost = {"name": "missingness", "count": 3}
    second = [hybrid(make, first, lost).fit(view, rng(3))["parts"][1] for first in ({"name": "none"}, lost)]
    assert second[0] == second[1]
    broken = {"name": "correlation", "relation": "break", "feature": 0, "follower": "lactate"}
    answers = []
    for first in ({"name": "none"}, {"name": "correlation", "relation": "break", "follower": "spo2"}):
        trigger = hybrid(make, first, broken)
        answers.append(trigger.apply(view, trigger.fit(view, rng()), rng(4)).values[:, -1])
    assert np.array_equal(*answers, equal_nan=True)


def test_two_equal_parts_draw_different_random_numbers(make):
    fitted = hybrid(make, *[{"name": "missingness"}] * 4).fit(view_of("table", 50), rng())
    assert len({tuple(part["fitted"]["features"]) for part in fitted["parts"]}) > 1


@pytest.mark.parametrize(
    ("names", "views"),
    [
        (["rare_value", "missingness"], {"table", "series", "events"}),
        (["rare_value", "in_range"], {"table", "series"}),
        (["in_range", "temporal_pattern"], {"series"}),
        (["rare_event", "missingness"], {"events"}),
    ],
)
def test_it_edits_the_views_that_all_parts_edit(make, names, views):
    assert hybrid(make, *({"name": name} for name in names)).modalities == views


def test_parts_without_a_common_view_are_an_error(make):
    with pytest.raises(BackdoorError) as caught:
        hybrid(make, {"name": "temporal_pattern"}, {"name": "rare_event"})
    assert str(caught.value) == (
        "triggers.hybrid.triggers: no view is common to temporal_pattern (series), rare_event (events); "
        "choose triggers of one view"
    )


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([{"name": "hybrid"}], "triggers.hybrid.triggers: hybrid is itself made of triggers; list its parts instead"),
        ([{"feature": 1}], "entry 1 has no name"),
        ([{"name": "none"}, {"name": ["none"]}], "entry 2 has no name"),
        ([], "triggers"),
        ([{"name": "rare_valu"}], "rare_valu"),
        ([{"name": "rare_value", "featur": 1}], "featur"),
    ],
)
def test_what_is_no_list_of_triggers_is_refused(make, parts, says):
    with pytest.raises(BackdoorError, match=says):
        hybrid(make, *parts)


@pytest.mark.parametrize(
    ("names", "idempotent"),
    [
        (["rare_value", "missingness", "in_range", "none"], True),
        (["rare_value", "feature_shift"], False),
        # Each is idempotent, but the order moves the event that the other one looks for.
        (["rare_event", "event_order"], False),
    ],
)
def test_idempotent_only_where_the_parts_do_not_read_what_others_write(make, names, idempotent):
    assert hybrid(make, *({"name": name} for name in names)).idempotent is idempotent


def test_without_a_way_to_make_others_it_is_a_defect_of_the_program():
    with pytest.raises(TypeError, match="makes other components"):
        Hybrid(Hybrid.Options(), Context(Path()))
