"""What the seeds of each group say together: aggregated_metrics.json and aggregated_metrics.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backdoor_core.statistics import Floats
from backdoor_core.sweep.comparisons import paired_tests
from backdoor_core.sweep.doses import doses_of
from backdoor_core.sweep.intervals import bootstrap, means
from backdoor_core.sweep.rows import ROC_RUNS, Group, Row, csv_text, groups_of, plain_or_none

SUMMARY = ("n", "mean", "sd", "t_low", "t_high", "boot_low", "boot_high")


def aggregate(name: str, study: Mapping[str, Any], axes: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The content of aggregated_metrics.json; a figure that does not exist is None, never NaN.

    `study` is the parameters that all cells share, `axes` the grid; `rows` are all cells in grid order. Cells that
    failed are counted and named with their error, and are in no figure. Raises `BackdoorError` for a cell given twice.
    """
    groups = groups_of(rows)
    failed = [row for row in rows if not row.done]
    return {
        "name": name,
        "study": dict(study),
        "axes": dict(axes),
        "cells": {
            "done": len(rows) - len(failed),
            "failed": len(failed),
            "errors": [{"cell": row.cell, "error": row.error} for row in failed],
        },
        "groups": [_summarized(group) for group in groups],
        "tests": paired_tests(groups),
        "doses": doses_of(groups),
    }


def aggregated_csv(aggregated: Mapping[str, Any]) -> str:
    """aggregated_metrics.csv: a line per group and metric, in the order of `aggregate`'s answer; empty for None."""
    varied = list(dict.fromkeys(key for group in aggregated["groups"] for key in group["parameters"]))
    lines = (
        [*place, metric, *(summary[figure] for figure in SUMMARY)]
        for group in aggregated["groups"]
        for place in [_place(group, varied)]
        for metric, summary in group["metrics"].items()
    )
    return csv_text(["model", "trigger", "rate", *varied, "metric", *SUMMARY], lines)


def _place(group: Mapping[str, Any], varied: Sequence[str]) -> list[Any]:
    parameters = (plain_or_none(group["parameters"].get(key)) for key in varied)
    return [group["model"], group["trigger"], group["rate"], *parameters]


def _summarized(group: Group) -> dict[str, Any]:
    done = group.done
    return {
        **group.place(),
        "seeds": [row.seed for row in done],
        "metrics": summaries(done),
        "null_lift": _spread([lift for row in done for lift in row.null_lift]),
        "null_asr": _null_asr(done),
        "roc": _mean_curves(done),
    }


def summaries(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Each figure's summary over rows that differ only in the seed, figures as first seen; no ends of intervals.

    ``n`` counts the seeds where the figure exists; ``mean`` and ``sd`` (n - 1) are over those, ``t_low`` to ``t_high``
    is the 95% t-interval of the mean, ``boot_low`` to ``boot_high`` the 95% percentile bootstrap over seeds
    (`backdoor_core.sweep.intervals`). One seed has a mean alone.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.figures if not name.endswith((".low", ".high"))))
    # Python's None becomes NaN here, which marks what does not exist.
    table = [list(map(row.figures.get, names)) for row in rows]
    values = np.array(table, dtype=np.float64).reshape(len(rows), len(names))
    exists = np.ascontiguousarray(~np.isnan(values).T)
    alike: dict[bytes, list[int]] = {}
    for column in range(len(names)):
        alike.setdefault(exists[column].tobytes(), []).append(column)
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for columns in alike.values():
        of_seeds = values[np.ix_(exists[columns[0]], columns)]
        for column, summary in zip(columns, _summaries(of_seeds), strict=True):
            found[names[column]] = summary
    return found


def _summaries(values: Floats) -> list[dict[str, Any]]:
    """Of each column of (n, m) figures, all of which exist."""
    seeds, figures = values.shape
    if seeds == 0:
        return [{**dict.fromkeys(SUMMARY), "n": 0} for _ in range(figures)]
    if seeds == 1:
        return [{**dict.fromkeys(SUMMARY), "n": 1, "mean": mean} for mean in values[0].tolist()]
    mean, sd, half = means(values)
    columns = (mean, sd, mean - half, mean + half, *bootstrap(values))
    return [
        dict(zip(SUMMARY, (seeds, *figure), strict=True))
        for figure in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """What clean retrains give, all seeds together, and the 2.5 and 97.5 percentiles."""
    if not values:
        return {"values": [], "low": None, "high": None}
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return {"values": list(values), "low": low, "high": high}


def _null_asr(rows: Sequence[Row]) -> dict[str, float | None]:
    """The same of the ASR of clean retrains: what their seed's twin has, and their lift above that."""
    twins = ((row.figures.get("asr_baseline"), row.null_lift) for row in rows)
    found = _spread([twin + lift for twin, lifts in twins if twin is not None for lift in lifts])
    return {"low": found["low"], "high": found["high"]}


def _mean_curves(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """Each detector's mean true positive rate at each stored false positive rate, over seeds that have the curve.

    Vertical averaging (Fawcett 2006); empty where no seed has the curve.
    """
    detectors = dict.fromkeys(name for row in rows for name in row.roc)
    return {name: {run: _mean_curve(rows, name, run) for run in ROC_RUNS} for name in detectors}


def _mean_curve(rows: Sequence[Row], detector: str, run: str) -> list[float]:
    curves = [curve for row in rows if detector in row.roc and len(curve := row.roc[detector][run])]
    return np.mean(curves, axis=0).tolist() if curves else []
