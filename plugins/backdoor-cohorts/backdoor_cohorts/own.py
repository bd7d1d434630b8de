"""From a user's own files to a cohort (see `backdoor_cohorts.parquet`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_cohorts import own_columns
from backdoor_cohorts.own_columns import Frame
from backdoor_cohorts.parquet import Column, OwnParquet
from backdoor_core.contracts import Attrition, CohortCard, Feature, Inclusion, Modality
from backdoor_core.errors import BackdoorError

HOUR = np.timedelta64(1, "h")


def build_own(
    out: Path, inclusion: Inclusion, options: OwnParquet.Options, table: Path, series: Path | None
) -> CohortCard:
    """Write the cohort of the files `table` and `series` into the existing directory `out`."""
    views = _views(inclusion, series)
    _refuse(inclusion)
    frame = own_columns.read(table)
    stays, kept, attrition, notes = _stays(frame, inclusion, options)
    ids = stays["stay_id"]
    _write(out / "stays.parquet", stays)
    features: tuple[Feature, ...] = ()
    series_features: tuple[Feature, ...] = ()
    if "table" in views:
        values, features, dropped = _features(frame, options.features, _reserved(options))
        notes += _told(dropped, table)
        _write(out / "table.parquet", {"stay_id": ids, **{n: v[kept] for n, v in values.items()}})
    if "series" in views and series is not None:
        columns, series_features, more = _series(own_columns.read(series), inclusion, options, frame, ids)
        notes += more
        _write(out / "series.parquet", columns)
    return CohortCard(
        source=OwnParquet.name,
        description=f"{table.name}" + (f" and {series.name}" if series else ""),
        attrition=attrition,
        features=features,
        series_features=series_features,
        views=views,
        notes=tuple(notes),
    )


def _views(inclusion: Inclusion, series: Path | None) -> tuple[Modality, ...]:
    offered: tuple[Modality, ...] = ("table",) if series is None else ("table", "series")
    views = tuple(view for view in offered if view in inclusion.views)
    if not views:
        asked, told = ", ".join(inclusion.views), " and ".join(offered)
        raise BackdoorError(f"inclusion.views: {asked} is asked for, but these files of the source parquet give {told}")
    return views


def _refuse(inclusion: Inclusion) -> None:
    if inclusion.visibility != "charttime":
        raise BackdoorError("inclusion.visibility: the source parquet has no storetime; use charttime")
    if inclusion.features != "core30":
        raise BackdoorError(
            "inclusion.features: the source parquet has the features of its file; use core30 and list them in "
            "cohorts.parquet.features"
        )


def _reserved(options: OwnParquet.Options) -> set[str]:
    """Columns that are no features unless they are listed as such."""
    named = {options.stay_id, options.subject_id, options.label, options.intime, options.outtime}
    return {name for name in named if name is not None} | set(options.static.values())


def _stays(
    frame: Frame, inclusion: Inclusion, options: OwnParquet.Options
) -> tuple[dict[str, Any], NDArray[np.int64], tuple[Attrition, ...], list[str]]:
    """The columns of stays.parquet, their rows in the file, the count after each rule, and the card's notes."""
    ids = frame.integers(options.stay_id)
    frame.refuse_twice(options.stay_id, ids)
    label = frame.label(options.label)
    subject = ids if options.subject_id is None else frame.integers(options.subject_id)
    columns: dict[str, Any] = {"stay_id": ids, "subject_id": subject, "label": label}
    for name in ("intime", "outtime"):
        given = getattr(options, name)
        columns[name] = np.full(len(ids), "NaT", "datetime64[us]") if given is None else frame.times(given)
    columns |= {name: frame.static(column) for name, column in options.static.items()}
    keep, steps, notes = _rules(frame, columns, inclusion, options)
    notes.insert(0, f"The label is the column {options.label!r} of {frame.path.name}, whatever inclusion.label names.")
    if options.subject_id is None:
        notes.append(
            "Each stay counts as a patient of its own; a patient with two stays may be on both sides of a split."
        )
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    return {name: _taken(column, rows) for name, column in columns.items()}, rows, steps, notes


def _taken(column: Any, rows: NDArray[np.int64]) -> Any:
    return column.take(pa.array(rows)) if isinstance(column, pa.Array) else column[rows]


