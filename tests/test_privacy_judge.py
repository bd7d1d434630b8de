import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom, norm
from sklearn import metrics

from backdoor_core.privacy.judge import (
    LEVELS,
    Run,
    by_luck,
    clopper_pearson,
    judge,
    operating_points,
    over_runs,
    pooled_scores,
    resamples,
    thinned_roc,
)


def judged(runs, replicates=200, seed=0, **options):
    return judge(runs, resamples(runs, replicates, np.random.default_rng(seed)), **options)


def planted(rng, n=1000, distance=1.0, groups=None, scale=1.0, offset=0.0):
    member = np.arange(n) % 2 == 0
    scores = offset + scale * (rng.normal(size=n) + distance * member)
    return Run(scores, member, np.arange(n) if groups is None else groups)


def test_planted_gaussians_give_their_known_auc_and_tpr():
    found = judged([planted(np.random.default_rng(0), 4000)])
    auc = found["auc"]
    assert auc["low"] < norm.cdf(1 / math.sqrt(2)) < auc["high"]
    assert auc["high"] - auc["low"] < 0.04
    for point in found["tpr"][:2]:
        expected = norm.sf(norm.isf(point["fpr"]) - 1)
        assert point["low"] < expected < point["high"]
    assert (found["records"], found["members"], found["nonmembers"], found["patients"]) == (4000, 2000, 2000, 4000)


def test_permuted_membership_is_at_chance():
    rng = np.random.default_rng(1)
    run = planted(rng, 2000, 3.0)
    auc = judged([Run(run.scores, rng.permutation(run.member), run.groups)])["auc"]
    assert auc["low"] <= 0.5 <= auc["high"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60), st.sampled_from(LEVELS))
def test_no_true_positive_rate_is_told_at_a_false_positive_rate_above_the_stated_one(rows, level):
    scores = np.array([float(score) for score, _ in rows])
    member = np.array([flag for _, flag in rows])
    member[:2] = [True, False]
    point = next(p for p in judged([Run(scores, member, np.arange(len(rows)))], 5)["tpr"] if p["fpr"] == level)
    others = int((~member).sum())
    if others * level < 1:
        assert point["value"] is None
        assert point["low"] is None
        assert point["clopper_pearson"] is None
        assert f"{others} non-members resolve no false positive rate below" in point["why"]
        return
    rates, found, _ = metrics.roc_curve(member, scores, drop_intermediate=False)
    assert point["value"] == pytest.approx(found[rates <= level].max())
    assert point["reached_fpr"] <= level
    assert point["found"] == round(point["value"] * member.sum())


def test_the_smallest_resolvable_rate_is_told_and_nothing_below_it():
    rng = np.random.default_rng(2)
    member = np.arange(1000) < 700
    found = judged([Run(rng.normal(size=1000), member, np.arange(1000))], 20)
    assert found["smallest_fpr"] == pytest.approx(1 / 300)
    assert [point["value"] is None for point in found["tpr"]] == [False, False, True]
    assert found["tpr"][2]["why"] == "300 non-members resolve no false positive rate below 0.0033"
    assert found["roc"][0]["fpr"] == pytest.approx(1 / 300)
    exact = judged([Run(rng.normal(size=2000), np.arange(2000) < 1000, np.arange(2000))], 20)
    assert exact["tpr"][2]["value"] is not None  # 1 of 1000 is 0.1%, and not below


def test_a_rate_that_is_reached_exactly_counts():
    # Of 300 non-members 3 are the stated 1%; two of ten members are above the fourth.
    scores = np.concatenate([[1000.0, 297.5], np.zeros(8), np.arange(1.0, 301)])
    member = np.arange(310) < 10
    point = judged([Run(scores, member, np.arange(310))], 20)["tpr"][1]
    assert (point["value"], point["found"], point["reached_fpr"]) == (0.2, 2, 0.01)


