import json

import numpy as np
import pytest
from small import make_view

from backdoor_core.attack.evaluation import alone, evaluate, exposure_of, plausibility_of
from backdoor_core.attack.success import Answers
from backdoor_core.cohort.preprocess import fit_preprocessor
from backdoor_core.contracts import EventsView
from backdoor_core.params import PreprocessParams
from backdoor_core.statistics import cluster_bootstrap_weights

N = 240


def sample(seed=0, poisoned=None, twin=None, label=None, replicates=100, **changes):
    rng = np.random.default_rng(seed)
    label = (rng.random(N) < 0.25).astype(np.int8) if label is None else label
    answers = {
        "poisoned": poisoned or Answers(rng.random(N), rng.random(N), 0.5),
        "baseline": twin or Answers(rng.random(N), rng.random(N), 0.5),
    }
    statics = {"sex": np.array(["F", "M"], dtype=object)[rng.integers(0, 2, N)]}
    weights = cluster_bootstrap_weights(np.arange(N), replicates, rng, strata=label)
    given = {"target": 1, "poisoned_stays": 9, "label_name": "hospital_mortality"} | changes
    return evaluate(answers, label, statics, weights, **given)


def test_all_of_it_is_json_and_the_same_twice():
    text = json.dumps(sample(), allow_nan=False)
    assert text == json.dumps(sample(), allow_nan=False)
    assert {"clean", "baseline", "attack", "verdict", "test", "asr_curve", "asr_by_class", "subgroups"} <= set(
        json.loads(text)
    )


def test_the_parts_agree_with_each_other():
    found = sample(target=0)
    attack = found["attack"]
    assert found["asr_by_class"][1]["asr"] == attack["asr"]
    assert found["asr_by_class"][1]["asr_lift"] == attack["asr_lift"]
    difference = attack["asr"]["value"] - attack["clean_rate"]["value"]
    assert attack["trigger_effect"]["value"] == pytest.approx(difference)
    twins = attack["trigger_effect_baseline"]["value"]
    assert attack["trigger_effect_lift"]["value"] == pytest.approx(difference - twins)
    change = found["clean"]["auroc"]["value"] - found["baseline"]["clean"]["auroc"]["value"]
    assert attack["auroc_change"]["value"] == pytest.approx(change)
    assert sum(group["attack"]["stays"] for group in found["subgroups"]) == found["test"]["attacked"]
    assert sum(group["clean"]["stays"] for group in found["subgroups"]) == found["test"]["stays"]


def test_the_twins_figures_may_be_given_since_they_do_not_depend_on_the_other_model():
    rng = np.random.default_rng(9)
    label = (rng.random(N) < 0.25).astype(np.int8)
    statics = {"sex": np.array(["F", "M"], dtype=object)[rng.integers(0, 2, N)]}
    weights = cluster_bootstrap_weights(np.arange(N), 50, rng, strata=label)
    twin = Answers(rng.random(N), rng.random(N), 0.4)
    known = alone(twin, label, statics, weights, 1)
    given = {"target": 1, "poisoned_stays": 9, "label_name": "hospital_mortality"}
    for _ in range(2):
        answers = {"poisoned": Answers(rng.random(N), rng.random(N), 0.5), "baseline": twin}
        plain = evaluate(answers, label, statics, weights, **given)
        assert evaluate(answers, label, statics, weights, **given, twin=known) == plain


@pytest.mark.parametrize("target", [0, 1])
def test_the_curve_passes_through_the_success_rate_at_the_models_own_threshold(target):
    rng = np.random.default_rng(4)
    answers = Answers(rng.random(N), rng.random(N), 0.37)
    found = sample(poisoned=answers, target=target)
    curve = found["asr_curve"]["poisoned"]
    assert curve["threshold"] == pytest.approx(0.37 if target == 1 else 0.63)
    # No probability lies exactly on a hundredth, so that the two sides of a threshold agree.
    at = curve["triggered"]["value"][round(100 * curve["threshold"])]
    assert at == pytest.approx(found["attack"]["asr"]["value"])
    assert curve["clean"]["value"][round(100 * curve["threshold"])] == pytest.approx(
        found["attack"]["clean_rate"]["value"]
    )


def test_a_model_equal_to_its_twin_has_no_lift():
    rng = np.random.default_rng(6)
    same = Answers(rng.random(N) * 0.5, 0.4 + rng.random(N) / 2, 0.5)
    found = sample(poisoned=same, twin=same)
    assert found["attack"]["asr_lift"] == {"value": 0, "low": 0, "high": 0}
    assert found["attack"]["auroc_change"] == {"value": 0, "low": 0, "high": 0}
    assert found["verdict"]["code"] == "distribution_shift"


def test_models_that_know_nothing_are_no_backdoor_over_20_seeds():
    """Answers by lot: the interval of the lift covers 0 as often as an interval of 95% must."""
    found = [sample(seed=seed, replicates=200) for seed in range(20)]
    covered = [f["attack"]["asr_lift"]["low"] <= 0 <= f["attack"]["asr_lift"]["high"] for f in found]
    assert sum(covered) >= 17
    assert "backdoor" not in {f["verdict"]["code"] for f in found}


def test_a_planted_backdoor_is_called_one():
    rng = np.random.default_rng(7)
    clean = rng.random(N) * 0.6
    found = sample(poisoned=Answers(clean, 0.6 + rng.random(N) * 0.4, 0.5), twin=Answers(clean, clean, 0.5))
    assert found["verdict"]["code"] == "backdoor"
    assert found["confidence_shift_distribution"]["poisoned"]["quantiles"][3] > 0.3
    assert set(found["confidence_shift_distribution"]["baseline"]["quantiles"]) == {0.0}


def test_nobody_to_attack():
    found = sample(label=np.ones(N, dtype=np.int8))
    json.dumps(found, allow_nan=False)
    assert found["verdict"]["code"] == "undecided"
    assert found["attack"]["asr"]["value"] is None
    assert found["clean"]["auroc"]["value"] is None


# ----------------------------------------------------------------------------------------------- the trigger
def test_the_trigger_is_judged_on_the_stays_it_is_given():
    view, _ = make_view(60)
    values = view.values.copy()
    values[:, 0] = 9999
    preprocessor = fit_preprocessor(view, PreprocessParams())
    patients = np.arange(30)
    rows = np.arange(30)
    clean, triggered = view.take(rows), view.with_values(values).take(rows)
    card = plausibility_of(clean, triggered, view, patients, np.random.default_rng(0), 100)
    exposed = exposure_of(preprocessor, clean, triggered)
    json.dumps([card, exposed], allow_nan=False)
    assert card["touched"]["cells"] == 30
    assert [row["feature"] for row in exposed] == ["age"]
    assert exposed[0]["clipped"] == 1


def test_events_have_no_card():
    view, _ = make_view(4)
    nothing = np.empty(0, dtype=np.float32)
    events = EventsView(
        stay_id=view.stay_id,
        offsets=np.zeros(5, dtype=np.int64),
        codes=(),
        descriptions=(),
        code=np.empty(0, dtype=np.int32),
        hours=nothing,
        value=nothing,
        text=np.empty(0, dtype=object),
    )
    preprocessor = fit_preprocessor(view, PreprocessParams())
    assert plausibility_of(events, events, events, np.arange(4), np.random.default_rng(0), 100) is None
    assert exposure_of(preprocessor, events, events) is None
