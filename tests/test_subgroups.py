import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from backdoor_core.attack.subgroups import (
    SMALLEST,
    by_subgroup,
    clean_by_subgroup,
    groups_of,
    success_by_class,
    success_in,
)
from backdoor_core.attack.success import Answers
from backdoor_core.statistics import cluster_bootstrap_weights

N = 300
UNITS = ["A", "B", "C", "D", "E", "F", "G", "H"]


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(3)
    label = (rng.random(N) < 0.3).astype(np.int8)
    answers = {side: Answers(rng.random(N), rng.random(N), 0.4) for side in ("poisoned", "baseline")}
    weights = cluster_bootstrap_weights(np.arange(N) // 2, 200, rng, strata=label)
    statics = {
        "sex": np.array(["F", "M", None], dtype=object)[rng.integers(0, 3, N)],
        "age": np.where(rng.random(N) < 0.1, np.nan, rng.uniform(18, 95, N)),
        "first_careunit": np.array(UNITS, dtype=object)[np.minimum(rng.geometric(0.3, N), 8) - 1],
        "race": np.array(["WHITE"] * N, dtype=object),
    }
    return label, answers, weights, statics


def in_groups(groups, label, answers, target, weights):
    clean = {side: clean_by_subgroup(groups, label, answer, weights) for side, answer in answers.items()}
    return by_subgroup(groups, label, answers, clean, target, weights)


def values(groups, by):
    return [group.value for group in groups if group.by == by]


def test_groups_part_the_stays(sample):
    groups = groups_of(sample[3])
    for by in ("sex", "age", "care unit"):
        rows = np.sum([group.rows for group in groups if group.by == by], axis=0)
        assert (rows == 1).all(), by
    assert values(groups, "sex") == ["F", "M", "unknown"]
    assert values(groups, "age") == ["18–44", "45–64", "65–79", "80+", "unknown"]
    assert "race" not in {group.by for group in groups}


def test_age_bands_at_their_edges():
    groups = groups_of({"age": np.array([17, 18, 44.9, 45, 64, 65, 79, 80, 91])})
    found = {group.value: np.flatnonzero(group.rows).tolist() for group in groups}
    assert found == {"under 18": [0], "18–44": [1, 2], "45–64": [3, 4], "65–79": [5, 6], "80+": [7, 8]}


def test_the_six_largest_care_units_keep_their_names(sample):
    column = sample[3]["first_careunit"]
    names, counts = np.unique(column.astype(str), return_counts=True)
    largest = names[np.lexsort((names, -counts))][:6].tolist()
    groups = groups_of({"first_careunit": column})
    assert values(groups, "care unit") == [*largest, "other"]
    assert groups[-1].rows.sum() == np.sort(counts)[:-6].sum()


def test_columns_that_are_missing_or_unknown_give_no_group():
    assert groups_of({}) == []
    assert groups_of({"sex": np.array([None, None], dtype=object), "age": np.array([np.nan, np.nan])}) == []


@pytest.mark.parametrize("target", [0, 1])
def test_figures_of_a_group_by_hand(sample, target):
    label, answers, weights, statics = sample
    groups = groups_of({"sex": statics["sex"]})
    found = in_groups(groups, label, answers, target, weights)[0]
    women = statics["sex"] == "F"
    rows = women & (label != target)
    hits = {side: ((a.triggered[rows] >= 0.4) == bool(target)).astype(float) for side, a in answers.items()}
    attack, clean = found["attack"], found["clean"]
    assert attack["stays"] == rows.sum()
    assert attack["asr"]["value"] == pytest.approx(hits["poisoned"].mean())
    assert attack["asr_baseline"]["value"] == pytest.approx(hits["baseline"].mean())
    resampled = [np.average(hits["poisoned"] - hits["baseline"], weights=w) for w in weights[:, rows]]
    lift = attack["asr_lift"]
    assert (lift["low"], lift["high"]) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))
    assert (clean["stays"], clean["positives"]) == (women.sum(), label[women].sum())
    for side, answer in answers.items():
        truth, probability = label[women], answer.clean[women]
        assert clean[side]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, probability))
        assert clean[side]["auprc"]["value"] == pytest.approx(average_precision_score(truth, probability))
        assert clean[side]["brier"]["value"] == pytest.approx(brier_score_loss(truth, probability))
        assert set(clean[side]) == {"auroc", "auprc", "ece", "brier"}


def test_both_classes_are_told_and_the_attacked_one_is_the_attack(sample):
    label, answers, weights, _ = sample
    found = success_by_class(label, answers, 1, weights)
    assert [row["label"] for row in found] == [0, 1]
    assert found[0]["asr"]["value"] == pytest.approx((answers["poisoned"].triggered[label == 0] >= 0.4).mean())
    assert found[1]["asr"]["value"] == pytest.approx((answers["poisoned"].triggered[label == 1] >= 0.4).mean())


def test_a_small_group_has_no_figure(sample):
    label, answers, weights, _ = sample
    rows = np.flatnonzero(label == 0)
    few, enough = np.zeros(N, dtype=bool), np.zeros(N, dtype=bool)
    few[rows[: SMALLEST - 1]] = True
    enough[rows[:SMALLEST]] = True
    found = success_in(few, answers, 1, weights)
    assert found["asr"] == {"value": None, "low": None, "high": None}
    assert (found["stays"], found["note"]) == (19, "fewer than 20 stays")
    assert success_in(enough, answers, 1, weights)["asr"]["value"] is not None
    groups = groups_of({"sex": np.where(few, "F", "M").astype(object)})
    small, large = in_groups(groups, label, answers, 1, weights)
    assert small["clean"]["poisoned"]["brier"]["value"] is None
    assert small["clean"]["note"] == "fewer than 20 stays"
    assert large["clean"]["note"] is None


def test_a_group_of_one_outcome_says_so(sample):
    label, answers, weights, _ = sample
    groups = groups_of({"sex": np.where(label == 0, "F", "M").astype(object)})
    women = in_groups(groups, label, answers, 1, weights)[0]["clean"]
    assert women["note"] == "one outcome only"
    assert women["poisoned"]["auroc"]["value"] is None
    assert women["poisoned"]["brier"]["value"] is not None