def test_a_threshold_does_not_split_equal_scores():
    # The three highest non-members share their score with all members: flagging them is 3 of 100, more than 1%.
    scores = np.concatenate([np.ones(50), np.ones(3), np.zeros(97)])
    member = np.arange(150) < 50
    found = judged([Run(scores, member, np.arange(150))], 20)
    assert [point["value"] for point in found["tpr"][:2]] == [1.0, 0.0]
    assert found["tpr"][1]["reached_fpr"] == 0
    assert found["auc"]["value"] == pytest.approx((97 + 1.5) / 100)
    same = judged([Run(np.zeros(150), member, np.arange(150))], 20)
    assert same["auc"]["value"] == 0.5
    assert [point["value"] for point in same["tpr"][:2]] == [0.0, 0.0]


@pytest.mark.parametrize("member", [np.ones(20, bool), np.zeros(20, bool)])
def test_one_membership_alone_has_no_figures(member):
    found = judged([Run(np.arange(20.0), member, np.arange(20))], 20)
    assert found["auc"] == {"value": None, "low": None, "high": None}
    assert found["auc_by_run"] == [None]
    assert found["roc"] == []
    assert all(point["value"] is None and "there are no" in point["why"] for point in found["tpr"])
    assert found["smallest_fpr"] == (None if member.all() else 1 / 20)


# ---------------------------------------------------------------------------------------------------- intervals
def test_patients_are_drawn_whole_and_widen_the_interval():
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(100), 20)
    effect = rng.normal(size=100)[patient]
    member = patient % 2 == 0
    scores = effect + 0.1 * rng.normal(size=2000) + 0.5 * member
    weights = resamples([Run(scores, member, patient)], 50, rng)
    assert (weights.reshape(50, 100, 20) == weights.reshape(50, 100, 20)[:, :, :1]).all()
    assert (weights[:, member].sum(axis=1) == 1000).all()  # within members and within non-members
    clustered = judged([Run(scores, member, patient)])["auc"]
    independent = judged([Run(scores, member, np.arange(2000))])["auc"]
    assert clustered["high"] - clustered["low"] > 2 * (independent["high"] - independent["low"])


def test_the_interval_of_the_auc_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(4), 0
    for k in range(150):
        auc = judged([planted(rng, 200)], 200, seed=k)["auc"]
        covered += auc["low"] <= norm.cdf(1 / math.sqrt(2)) <= auc["high"]
    assert 0.88 < covered / 150 < 0.995


@pytest.mark.parametrize(("found", "of"), [(0, 10), (10, 10), (3, 10), (1, 700)])
def test_clopper_pearson_ends_where_the_tails_are_a_fortieth(found, of):
    low, high = clopper_pearson(found, of)
    if found:
        assert binom.sf(found - 1, of, low) == pytest.approx(0.025)
    else:
        assert low == 0
    if found < of:
        assert binom.cdf(found, of, high) == pytest.approx(0.025)
    else:
        assert high == 1
    with pytest.raises(ValueError, match="no proportion"):
        clopper_pearson(of + 1, of)


def test_over_runs_is_students_interval():
    estimate = over_runs([0.6, 0.7, 0.8])
    assert estimate.value == pytest.approx(0.7)
    assert estimate.high - estimate.value == pytest.approx(4.302653 * 0.1 / math.sqrt(3))
    assert over_runs([0.6]).as_dict() == {"value": 0.6, "low": None, "high": None}
    assert over_runs([]).value is None


# -------------------------------------------------------------------------------------------------------- pooling
def test_pooled_scores_do_not_depend_on_the_scale_of_a_run():
    rng = np.random.default_rng(5)
    plain = planted(rng, 400)
    moved = Run(1000 + 50 * plain.scores, plain.member, plain.groups)
    one, two = judged([plain], 20), judged([plain, moved], 20)
    assert two["auc"]["value"] == pytest.approx(one["auc"]["value"])
    assert [p["value"] for p in two["tpr"][:2]] == pytest.approx([p["value"] for p in one["tpr"][:2]])
    raw = metrics.roc_auc_score(np.tile(plain.member, 2), np.concatenate([plain.scores, moved.scores]))
    assert raw < one["auc"]["value"] - 0.05
    assert pooled_scores([Run(np.array([3.0, 1.0, 1.0, 2.0]), np.ones(4, bool), np.arange(4))]).tolist() == [
        1.0,
        0.375,
        0.375,
        0.75,
    ]


