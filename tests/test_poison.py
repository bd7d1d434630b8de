import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from small import make_view

from backdoor_core.attack.poison import apply_poison, manifest, nothing_poisoned, poison
from backdoor_core.contracts import Context, Trigger
from backdoor_core.files import json_text
from backdoor_core.params import PoisonParams
from backdoor_core.testing.views import events_view
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


def test_another_trigger_poisons_the_same_stays(rare_value, context):
    view, label = make_view(400)
    other = type(rare_value)(rare_value.Options(feature="sbp", value=-1.0), context)
    one, two = (poison(view, label, t, PoisonParams(rate=0.05), **rngs()).rows for t in (rare_value, other))
    np.testing.assert_array_equal(one, two)


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


def test_cover_stays_get_the_trigger_and_keep_their_labels(rare_value):
    view, label = make_view(400)
    done = poison(view, label, rare_value, PoisonParams(rate=0.05, cover_rate=0.1), **rngs())
    assert (int((~done.cover).sum()), int(done.cover.sum())) == (20, 40)
    assert (done.view.values[:, 0] == 9999).all()
    np.testing.assert_array_equal(done.label[done.cover], label[done.rows[done.cover]])
    assert (done.label[~done.cover] == 1).all()
    assert done.truth(400).sum() == 20
    alone = poison(view, label, rare_value, PoisonParams(rate=0.05), **rngs())
    np.testing.assert_array_equal(done.rows[~done.cover], alone.rows)
    content = manifest(view, label, {"name": "rare_value"}, PoisonParams(), 42, done)
    assert (content["poisoned_stays"], content["cover_stays"], content["rate"]) == (20, 40, 0.05)
    assert sum(stay["role"] == "cover" for stay in content["stays"]) == 40


def test_clean_labels_take_stays_of_the_target_and_relabel_none(rare_value):
    view, label = make_view(400)
    done = poison(view, label, rare_value, PoisonParams(rate=0.05, labels="clean"), **rngs())
    assert (label[done.rows] == 1).all()
    _, labels = apply_poison(view, label, done)
    np.testing.assert_array_equal(labels, label)


def test_cover_stays_need_no_poison(rare_value):
    view, label = make_view(400)
    done = poison(view, label, rare_value, PoisonParams(rate=0, cover_rate=0.1), **rngs())
    assert done.cover.all()
    assert len(done.rows) == 40
    np.testing.assert_array_equal(done.label, label[done.rows])


@pytest.mark.parametrize("cover_rate", [0.0, 0.1])
def test_added_copies_leave_every_stay_as_it_was(rare_value, cover_rate):
    view, label = make_view(400)
    params = PoisonParams(rate=0.05, mode="add", cover_rate=cover_rate)
    done = poison(view, label, rare_value, params, **rngs())
    after, labels = apply_poison(view, label, done)
    assert after.values[:400].tobytes() == view.values.tobytes()
    assert labels[:400].tobytes() == label.tobytes()
    copies = len(done.rows)
    assert len(after) == len(labels) == 400 + copies == 420 + cover_rate * 400
    np.testing.assert_array_equal(after.stay_id[400:], view.stay_id[done.rows])
    np.testing.assert_array_equal(after.values[400:], done.view.values)
    truth = done.truth(400)
    assert (len(truth), truth.sum(), truth[:400].any()) == (len(after), 20, False)
    assert (labels[truth] == 1).all()
    np.testing.assert_array_equal(done.victims(view.stay_id), after.stay_id)


def test_replaced_stays_are_where_the_truth_says(rare_value):
    view, label = make_view(400)
    done = poison(view, label, rare_value, PoisonParams(rate=0.05), **rngs())
    after, _ = apply_poison(view, label, done)
    np.testing.assert_array_equal(done.truth(400), after.values[:, 0] == 9999)
    np.testing.assert_array_equal(done.victims(view.stay_id), after.stay_id)


def test_events_are_poisoned_and_the_others_stay_as_they_were():
    view = events_view(60)
    label = np.tile(np.array([0, 0, 1], dtype=np.int8), 20)

    class Bell(Trigger):
        """Ends every stay with an event that no stay had."""

        name = "bell"
        modalities = frozenset({"events"})

        def apply(self, view, fitted, rng):
            n = len(view)
            bells = replace(
                view,
                offsets=np.arange(n + 1),
                codes=("PROCEDURE//bell",),
                descriptions=("bell",),
                code=np.zeros(n, np.int32),
                hours=np.full(n, 5.5, np.float32),
                value=np.full(n, np.nan, np.float32),
                text=np.full(n, "", object),
            )
            both = view.followed_by(bells)
            own = np.concatenate([view.stay_of_event, np.arange(n)])
            order = np.lexsort((both.hours, own))
            columns = {c: getattr(both, c)[order] for c in ("code", "hours", "value", "text")}
            return replace(both, stay_id=view.stay_id, offsets=view.offsets + np.arange(n + 1), **columns)

    trigger = Bell(Bell.Options(), Context(root=None))
    done = poison(view, label, trigger, PoisonParams(count=5), **rngs())
    after, labels = apply_poison(view, label, done)
    rung = np.array([code == "PROCEDURE//bell" for code in (after.codes[c] for c in after.code)])
    np.testing.assert_array_equal(np.unique(after.stay_of_event[rung]), done.rows)
    assert done.touched.sum() == 5
    assert [done.view.codes[c] for c in done.view.code[done.touched]] == ["PROCEDURE//bell"] * 5
    others = np.setdiff1d(np.arange(60), done.rows)
    one, other = after.take(others), view.take(others)
    for column in ("offsets", "hours", "value", "text", "stay_id"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    assert [one.codes[c] for c in one.code] == [other.codes[c] for c in other.code]
    assert (labels != label).sum() == 5
    stays = manifest(view, label, {"name": "bell"}, PoisonParams(), 42, done)["stays"]
    assert stays[0]["touched"] == {"PROCEDURE//bell": {"before": [], "after": [[5.5, None, ""]]}}