def _rules(
    frame: Frame, columns: Mapping[str, Any], inclusion: Inclusion, options: OwnParquet.Options
) -> tuple[NDArray[np.bool_], tuple[Attrition, ...], list[str]]:
    keep = np.ones(len(columns["stay_id"]), np.bool_)
    steps = [Attrition(f"rows of {frame.path.name}", len(keep))]
    unused = []

    def count(rule: str, passes: NDArray[np.bool_]) -> None:
        keep[:] &= passes
        steps.append(Attrition(rule, int(keep.sum())))
        if not keep.any():
            raise BackdoorError(f"{frame.path}: no stay is left by the rule {rule!r}; loosen `inclusion`")

    if "age" in columns:
        age = frame.numbers(options.static["age"])
        count(f"patient of {inclusion.min_age} years or older at hospital admission", age >= inclusion.min_age)
    else:
        unused.append("min_age (needs static.age)")
    if options.intime is not None and options.outtime is not None:
        hours = (columns["outtime"] - columns["intime"]) / HOUR
        count("valid times", hours > 0)
        if inclusion.first_stay_only:
            count("first ICU stay of the patient", _first(columns))
        count(f"ICU stay of at least {inclusion.min_los_hours:g} h", hours >= inclusion.min_los_hours)
        if inclusion.gap_hours:
            end = inclusion.window_hours + inclusion.gap_hours
            count(f"in the ICU {end} h after admission", hours >= end)
    else:
        unused.append("min_los_hours (needs intime and outtime)")
        if inclusion.gap_hours:
            raise BackdoorError("inclusion.gap_hours: map cohorts.parquet.intime and outtime, or use 0")
        if inclusion.first_stay_only:
            if options.intime is None:
                raise BackdoorError("inclusion.first_stay_only: map cohorts.parquet.intime, or use false")
            count("first ICU stay of the patient", _first(columns))
    notes = [f"Not applied, for want of a column: {', '.join(unused)}."] if unused else []
    return keep, tuple(steps), notes


def _first(columns: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Whether each stay is the earliest of its patient in the file."""
    order = np.lexsort((columns["stay_id"], columns["intime"], columns["subject_id"]))
    subject = columns["subject_id"][order]
    first = np.ones(len(order), np.bool_)
    first[1:] = subject[1:] != subject[:-1]
    answer = np.empty(len(order), np.bool_)
    answer[order] = first
    return answer


def _features(
    frame: Frame, listed: Mapping[str, Column | None], reserved: Collection[str]
) -> tuple[dict[str, NDArray[np.float32]], tuple[Feature, ...], dict[str, int]]:
    """Name -> values of all rows of the file, the features, and how many values lay outside their plausible range."""
    chosen = {name: column or Column() for name, column in listed.items()}
    chosen = chosen or {name: Column() for name in frame.numeric() if name not in reserved}
    if not chosen:
        raise BackdoorError(f"{frame.path}: no numeric column is left for a feature; list some in cohorts.parquet")
    values, features, dropped = {}, [], {}
    for name, column in chosen.items():
        value = frame.numbers(column.column or name)
        low = -np.inf if column.low is None else column.low
        high = np.inf if column.high is None else column.high
        outside = (value < low) | (value > high)
        dropped[name] = int(outside.sum())
        value = np.where(outside, np.nan, value)
        seen = value[~np.isnan(value)]
        ends = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
        low, high = (ends[0] if column.low is None else low), (ends[1] if column.high is None else high)
        features.append(Feature(name, column.unit, low, high, column.description))
        values[name] = value.astype(np.float32)
    return values, tuple(features), dropped


def _told(dropped: Mapping[str, int], path: Path) -> list[str]:
    named = [f"{name} {count}" for name, count in dropped.items() if count]
    return [f"Outside the plausible range, so not measured, in {path.name}: {', '.join(named)}."] if named else []


def _series(
    frame: Frame, inclusion: Inclusion, options: OwnParquet.Options, table: Frame, ids: NDArray[np.int64]
) -> tuple[dict[str, Any], tuple[Feature, ...], list[str]]:
    """The columns of series.parquet for the stays `ids` (sorted), the features and the card's notes."""
    stay, hour = frame.integers(options.stay_id), frame.numbers(options.hour)
    frame.refuse_empty(options.hour, np.isnan(hour))
    known = np.isin(stay, table.integers(options.stay_id))
    if not known.all():
        lost = stay[int((~known).argmax())]
        raise BackdoorError(f"{frame.path}: column {options.stay_id} holds {lost}, which {table.path} lacks")
    values, features, dropped = _features(frame, options.series_features, _reserved(options) | {options.hour})
    window = inclusion.window_hours
    inside = (hour >= 0) & (hour < window)
    used = inside & np.isin(stay, ids)
    cell = np.searchsorted(ids, stay[used]) * window + np.floor(hour[used]).astype(np.int64)
    columns: dict[str, Any] = {
        "stay_id": np.repeat(ids, window),
        "hour": np.tile(np.arange(window, dtype=np.int16), len(ids)),
    }
    counts = {}
    for name, column in values.items():
        columns[name], counts[f"{name}.count"] = _hourly(cell, column[used], len(ids) * window)
    notes = _told(dropped, frame.path)
    if not inside.all():
        notes.append(f"{int((~inside).sum())} rows of {frame.path.name} lie outside the window of {window} h.")
    return columns | counts, features, notes


def _hourly(
    cell: NDArray[np.int64], value: NDArray[np.float32], cells: int
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Mean and count in each cell. Summed in order of the values, so that the order of the rows is nothing."""
    measured = ~np.isnan(value)
    cell, value = cell[measured], value[measured].astype(np.float64)
    order = np.lexsort((value, cell))
    count = np.bincount(cell, minlength=cells)
    total = np.bincount(cell[order], weights=value[order], minlength=cells)
    with np.errstate(invalid="ignore"):
        mean = total / count
    return mean.astype(np.float32), np.minimum(count, np.iinfo(np.uint16).max).astype(np.uint16)


def _write(path: Path, columns: Mapping[str, Any]) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")
