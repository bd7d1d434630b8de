import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from sweep_cells import failed, row

from backdoor_core.sweep.comparisons import holm, paired_tests
from backdoor_core.sweep.rows import groups_of

p_values = st.lists(st.floats(0, 1), max_size=12)


def stepwise(p):
    """Holm's procedure as it rejects: the adjusted p is the least level at which a hypothesis falls."""
    adjusted = []
    for mine in range(len(p)):
        levels = []
        for k, at in enumerate(sorted(p)):
            levels.append(min(1.0, (len(p) - k) * at))
            if at == p[mine]:
                break
        adjusted.append(max(levels))
    return adjusted


@given(p_values)
def test_holm_is_the_level_at_which_each_falls(p):
    assert holm(p) == pytest.approx(stepwise(p))


@given(p_values, st.randoms())
def test_holm_raises_keeps_order_and_follows_a_shuffle(p, random):
    adjusted = holm(p)
    assert all(before <= after <= min(1, len(p) * before + 1e-15) for before, after in zip(p, adjusted, strict=True))
    by_p = [after for _, after in sorted(zip(p, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[k] for k in order]) == [adjusted[k] for k in order]


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    for wrong in ([0.2, math.nan], [-0.1], [1.1]):
        with pytest.raises(ValueError, match="not from 0 to 1"):
            holm(wrong)


def detector(name, poisoned, null, oracle=0):
    return {
        f"detect.{name}.oracle": oracle,
        f"detect.{name}.tpr_at_1_fpr": poisoned,
        f"detect.{name}.null.tpr_at_1_fpr": null,
    }


def sweep(seeds=5, rates=(0.0, 0.01, 0.1)):
    """Two models with three detectors, one of them an oracle; the second model's third seed failed."""
    rng = np.random.default_rng(3)
    rows = []
    for model in ("mlp", "gru"):
        for rate in rates:
            for seed in range(seeds):
                asr, twin, *tpr = rng.random(8).tolist()
                figures = {"asr": asr, "asr_baseline": twin, "asr_lift": asr - twin}
                figures |= detector("knn", tpr[0] if rate else None, tpr[1]) | detector("perfect_filter", 1, 0, 1)
                figures |= detector("random_filter", tpr[3], tpr[4])
                lost = (model, seed) == ("gru", 2)
                where = {"model": model, "rate": rate, "seed": seed}
                rows.append(failed(**where) if lost else row(figures, **where))
    return rows


def figures_of(rows, model, rate, name):
    return {r.seed: r.figures[name] for r in rows if r.done and (r.model, r.rate) == (model, rate)}


def test_every_test_is_scipys_on_the_seeds_that_both_have():
    rows = sweep()
    tests = paired_tests(groups_of(rows))
    pairs = {
        "the clean twin": lambda model: (model, "asr_baseline"),
        "its null run": lambda model: (model, None),
        "random_filter": lambda model: (model, "detect.random_filter.tpr_at_1_fpr"),
        "model gru": lambda _: ("gru", "asr_lift"),
    }
    for test in tests:
        other, control = pairs[test["against"]](test["model"])
        control = control or test["metric"].replace(".tpr", ".null.tpr")
        ours = figures_of(rows, test["model"], test["rate"], test["metric"])
        theirs = figures_of(rows, other, test["rate"], control)
        shared = sorted(set(ours) & set(theirs))
        a, b = (np.array([side[seed] for seed in shared]) for side in (ours, theirs))
        wanted = stats.ttest_rel(a, b)
        interval = wanted.confidence_interval(0.95)
        assert test["n"] == len(shared) == (5 if {test["model"], other} == {"mlp"} else 4)
        assert test["difference"] == pytest.approx((a - b).mean())
        assert (test["t_low"], test["t_high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
        assert test["p"] == pytest.approx(wanted.pvalue)
        assert test["effect_size"] == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
        assert test["effect_size"] == pytest.approx(wanted.statistic / math.sqrt(len(shared)))
        assert test["note"] is None


def test_the_families_hold_what_they_say_and_are_corrected_apart():
    tests = paired_tests(groups_of(sweep()))
    by_family = {}
    for test in tests:
        by_family.setdefault(test["family"], []).append(test)
        assert list(test) == [
            *("family", "model", "trigger", "rate", "parameters", "metric", "against", "n", "difference"),
            *("t_low", "t_high", "effect_size", "p", "p_holm", "note"),
        ]
    assert {family: len(among) for family, among in by_family.items()} == {
        "attack": 4,
        "detection": 8,
        "detectors": 4,
        "models": 2,
    }
    assert list(by_family) == ["attack", "detection", "detectors", "models"]
    assert all(test["rate"] > 0 and "perfect_filter" not in test["metric"] for test in tests)
    assert [t["metric"] for t in by_family["detectors"]] == ["detect.knn.tpr_at_1_fpr"] * 4
    for among in by_family.values():
        assert [t["p_holm"] for t in among] == pytest.approx(stepwise([t["p"] for t in among]))


def test_one_seed_has_no_p_value():
    tests = paired_tests(groups_of(sweep(seeds=1)))
    assert tests
    for test in tests:
        assert (test["n"], test["note"]) == (1, "one seed: no p-value")
        assert test["difference"] is not None
        assert [test[key] for key in ("t_low", "t_high", "effect_size", "p", "p_holm")] == [None] * 5


def attacks(*by_rate):
    """A row per rate and seed, from (asr, twin's) pairs."""
    return [
        row({"asr": asr, "asr_baseline": twin, "asr_lift": None}, rate=0.01 * (k + 1), seed=seed)
        for k, pairs in enumerate(by_rate)
        for seed, (asr, twin) in enumerate(pairs)
    ]


def test_differences_without_spread_have_no_p_value_but_count_as_tests():
    # 0.6 - 0.1 and 0.7 - 0.2 differ in their last bit, which is no spread.
    equal, none = [(0.6, 0.1), (0.7, 0.2), (1.0, 0.5)], [(0.3, 0.3), (0.4, 0.4), (0.1, 0.1)]
    usual, one, missing = [(0.9, 0.1), (0.8, 0.2), (0.6, 0.1)], [(0.9, 0.1)], [(None, 0.1), (0.2, None)]
    tests = paired_tests(groups_of(attacks(equal, none, usual, one, missing)))
    assert [t["note"] for t in tests] == [
        *("the seeds do not differ", "no difference in any seed", None),
        *("one seed: no p-value", "no seed has both figures"),
    ]
    assert [t["n"] for t in tests] == [3, 3, 3, 1, 0]
    assert [t["p"] is None for t in tests] == [True, True, False, True, True]
    assert [t["effect_size"] is None for t in tests] == [True, True, False, True, True]
    assert [t["difference"] for t in tests[:2]] == [pytest.approx(0.5), 0.0]
    assert tests[0]["t_low"] == pytest.approx(0.5)
    # Three tests were made: of two seeds or more each.
    assert tests[2]["p_holm"] == pytest.approx(3 * tests[2]["p"])
    assert [t["p_holm"] is None for t in tests] == [True, True, False, True, True]


def test_models_are_compared_within_the_same_trigger_rate_and_parameters():
    rows = [
        row({"asr": 0.5, "asr_baseline": 0.1, "asr_lift": lift + 0.1 * seed * (1 + lift)}, seed=seed, **where)
        for seed in (1, 2)
        for lift, where in enumerate(
            [
                {"model": "mlp", "parameters": {"a": 1}},
                {"model": "gru", "parameters": {"a": 1}},
                {"model": "tcn", "parameters": {"a": 1}},
                {"model": "mlp", "parameters": {"a": 2}},
                {"model": "gru", "parameters": {"a": 1}, "trigger": "missing"},
                {"model": "mlp", "parameters": {"a": 1}, "rate": 0.3},
            ]
        )
    ]
    found = [t for t in paired_tests(groups_of(rows)) if t["family"] == "models"]
    assert [(t["model"], t["against"]) for t in found] == [
        ("mlp", "model gru"),
        ("mlp", "model tcn"),
        ("gru", "model tcn"),
    ]
    assert all(t["difference"] < 0 for t in found)


def test_a_model_that_include_adds_with_other_detectors_is_compared_once():
    names = {"detectors": ["range_rule"], "explain.rows": 9}
    places = [{"model": "mlp"}, {"model": "mlp", "parameters": {"detection.fdr": 0.1}}, {"model": "gbdt"}]
    places[2]["parameters"] = names
    rows = [
        row({"asr": 0.5, "asr_baseline": 0.1, "asr_lift": 0.3 * k + 0.1 * seed}, seed=seed, **where)
        for k, where in enumerate(places)
        for seed in (1, 2)
    ]
    found = [t for t in paired_tests(groups_of(rows)) if t["family"] == "models"]
    assert [(t["model"], t["against"], t["n"]) for t in found] == [("mlp", "model gbdt", 2)]


def test_a_group_that_failed_does_not_stand_for_one_with_the_same_lift():
    bad = [failed(seed=seed, parameters={"detectors": ["bad"]}) for seed in (1, 2)]
    rows = [
        row({"asr_lift": 0.3 * k + 0.1 * seed}, seed=seed, model=model, parameters={"detectors": ["range_rule"]})
        for k, model in enumerate(("mlp", "gbdt"))
        for seed in (1, 2)
    ]
    found = [t for t in paired_tests(groups_of([*bad, *rows])) if t["family"] == "models"]
    assert [(t["against"], t["n"]) for t in found] == [("model gbdt", 2)]


def test_where_the_trigger_is_none_there_is_nothing_to_test():
    rows = [row({"asr": 0.1 * seed, "asr_baseline": 0.1}, seed=seed, trigger="none") for seed in (1, 2, 3)]
    assert paired_tests(groups_of(rows)) == []


def test_detectors_need_random_filter_among_them():
    rows = [row({"asr": 0.5, "asr_baseline": 0.1} | detector("knn", 0.5, 0.1 * seed), seed=seed) for seed in (1, 2, 3)]
    assert {t["family"] for t in paired_tests(groups_of(rows))} == {"attack", "detection"}
