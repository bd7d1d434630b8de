"""A sweep that nobody ran: cells, aggregated figures and timings of any size, in the formats of a real one."""

import itertools
import math
from typing import Any

import numpy as np
from scipy import stats

from backdoor_core.params import Params
from backdoor_core.sweep.grid import cell_name

FPR = np.linspace(0, 1, 101) ** 2
STAGES = ("poison", "train", "evaluate", "detect")
DETECTORS = ("spectral_signatures", "range_rule", "random_filter", "perfect_filter")
PROVENANCE = {
    "versions": {"backdoor_core": "0.1.0"},
    "git": {"revision": "f" * 40, "dirty": False},
    "params": {"seed": 1},
}


def make_sweep(
    models=("logistic", "mlp"),
    triggers=("rare_value", "missingness"),
    rates=(0.0, 0.001, 0.005, 0.02, 0.1),
    seeds=(42, 43, 44),
    parameters=None,
    detectors=DETECTORS,
    explainers=("saliency",),
    failed=(),
    nulls=3,
    name="example",
) -> dict[str, Any]:
    """Keyword arguments of `build_sweep_page`. `failed` are numbers of cells in grid order."""
    parameters = parameters or {}
    sets = [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]
    rng = np.random.default_rng(7)
    grid = itertools.product(models, triggers, rates, sets, seeds)
    keys = ("model", "trigger", "rate", "parameters", "seed")
    rows = [dict(zip(keys, values, strict=True)) for values in grid]
    strength = {trigger: 1 / (1 + k) for k, trigger in enumerate(triggers)}
    for place, row in enumerate(rows):
        done = {
            "status": "done",
            "error": None,
            **_cell(row, strength[row["trigger"]], detectors, explainers, nulls, rng),
        }
        lost = {
            "status": "failed",
            "error": "train: loss is not finite </script><b>",
            "figures": {},
            "roc": {},
            "null_lift": [],
        }
        row.update(lost if place in failed else done)
    groups = [_group(list(cells)) for cells in zip(*(rows[k :: len(seeds)] for k in range(len(seeds))), strict=True)]
    errors = [
        {"cell": cell_name(*(row[key] for key in keys)), "error": row["error"]}
        for row in rows
        if row["status"] == "failed"
    ]
    study = Params(cohort="synthetic", trigger=triggers[0], model=models[0], detectors=detectors)
    aggregated = {
        "name": name,
        "study": study.model_dump(mode="json"),
        "axes": {
            "models": list(models),
            "triggers": list(triggers),
            "rates": list(rates),
            "seeds": list(seeds),
            "parameters": parameters,
        },
        "cells": {"done": len(rows) - len(errors), "failed": len(errors), "errors": errors},
        "groups": groups,
        "tests": [test for group in groups for test in _tests(group, detectors)],
        "doses": [
            _doses(model, trigger, chosen, seeds, detectors)
            for model in models
            for trigger in triggers
            for chosen in sets
        ],
    }
    timings = [
        {
            **{key: row[key] for key in keys},
            "stage": stage,
            "seconds": float(rng.gamma(2.0, 3.0 + 20 * (stage == "train"))),
        }
        for row in rows
        for stage in STAGES
    ]
    return {"aggregated": aggregated, "rows": rows, "timings": timings, "provenance": PROVENANCE}


def _cell(row, strength, detectors, explainers, nulls, rng) -> dict[str, Any]:
    rate = row["rate"]
    reached = strength * rate / (rate + 0.004)
    twin = 0.12 + 0.02 * rng.random()
    lift = reached * 0.85 + 0.02 * rng.normal()
    figures: dict[str, Any] = {"poisoned_stays": round(7000 * rate), "test_stays": 1492}

    def tell(name, value, half=0.03):
        limits = (None, None) if value is None else (value - half, value + half)
        figures.update({name: value, f"{name}.low": limits[0], f"{name}.high": limits[1]})

    tell("asr", min(1.0, twin + lift))
    tell("asr_baseline", twin)
    tell("asr_lift", min(1.0, twin + lift) - twin)
    tell("trigger_effect_lift", min(1.0, twin + lift) - twin)
    for name, value in {"auroc": 0.83, "auprc": 0.51, "ece": 0.02}.items():
        tell(f"{name}.baseline", value + 0.004 * rng.normal())
        tell(name, value - 0.02 * rate + 0.004 * rng.normal())
    tell("auroc_change", figures["auroc"] - figures["auroc.baseline"])
    tell("told_apart", 0.55 + 0.4 * strength + 0.01 * rng.normal())
    for name in explainers:
        tell(f"tar.{name}", 0.1 + 0.6 * reached)
        tell(f"tar.{name}.baseline", 0.1 + 0.01 * rng.random())
        tell(f"tar.{name}.lift", figures[f"tar.{name}"] - figures[f"tar.{name}.baseline"])
    roc = {}
    for place, name in enumerate(detectors):
        oracle, luck = name == "perfect_filter", name == "random_filter"
        skill = 1.0 if oracle else 0.0 if luck else reached * (1 - 0.3 * place)
        figures[f"detect.{name}.oracle"] = int(oracle)
        for run, power in {"": skill, "null.": 0.0}.items():
            base = f"detect.{name}.{run}"
            some = rate > 0
            curve = np.clip(FPR ** (1 - min(power, 0.95)) + 0.004 * rng.normal(size=101), 0, 1)
            curve = np.maximum.accumulate(curve)
            for figure, value in {"auroc": 0.5 + 0.5 * power, "tpr_at_1_fpr": float(curve[10])}.items():
                tell(f"{base}{figure}", value if some else None)
            tell(f"{base}calibrated.fpr", 0.01 * rng.random(), 0.005)
            roc.setdefault(name, {})["null" if run else "poisoned"] = curve.tolist() if some else []
    return {"figures": figures, "roc": roc, "null_lift": (0.03 * rng.normal(size=nulls)).tolist()}


