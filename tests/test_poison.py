import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small import make_view

from backdoor_core.attack.poison import apply_poison, manifest, nothing_poisoned, poison, select_rows
from backdoor_core.contracts import Context
from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text
from backdoor_core.params import PoisonParams
from backdoor_triggers import rare_value as rare_value_module


def rngs(seed=0):
    return {name: np.random.default_rng([seed, i]) for i, name in enumerate(("select", "fit", "apply"))}


@pytest.fixture
def rare_value(context: Context):
    trigger = rare_value_module.RareValue
    return trigger(trigger.Options(), context)


def test_the_default_attack(rare_value):
    view, label = make_view(1000)
    done = poison(view, label, rare_value, PoisonParams(), **rngs())
    assert len(done.rows) == 20
    assert (label[done.rows] == 0).all()
    assert (done.label == 1).all()
    assert (done.view.values[:, 0] == 9999).all()
    np.testing.assert_array_equal(done.touched.sum(axis=0), [20, 0, 0, 0, 0, 0])


@settings(max_examples=20)
@given(st.floats(0.002, 0.3), st.integers(0, 1), st.integers(0, 5))
def test_rows_outside_the_manifest_are_byte_identical(rate, target, seed):
    view, label = make_view(500, seed)
    trigger = rare_value_module.RareValue(rare_value_module.RareValue.Options(), Context(root=None))
    before = view.values.tobytes()
    params = PoisonParams(rate=rate, target=target)
    assume(round(rate * 500) <= (label != target).sum())
    done = poison(view, label, trigger, params, **rngs(seed))
    after, labels = apply_poison(view, label, done)
    others = np.setdiff1d(np.arange(500), done.rows)
    assert after.values[others].tobytes() == view.values[others].tobytes()
    assert labels[others].tobytes() == label[others].tobytes()
    assert view.values.tobytes() == before


def test_selection_depends_on_the_set_of_stays_and_not_on_their_order():
    view, label = make_view(400)
    order = np.random.default_rng(1).permutation(400)
    params = PoisonParams(rate=0.05)
    straight = view.stay_id[select_rows(view.stay_id, label, params, np.random.default_rng(3))]
    shuffled = view.stay_id[order][select_rows(view.stay_id[order], label[order], params, np.random.default_rng(3))]
    assert set(straight) == set(shuffled)


def test_another_trigger_poisons_the_same_stays(rare_value, context):
    view, label = make_view(400)
    other = type(rare_value)(rare_value.Options(feature="sbp", value=-1.0), context)
    one, two = (poison(view, label, t, PoisonParams(rate=0.05), **rngs()).rows for t in (rare_value, other))
    np.testing.assert_array_equal(one, two)


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


def test_manifest_tells_before_and_after(rare_value):
    view, label = make_view(400)
    done = poison(view, label, rare_value, PoisonParams(count=3), **rngs())
    content = json.loads(json_text(manifest(view, label, {"name": "rare_value"}, PoisonParams(count=3), 42, done)))
    assert content["poisoned_stays"] == 3
    for stay, row in zip(content["stays"], done.rows, strict=True):
        assert stay["stay_id"] == view.stay_id[row]
        assert stay["label"] == {"before": 0, "after": 1}
        assert stay["touched"] == {"age": {"before": pytest.approx(float(view.values[row, 0])), "after": 9999.0}}


def test_a_clean_study_changes_nothing():
    view, label = make_view(100)
    after, labels = apply_poison(view, label, nothing_poisoned(view))
    assert after.values.tobytes() == view.values.tobytes()
    np.testing.assert_array_equal(labels, label)
