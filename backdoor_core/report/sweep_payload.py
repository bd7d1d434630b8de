"""What the page of a sweep holds as data: the figures that it draws, in columns, rounded to five digits.

Columns keep a page of 10,000 cells at a size that a browser opens at once. The files beside the page have every
figure in full.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from backdoor_core.statistics import t_quantile

_GROUP_FIGURES: Final = (
    *("asr", "asr_baseline", "asr_lift", "auroc_change", "told_apart"),
    *(f"{figure}{side}" for figure in ("auroc", "auprc", "ece") for side in ("", ".baseline")),
)
_CELL_FIGURES: Final = (
    *("poisoned_stays", "asr", "asr_baseline", "asr_lift", "asr_lift.low", "asr_lift.high"),
    *("auroc", "auroc.baseline", "auroc_change", "told_apart"),
)
_DETECTOR_GROUP: Final = ("tpr_at_1_fpr", "null.tpr_at_1_fpr")
_DETECTOR_CELL: Final = ("tpr_at_1_fpr", "null.tpr_at_1_fpr", "auroc", "null.calibrated.fpr")
_TAR: Final = re.compile(r"tar\.(.+)\.lift")
_DETECTOR: Final = re.compile(r"detect\.(.+)(?<!\.null)\.tpr_at_1_fpr")
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
AS_GIVEN: Final = "as in params.yaml"
"""What a parameter is called that only other cells, those of `include`, change."""
_STEPS: Final = 4000
"""A point of an ROC curve is a multiple of 1/4000, written as two digits of base 64."""


def payload(
    aggregated: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], timings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The page's data, JSON-able; the arguments are those of `build_sweep_page`."""
    axes, groups = aggregated["axes"], aggregated["groups"]
    known = sorted({name for group in groups for name in group["metrics"]})
    names = _matches(_DETECTOR, known)
    explainers = _matches(_TAR, known)
    sets = _Sets(list(axes["parameters"]))
    content = {
        "name": aggregated["name"],
        "axes": {key: axes[key] for key in ("models", "triggers", "rates", "seeds")},
        "detectors": [{"name": name, "oracle": _oracle(name, groups)} for name in names],
        "explainers": explainers,
        "as_given": AS_GIVEN,
        "groups": _groups(groups, axes, sets, names, explainers),
        "cells": _cells(rows, axes, sets, names),
        "tests": _tests(aggregated["tests"], sets),
        "doses": [_dose_row(entry, sets) for entry in aggregated["doses"]],
        "times": _times(timings),
        # Student's t for intervals over 2, 3, ... seeds that the page makes itself.
        "t": [_rounded(t_quantile(df)) for df in range(1, len(axes["seeds"]))],
    }
    content["axes"]["parameters"] = [{"name": name, "values": sets.values[name]} for name in sets.names]
    content["sets"] = sets.rows
    return content


def payload_text(content: Mapping[str, Any]) -> str:
    """The data as JSON that may stand within a script element, whatever its strings hold."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


class _Sets:
    """Numbers the values that the dotted parameters take together, as they come."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.values: dict[str, list[str]] = {name: [] for name in names}
        self.rows: list[list[int]] = []
        self._places: dict[tuple[int, ...], int] = {}

    def place(self, parameters: Mapping[str, Any]) -> int:
        """The number of this set of values. A parameter that it lacks is as params.yaml has it."""
        found = tuple(self._value(name, parameters.get(name, AS_GIVEN)) for name in self.names)
        if found not in self._places:
            self._places[found] = len(self.rows)
            self.rows.append(list(found))
        return self._places[found]

    def _value(self, name: str, value: Any) -> int:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if text not in self.values[name]:
            self.values[name].append(text)
        return self.values[name].index(text)