def _interval(values) -> dict[str, Any]:
    values = [value for value in values if value is not None]
    if not values:
        return dict.fromkeys(("mean", "sd", "t_low", "t_high", "boot_low", "boot_high")) | {"n": 0}
    mean = float(np.mean(values))
    if len(values) == 1:
        return dict.fromkeys(("sd", "t_low", "t_high", "boot_low", "boot_high")) | {"n": 1, "mean": mean}
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    low, high = mean - half, mean + half
    return {"n": len(values), "mean": mean, "sd": sd, "t_low": low, "t_high": high, "boot_low": low, "boot_high": high}


def _group(cells) -> dict[str, Any]:
    done = [cell for cell in cells if cell["status"] == "done"]
    names = {name: None for cell in done for name in cell["figures"] if not name.endswith((".low", ".high"))}
    nulls = [value for cell in done for value in cell["null_lift"]]
    low, high = map(float, np.quantile(nulls, [0.025, 0.975])) if nulls else (None, None)
    asr = [cell["figures"]["asr_baseline"] + lift for cell in done for lift in cell["null_lift"]]
    asr_low, asr_high = map(float, np.quantile(asr, [0.025, 0.975])) if asr else (None, None)
    curves = {name: done[0]["roc"][name] for name in done[0]["roc"]} if done else {}
    return {
        **{key: cells[0][key] for key in ("model", "trigger", "rate", "parameters")},
        "seeds": [cell["seed"] for cell in done],
        "metrics": {name: _interval([cell["figures"].get(name) for cell in done]) for name in names},
        "null_lift": {"values": nulls, "low": low, "high": high},
        "null_asr": {"low": asr_low, "high": asr_high},
        "roc": {
            name: {
                run: np.mean([cell["roc"][name][run] for cell in done], axis=0).tolist() if curves[name][run] else []
                for run in ("poisoned", "null")
            }
            for name in curves
        },
    }


def _tests(group, detectors) -> list[dict[str, Any]]:
    if group["rate"] == 0 or not group["seeds"]:
        return []
    pairs = [("attack", "asr", "ASR of the clean twin", "asr_lift")]
    pairs += [
        ("detection", f"detect.{d}.tpr_at_1_fpr", "the null run", f"detect.{d}.tpr_at_1_fpr")
        for d in detectors
        if d != "perfect_filter"
    ]
    place = {key: group[key] for key in ("model", "trigger", "rate", "parameters")}
    return [
        {"family": family, **place, "metric": metric, "against": against, **_test(group["metrics"][of])}
        for family, metric, against, of in pairs
    ]


def _test(figure) -> dict[str, Any]:
    if figure["n"] < 2:
        return {
            "n": figure["n"],
            "difference": figure["mean"],
            "t_low": None,
            "t_high": None,
            "effect_size": None,
            "p": None,
            "p_holm": None,
            "note": "one seed: no p-value",
        }
    effect = figure["mean"] / figure["sd"]
    p = float(2 * stats.t.sf(abs(effect) * math.sqrt(figure["n"]), figure["n"] - 1))
    return {
        "n": figure["n"],
        "difference": figure["mean"],
        "t_low": figure["t_low"],
        "t_high": figure["t_high"],
        "effect_size": effect,
        "p": p,
        "p_holm": min(1.0, 3 * p),
        "note": None,
    }


def _doses(model, trigger, parameters, seeds, detectors) -> dict[str, Any]:
    def dose(value):
        limits = {"low": value / 1.4, "high": value * 1.4} if len(seeds) > 1 else {"low": None, "high": None}
        return {"value": value, **limits, "bound": None, "per_seed": {str(seed): value for seed in seeds}, "note": None}

    missing = {
        "value": None,
        "low": None,
        "high": None,
        "bound": None,
        "per_seed": dict.fromkeys(map(str, seeds)),
        "note": f"not reached by {len(seeds)} of {len(seeds)} seeds",
    }
    no_gap = {"value": None, "low": None, "high": None, "bound": "not found", "note": "a level is not reached"}
    found = {
        name: {
            "detectable": dose(0.004 * k),
            "gap": {"value": k / 2.0, "low": k / 3, "high": k / 1.5, "bound": None, "note": None},
        }
        if name != "random_filter"
        else {"detectable": missing, "gap": no_gap}
        for k, name in enumerate(detectors, start=1)
        if name != "perfect_filter"
    }
    return {"model": model, "trigger": trigger, "parameters": parameters, "effective": dose(0.002), "detectors": found}
