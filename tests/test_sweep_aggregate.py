import csv
import io
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from sweep_cells import failed, row

from backdoor_core.sweep.aggregate import SUMMARY, aggregate, aggregated_csv, summaries
from backdoor_core.sweep.intervals import RESAMPLES, bootstrap, means, resamples

figure = st.none() | st.floats(-1, 1).map(lambda value: round(value, 4))


def naive(values, expanded):
    """The summary of one figure, by loops; `expanded` gives every resample of n seeds."""
    known = [value for value in values if value is not None]
    n = len(known)
    answer = dict.fromkeys(SUMMARY) | {"n": n}
    if n:
        answer["mean"] = math.fsum(known) / n
    if n > 1:
        sd = math.sqrt(math.fsum((value - answer["mean"]) ** 2 for value in known) / (n - 1))
        half = stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)
        replicates = [sum(times * value for times, value in zip(drawn, known, strict=True)) / n for drawn in expanded]
        low, high = np.percentile(replicates, [2.5, 97.5])
        answer |= {"sd": sd, "t_low": answer["mean"] - half, "t_high": answer["mean"] + half}
        answer |= {"boot_low": low, "boot_high": high}
    return answer


def expanded(seeds):
    drawn, counts = resamples(seeds)
    return np.repeat(drawn, counts, axis=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(figure, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_every_figure_is_what_loops_give(columns):
    names = [f"f{k}" for k in range(len(columns))]
    rows = [
        row(dict(zip(names, figures, strict=True)), seed=seed)
        for seed, figures in enumerate(zip(*columns, strict=True))
    ]
    found = summaries(rows)
    assert list(found) == names
    for name, values in zip(names, columns, strict=True):
        known = sum(value is not None for value in values)
        wanted = naive(values, expanded(known) if known > 1 else [])
        assert list(found[name]) == list(SUMMARY)
        for key, value in wanted.items():
            got = found[name][key]
            assert got == (None if value is None else pytest.approx(value, abs=1e-12)), (name, key)


def test_means_agree_with_scipy_and_equal_values_have_no_spread():
    values = np.random.default_rng(0).normal(size=(7, 4))
    mean, sd, half = means(values)
    low, high = stats.t.interval(0.95, 6, values.mean(axis=0), stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    np.testing.assert_allclose(sd, values.std(axis=0, ddof=1))
    alike = means(np.full((3, 1), 0.1))  # whose plain sum is not 0.3
    assert (alike.mean[0], alike.sd[0], alike.half[0]) == (0.1, 0.0, 0.0)
    assert bootstrap(np.full((3, 1), 0.1)) == (0.1, 0.1)
    with pytest.raises(ValueError, match="1 seeds"):
        means(np.zeros((1, 2)))


@pytest.mark.parametrize("seeds", [2, 3, 5, 6, 7, 12])
def test_bootstrap_is_the_percentile_of_all_resamples(seeds):
    """On both sides of where resamples begin to be counted one by one."""
    values = np.random.default_rng(seeds).normal(size=(seeds, 3))
    values[:, 1] = np.round(values[:, 1])
    replicates = expanded(seeds) @ values / seeds
    assert replicates.shape == (RESAMPLES, 3)
    np.testing.assert_allclose(bootstrap(values), np.percentile(replicates, [2.5, 97.5], axis=0), atol=1e-12)


def test_resamples_are_fair_and_fixed():
    drawn, counts = resamples(4)
    assert counts.sum() == RESAMPLES
    assert (drawn.sum(axis=1) == 4).all()
    assert len(np.unique(drawn, axis=0)) == len(drawn) == math.comb(7, 4)
    share = counts @ drawn / (4 * RESAMPLES)
    np.testing.assert_allclose(share, 0.25, atol=4 * math.sqrt(0.25 * 0.75 / (4 * RESAMPLES)))
    resamples.cache_clear()
    again, recounted = resamples(4)
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_array_equal(counts, recounted)


def test_bootstrap_of_three_seeds_spans_them_and_of_many_agrees_with_scipy():
    # All three alike come once in 27 resamples, more often than 2.5%.
    low, high = bootstrap(np.array([[0.3], [0.9], [0.5]]))
    assert (low[0], high[0]) == (pytest.approx(0.3), pytest.approx(0.9))
    values = np.random.default_rng(5).normal(size=15)
    low, high = bootstrap(values[:, np.newaxis])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    assert (low[0], high[0]) == (pytest.approx(theirs.low, abs=0.06), pytest.approx(theirs.high, abs=0.06))


def small_sweep():
    curve = np.linspace(0, 1, 101)
    rows = []
    for rate in (0.0, 0.01, 0.1):
        for seed in (1, 2, 3):
            if (rate, seed) == (0.1, 3):
                rows.append(failed("diverged", rate=rate, seed=seed))
                continue
            lift = None if rate == 0 else 5 * rate + 0.01 * seed**2
            figures = {"asr": 0.1 + 5 * rate + 0.02 * seed, "asr.low": 0.0, "asr.high": 1.0, "asr_baseline": 0.1}
            figures |= {"asr_lift": lift, "trigger_effect_lift": lift}
            figures |= {"detect.knn.oracle": 0, "detect.knn.tpr_at_1_fpr": 5 * rate}
            figures |= {"detect.knn.null.tpr_at_1_fpr": 0.01 * seed}
            roc = {"knn": {"poisoned": (curve**seed).tolist(), "null": [] if seed == 2 else curve.tolist()}}
            rows.append(row(figures, rate=rate, seed=seed, roc=roc, null_lift=[0.01 * seed, -0.01]))
    return rows


def test_the_whole_is_as_the_contract_has_it():
    rows = small_sweep()
    axes = {"models": ["mlp"], "triggers": ["rare_value"], "rates": [0.0, 0.01, 0.1], "seeds": [1, 2, 3]}
    found = aggregate("rates", {"splits": {"test": 0.2}}, axes, rows)
    assert list(found) == ["name", "study", "axes", "cells", "groups", "tests", "doses"]
    assert found["cells"] == {
        "done": 8,
        "failed": 1,
        "errors": [{"cell": "mlp/rare_value/0.1/seed_3", "error": "diverged"}],
    }
    assert [group["seeds"] for group in found["groups"]] == [[1, 2, 3], [1, 2, 3], [1, 2]]
    first, _, last = found["groups"]
    assert set(first) == {"model", "trigger", "rate", "parameters", "seeds", "metrics", "null_lift", "null_asr", "roc"}
    assert "asr.low" not in first["metrics"]
    assert first["metrics"]["asr_lift"] == dict.fromkeys(SUMMARY) | {"n": 0}
    assert last["metrics"]["asr"]["mean"] == pytest.approx(0.1 + 0.5 + 0.03)
    values = [0.01, -0.01, 0.02, -0.01, 0.03, -0.01]
    low, high = np.percentile(values, [2.5, 97.5])
    assert first["null_lift"] == {"values": values, "low": pytest.approx(low), "high": pytest.approx(high)}
    low, high = np.percentile([0.1 + value for value in values], [2.5, 97.5])
    assert first["null_asr"] == {"low": pytest.approx(low), "high": pytest.approx(high)}
    curve = np.linspace(0, 1, 101)
    np.testing.assert_allclose(first["roc"]["knn"]["poisoned"], (curve + curve**2 + curve**3) / 3)
    np.testing.assert_allclose(first["roc"]["knn"]["null"], curve)
    assert {test["family"] for test in found["tests"]} == {"attack", "detection"}
    assert [dose["effective"]["per_seed"].keys() for dose in found["doses"]] == [{"1", "2", "3"}]
    text = json.dumps(found, allow_nan=False)
    assert text == json.dumps(aggregate("rates", {"splits": {"test": 0.2}}, axes, rows), allow_nan=False)


def test_a_group_does_not_depend_on_the_others():
    rows = small_sweep()
    alone = aggregate("x", {}, {}, [r for r in rows if r.rate == 0.01])["groups"]
    assert alone == [group for group in aggregate("x", {}, {}, rows)["groups"] if group["rate"] == 0.01]


def test_the_null_of_the_asr_has_the_spread_of_the_twins_too():
    twins = {1: 0.1, 2: 0.4, 3: 0.7}
    rows = [
        row({"asr": 0.72, "asr_baseline": twin}, seed=seed, null_lift=[-0.02, 0.02]) for seed, twin in twins.items()
    ]
    (group,) = aggregate("x", {}, {}, rows)["groups"]
    retrains = [twin + lift for twin in twins.values() for lift in (-0.02, 0.02)]
    low, high = np.percentile(retrains, [2.5, 97.5])
    assert (group["null_asr"]["low"], group["null_asr"]["high"]) == (pytest.approx(low), pytest.approx(high))
    assert group["null_asr"]["high"] > 0.7


def test_nothing_finished_is_no_figure():
    found = aggregate("x", {}, {}, [failed("bad", seed=1), failed("bad", seed=2)])
    (group,) = found["groups"]
    assert (group["seeds"], group["metrics"], group["roc"]) == ([], {}, {})
    assert group["null_lift"] == {"values": [], "low": None, "high": None}
    assert group["null_asr"] == {"low": None, "high": None}
    assert found["doses"][0]["effective"]["note"] == "no seed finished"
    assert aggregated_csv(found).count("\n") == 1
    assert aggregate("x", {}, {}, [])["groups"] == []


def test_aggregated_csv_is_long_and_exact():
    found = aggregate("x", {}, {}, [row({"asr": 0.1 * seed}, seed=seed, parameters={"a.b": 3}) for seed in (1, 2)])
    text = aggregated_csv(found)
    assert text.startswith("model,trigger,rate,a.b,metric,n,mean,sd,t_low,t_high,boot_low,boot_high\n")
    (line,) = csv.DictReader(io.StringIO(text))
    assert (line["a.b"], line["metric"], line["n"]) == ("3", "asr", "2")
    summary = found["groups"][0]["metrics"]["asr"]
    assert {key: float(line[key]) for key in SUMMARY[1:]} == {key: summary[key] for key in SUMMARY[1:]}
    one = aggregated_csv(aggregate("x", {}, {}, [row({"asr": 0.25})]))
    assert one.splitlines()[1] == "mlp,rare_value,0.02,asr,1,0.25,,,,,"


def test_a_thousand_cells_take_seconds():
    """10,000 cells of 200 figures must stay far below 20 s."""
    values = np.random.default_rng(0).random((999, 200)).tolist()
    names = [f"figure{k}" for k in range(200)]
    rows = [
        row(dict(zip(names, figures, strict=True)), rate=0.001 * (1 + k // 3), seed=k % 3)
        for k, figures in enumerate(values)
    ]
    start = time.process_time()
    aggregate("x", {}, {}, rows)
    assert time.process_time() - start < 4