def _matches(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    return [found[1] for name in names if (found := pattern.fullmatch(name))]


def _oracle(name: str, groups: Sequence[Mapping[str, Any]]) -> bool:
    told = (group["metrics"].get(f"detect.{name}.oracle") for group in groups)
    return any(metric is not None and metric["mean"] == 1 for metric in told)


def _rounded(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    short = float(f"{value:.5g}")
    # 1 in place of 1.0: a page of many cells is mostly zeros and ones.
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _groups(
    groups: Sequence[Mapping[str, Any]],
    axes: Mapping[str, Any],
    sets: _Sets,
    detectors: Sequence[str],
    explainers: Sequence[str],
) -> dict[str, Any]:
    wanted = [
        *_GROUP_FIGURES,
        *(f"tar.{name}{part}" for name in explainers for part in ("", ".baseline")),
        *(f"detect.{name}.{figure}" for name in detectors for figure in _DETECTOR_GROUP),
    ]
    return {
        **_places(groups, axes, sets),
        "seeds": [len(group["seeds"]) for group in groups],
        "metrics": {name: _metric([group["metrics"].get(name) for group in groups]) for name in wanted},
        **{
            kind: {end: [_rounded(group[kind][end]) for group in groups] for end in ("low", "high")}
            for kind in ("null_lift", "null_asr")
        },
        "roc": {
            name: {
                run: [_curve(group["roc"].get(name, {}).get(run)) for group in groups] for run in ("poisoned", "null")
            }
            for name in detectors
        },
    }


def _places(entries: Sequence[Mapping[str, Any]], axes: Mapping[str, Any], sets: _Sets) -> dict[str, list[Any]]:
    """Model, trigger and set of parameters as numbers, and the rate itself."""
    model = {name: place for place, name in enumerate(axes["models"])}
    trigger = {name: place for place, name in enumerate(axes["triggers"])}
    return {
        "model": [model[entry["model"]] for entry in entries],
        "trigger": [trigger[entry["trigger"]] for entry in entries],
        "rate": [entry["rate"] for entry in entries],
        "set": [sets.place(entry["parameters"]) for entry in entries],
    }


def _metric(found: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    columns = {"n": "n", "mean": "mean", "low": "t_low", "high": "t_high"}
    return {
        short: [None if metric is None else _rounded(metric[key]) for metric in found] for short, key in columns.items()
    }


def _curve(values: Sequence[float] | None) -> str:
    """The true positive rates of a curve, two characters each; nothing where there is no curve."""
    if not values:
        return ""
    steps = np.rint(np.clip(np.asarray(values, dtype=np.float64), 0, 1) * _STEPS).astype(int).tolist()
    return "".join(_DIGITS[step >> 6] + _DIGITS[step & 63] for step in steps)


def _cells(
    rows: Sequence[Mapping[str, Any]], axes: Mapping[str, Any], sets: _Sets, detectors: Sequence[str]
) -> dict[str, Any]:
    wanted = [*_CELL_FIGURES, *(f"detect.{name}.{figure}" for name in detectors for figure in _DETECTOR_CELL)]
    return {
        **_places(rows, axes, sets),
        "seed": [row["seed"] for row in rows],
        "errors": {str(place): row["error"] or "" for place, row in enumerate(rows) if row["status"] == "failed"},
        "figures": {name: [_rounded(row["figures"].get(name)) for row in rows] for name in wanted},
        "null_lift": [[_rounded(value) for value in row["null_lift"]] for row in rows],
    }


def _tests(tests: Sequence[Mapping[str, Any]], sets: _Sets) -> dict[str, list[Any]]:
    keys = ("family", "model", "trigger", "rate", "metric", "against", "n", "note")
    numbers = ("difference", "t_low", "t_high", "effect_size", "p", "p_holm")
    return {
        **{key: [test[key] for test in tests] for key in keys},
        **{key: [_rounded(test[key]) for test in tests] for key in numbers},
        "set": [sets.place(test["parameters"]) for test in tests],
    }


def _dose_row(entry: Mapping[str, Any], sets: _Sets) -> dict[str, Any]:
    return {
        "model": entry["model"],
        "trigger": entry["trigger"],
        "set": sets.place(entry["parameters"]),
        "effective": _dose(entry["effective"]),
        "detectors": {
            name: {
                "detectable": _dose(found["detectable"]),
                "gap": {**_limits(found["gap"]), "note": found["gap"].get("note")},
            }
            for name, found in entry["detectors"].items()
        },
    }


def _dose(dose: Mapping[str, Any]) -> dict[str, Any]:
    per_seed = {seed: _rounded(value) for seed, value in dose["per_seed"].items()}
    return {**_limits(dose), "per_seed": per_seed, "note": dose["note"]}


def _limits(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: _rounded(figure[key]) for key in ("value", "low", "high")}, "bound": figure["bound"]}


def _times(timings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each model, its stages as they first come: cells, median seconds of a cell, and seconds of all."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for row in timings:
        seconds.setdefault(row["model"], {}).setdefault(row["stage"], []).append(float(row["seconds"]))
    return [
        {
            "model": model,
            "stages": [
                {
                    "stage": stage,
                    "cells": len(values),
                    "median": _rounded(statistics.median(values)),
                    "total": _rounded(sum(values)),
                }
                for stage, values in stages.items()
            ],
        }
        for model, stages in seconds.items()
    ]