def test_several_seeds_resolve_smaller_rates_and_are_told_apart():
    rng = np.random.default_rng(6)
    runs = [planted(rng, 600, distance) for distance in (0.5, 1.0, 1.5)]
    found = judged(runs, 50)
    assert found["runs"] == 3
    assert found["smallest_fpr"] == pytest.approx(1 / 900)
    assert found["patients"] == 600
    alone = [metrics.roc_auc_score(run.member, run.scores) for run in runs]
    assert found["auc_by_run"] == pytest.approx(alone)
    assert found["auc"]["value"] == pytest.approx(np.mean(alone))
    assert found["auc_over_runs"]["value"] == pytest.approx(np.mean(alone))
    assert found["auc_over_runs"]["low"] < found["auc"]["low"]


def test_a_patient_of_two_runs_is_drawn_in_both():
    rng = np.random.default_rng(7)
    first, second = planted(rng, 50), planted(rng, 50)
    weights = resamples([first, second], 30, rng)
    assert (weights[:, :50] == weights[:, 50:]).all()


def test_the_lead_over_the_blind_control_is_paired():
    rng = np.random.default_rng(8)
    attack = planted(rng, 1000, 1.5)
    blind = Run(attack.scores + 0.01 * rng.normal(size=1000), attack.member, attack.groups)
    over = judged([attack], blind=[blind])["over_blind"]
    alone = judged([attack])["auc"]
    assert over["value"] == pytest.approx(0, abs=0.003)
    assert over["high"] - over["low"] < (alone["high"] - alone["low"]) / 3
    with pytest.raises(ValueError, match="other runs"):
        judged([attack], 5, blind=[Run(blind.scores, ~blind.member, blind.groups)])


# ------------------------------------------------------------------------------------------------------------ roc
def test_the_roc_is_thin_monotone_and_never_above_the_stated_rate():
    run = planted(np.random.default_rng(9), 20_000)
    points = thinned_roc(run.scores, run.member)
    rates, found, _ = metrics.roc_curve(run.member, run.scores, drop_intermediate=False)
    assert 60 < len(points) <= 100
    assert points[0]["fpr"] == 1 / 10_000
    assert points[-1] == {"fpr": 1.0, "tpr": 1.0}
    for point in points:
        assert point["tpr"] == pytest.approx(found[rates <= point["fpr"]].max())
    wrong, right = operating_points(run.scores, run.member)
    assert (wrong[0], right[0], wrong[-1], right[-1]) == (0, 0, 10_000, 10_000)


def test_nan_scores_and_rows_that_do_not_fit_are_refused():
    member = np.array([True, False])
    with pytest.raises(ValueError, match="NaN"):
        Run(np.array([0.0, math.nan]), member, np.arange(2))
    with pytest.raises(ValueError, match="shape"):
        Run(np.zeros(3), member, np.arange(2))
    with pytest.raises(ValueError, match="groups have shape"):
        Run(np.zeros(2), member, np.arange(3))


@pytest.mark.parametrize(("members", "others", "wrong"), [(6, 5, 0), (5, 6, 2), (3, 4, 3), (2, 3, 3)])
def test_luck_is_counted_over_all_orders_of_members_and_others(members, others, wrong):
    orders = list(itertools.combinations(range(members + others), members))
    found = []
    for places in orders:
        flagged = np.flatnonzero(~np.isin(np.arange(members + others), places))
        end = flagged[wrong] if wrong < others else members + others
        found.append(sum(place < end for place in places))
    for count in range(members + 1):
        share = np.mean(np.array(found) >= count)
        assert by_luck(count, members, others, wrong) == pytest.approx(share)
