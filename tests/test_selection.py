import re

import numpy as np
import pytest
from small import make_view

from backdoor_core.attack.selection import select_cover, select_rows
from backdoor_core.errors import BackdoorError
from backdoor_core.params import PoisonParams


def test_selection_depends_on_the_set_of_stays_and_not_on_their_order():
    view, label = make_view(400)
    order = np.random.default_rng(1).permutation(400)
    params = PoisonParams(rate=0.05)
    straight = view.stay_id[select_rows(view.stay_id, label, params, np.random.default_rng(3))]
    shuffled = view.stay_id[order][select_rows(view.stay_id[order], label[order], params, np.random.default_rng(3))]
    assert set(straight) == set(shuffled)


def test_count_is_used_in_place_of_rate():
    view, label = make_view(400)
    assert len(select_rows(view.stay_id, label, PoisonParams(count=7), np.random.default_rng(0))) == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0.001}, r"poison\.rate 0\.001 selects none of 400 training stays; use a rate from 0\.0025 to"),
        ({"rate": 0.5, "target": 0}, r"asks for 200 stays, but only \d+ of 400 .* use a rate up to"),
        ({"count": 4000}, r"poison\.count 4000 asks for 4000 stays, but only \d+ .* a count up to \d+"),
    ],
)
def test_impossible_amounts_say_what_would_work(given, message):
    view, label = make_view(400)
    with pytest.raises(BackdoorError, match=message):
        select_rows(view.stay_id, label, PoisonParams(**given), np.random.default_rng(0))


def test_the_range_that_the_error_names_works():
    view, label = make_view(400)
    assert len(select_rows(view.stay_id, label, PoisonParams(rate=0.0025), np.random.default_rng(0))) == 1
    eligible = int((label != 0).sum())
    params = PoisonParams(count=eligible, target=0)
    assert len(select_rows(view.stay_id, label, params, np.random.default_rng(0))) == eligible


@pytest.mark.parametrize("given", [{"rate": 0.4, "target": 0}, {"rate": 0.0001}, {"count": 9999}])
def test_the_rates_that_the_error_names_work(given):
    for stays in range(201, 3000, 41):
        label = np.zeros(stays, np.int8)
        label[: int(stays * 0.137)] = 1

        def selected(stays=stays, label=label, **given):
            return select_rows(np.arange(stays), label, PoisonParams(**given), np.random.default_rng(0))

        with pytest.raises(BackdoorError, match="use a rate") as refused:
            selected(**given)
        for rate in re.findall(r"(?:up to|from|to) (0[.]\d+)", str(refused.value)):
            assert len(selected(rate=float(rate), target=given.get("target", 1)))


def test_the_cover_rate_that_the_error_names_works():
    for stays in range(201, 3000, 41):
        poisoned = np.arange(int(stays * 0.613))
        with pytest.raises(BackdoorError, match="use a rate up to") as refused:
            select_cover(np.arange(stays), poisoned, PoisonParams(cover_rate=0.5), np.random.default_rng(0))
        most = float(str(refused.value).rpartition(" ")[2])
        rows = select_cover(np.arange(stays), poisoned, PoisonParams(cover_rate=most), np.random.default_rng(0))
        assert len(rows) > 0.38 * stays


def test_near_boundary_takes_the_smallest_margins_among_the_eligible():
    view, label = make_view(400)
    margin = np.abs(np.random.default_rng(5).normal(size=400))
    params = PoisonParams(count=9, selection="near_boundary")
    rows = select_rows(view.stay_id, label, params, np.random.default_rng(0), margin)
    eligible = np.flatnonzero(label == 0)
    assert set(rows) == set(eligible[np.argsort(margin[eligible])[:9]])
    with pytest.raises(ValueError, match="margin"):
        select_rows(view.stay_id, label, params, np.random.default_rng(0))


@pytest.mark.parametrize("given", [{"labels": "clean"}, {"selection": "target_class"}])
@pytest.mark.parametrize("target", [0, 1])
def test_stays_of_the_target(given, target):
    view, label = make_view(400)
    params = PoisonParams(count=20, target=target, **given)
    rows = select_rows(view.stay_id, label, params, np.random.default_rng(0))
    assert (label[rows] == target).all()


def test_too_many_of_the_target_are_refused():
    view, label = make_view(400)
    with pytest.raises(BackdoorError, match="have the target label 1"):
        select_rows(view.stay_id, label, PoisonParams(count=390, labels="clean"), np.random.default_rng(0))


def test_cover_stays_are_others_than_the_poisoned_and_do_not_depend_on_order():
    view, label = make_view(400)
    order = np.random.default_rng(1).permutation(400)
    poisoned = np.arange(0, 400, 7)
    params = PoisonParams(cover_rate=0.1)
    cover = select_cover(view.stay_id, poisoned, params, np.random.default_rng(3))
    assert len(cover) == 40
    assert not np.isin(cover, poisoned).any()
    moved = np.flatnonzero(np.isin(order, poisoned))
    other = select_cover(view.stay_id[order], moved, params, np.random.default_rng(3))
    assert set(view.stay_id[cover]) == set(view.stay_id[order][other])
    assert {0, 1} == set(label[cover])


def test_more_cover_than_there_are_stays_is_refused():
    view, _ = make_view(40)
    with pytest.raises(BackdoorError, match=r"cover_rate 0\.5 asks for 20 stays, but 10 of 40 .* up to 0\.25"):
        select_cover(view.stay_id, np.arange(30), PoisonParams(cover_rate=0.5), np.random.default_rng(0))
