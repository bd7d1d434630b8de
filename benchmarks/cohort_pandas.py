"""The core30 table as one would write it in pandas, in chunks: the yardstick of `benchmarks/cohort.py`.

It shares the feature dictionary with the cohort source (which items, units and ranges) and nothing else, so that equal
tables are also a check of the SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from backdoor_cohorts.features import DICTIONARY, core30, item_map

WINDOW = pd.Timedelta(hours=24)
CHUNK = 1_000_000
SOURCES = (
    ("icu/chartevents", "stay_id", "valuenum"),
    ("hosp/labevents", "subject_id", "valuenum"),
    ("icu/outputevents", "stay_id", "value"),
)
INTEGERS = {"subject_id", "hadm_id", "stay_id", "itemid", "anchor_age", "anchor_year", "hospital_expire_flag"}
TIMES = {"charttime", "intime", "outtime", "admittime", "deathtime"}
TEXTS = {"gender", "remark"}


def build_table(raw: Path, out: Path, suffix: str) -> None:
    """Write `out`, the core30 table of the default inclusion, from the files of `raw` that end in `suffix`."""
    stays = included_stays(raw, suffix)
    items = pd.DataFrame([item.__dict__ for item in item_map()])
    parts = [
        in_window(chunk, stays, items[items.source == table.split("/")[1]], key)
        for table, key, value in SOURCES
        for chunk in read(raw / f"{table}{suffix}", value, [key, "itemid", "charttime"])
    ]
    aggregate(pd.concat(parts, ignore_index=True), stays).to_parquet(out, index=False)


def read(path: Path, value: str, columns: list[str]) -> Iterator[pd.DataFrame]:
    """Chunks with the given columns, the `value` and, where it is of use, the text beside it as `remark`."""
    remark = path.name.startswith("chartevents")
    named = {name: name for name in columns} | {value: "value"} | ({"value": "remark"} if remark else {})
    for chunk in read_columns(path, list(named), texts={"value"} if remark else set()):
        yield chunk.rename(columns=named)


def read_columns(path: Path, columns: list[str], texts: set[str]) -> Iterator[pd.DataFrame]:
    """Chunks of one file with some of its columns."""
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(CHUNK, columns=columns):
            yield batch.to_pandas()
        return
    times = [name for name in columns if name in TIMES]
    types = {
        name: "Int64" if name in INTEGERS else "str" if name in TEXTS | texts else "float64"
        for name in columns
        if name not in TIMES
    }
    yield from pd.read_csv(
        path, usecols=columns, dtype=types, parse_dates=times, date_format="%Y-%m-%d %H:%M:%S", chunksize=CHUNK
    )


def whole(path: Path, columns: list[str]) -> pd.DataFrame:
    """A small file in one piece."""
    return pd.concat(read_columns(path, columns, texts=set()), ignore_index=True)


def included_stays(raw: Path, suffix: str) -> pd.DataFrame:
    """Adults who stay at least 24 hours in the ICU and live through them."""
    people = whole(raw / f"hosp/patients{suffix}", ["subject_id", "gender", "anchor_age", "anchor_year"])
    admissions = whole(
        raw / f"hosp/admissions{suffix}",
        ["subject_id", "hadm_id", "admittime", "deathtime", "hospital_expire_flag"],
    )
    stays = whole(raw / f"icu/icustays{suffix}", ["subject_id", "hadm_id", "stay_id", "intime", "outtime"])
    stays = stays.merge(admissions, on=["subject_id", "hadm_id"]).merge(people, on="subject_id")
    stays["age"] = stays.anchor_age + stays.admittime.dt.year - stays.anchor_year
    stays["sex"] = (stays.gender == "M").astype("float64")
    stays["window_end"] = stays.intime + WINDOW
    adult = stays.age >= 18
    long_enough = stays.outtime - stays.intime >= WINDOW
    alive = ~(stays.deathtime < stays.window_end)
    known = stays.hospital_expire_flag.notna()
    columns = ["stay_id", "subject_id", "intime", "window_end", "age", "sex"]
    return stays.loc[adult & long_enough & alive & known, columns].sort_values("stay_id", ignore_index=True)


def in_window(chunk: pd.DataFrame, stays: pd.DataFrame, items: pd.DataFrame, key: str) -> pd.DataFrame:
    """The plausible measurements of one chunk: stay_id, feature, preference, charttime, value."""
    chunk = chunk[chunk.itemid.isin(items.itemid) & chunk.value.notna()]
    chunk = chunk.merge(stays[["stay_id", "intime", "window_end", *({key} - {"stay_id"})]], on=key)
    chunk = chunk[(chunk.charttime >= chunk.intime) & (chunk.charttime < chunk.window_end)]
    chunk = chunk.merge(items, on="itemid")
    value = convert(chunk)
    kept = (value >= chunk.low) & (value <= chunk.high)
    value = value.where(chunk.conversion != "irrigant", -value)
    measured = chunk[["stay_id", "feature", "preference", "charttime"]].assign(value=value)[kept]
    return measured.assign(feature=measured.feature.astype(pd.CategoricalDtype([f.name for f in core30(24)])))


def convert(chunk: pd.DataFrame) -> pd.Series[float]:
    """Values in the unit of their feature; missing where they cannot be one."""
    value, kind = chunk.value, chunk.conversion
    value = value.mask(kind == "fahrenheit", (value.where((value > 70) & (value < 120)) - 32) / 1.8)
    value = value.mask(kind == "pound", value * 0.45359237)
    if "remark" in chunk:
        value = value.mask((kind == "gcs_verbal") & (chunk.remark == "No Response-ETT"))
    return value


def aggregate(measured: pd.DataFrame, stays: pd.DataFrame) -> pd.DataFrame:
    """One row a stay and one float32 column a feature, in the order of the dictionary."""
    wanted = {entry.feature: entry.aggregate for entry in DICTIONARY if entry.core30}
    columns = {"age": stays.age.to_numpy("float64"), "sex": stays.sex.to_numpy()}
    for kind in ("mean", "min", "max", "sum", "first"):
        some = measured[measured.feature.isin([name for name, how in wanted.items() if how == kind])]
        if kind == "first":
            some = some.sort_values(["preference", "charttime", "value"])
        grouped = some.groupby(["stay_id", "feature"], observed=True).value
        wide = grouped.agg(kind).unstack("feature").reindex(stays.stay_id)
        columns |= {name: wide[name].to_numpy() for name in wide}
    for feature in core30(24):
        values = columns.get(feature.name, np.full(len(stays), np.nan))
        columns[feature.name] = np.where((values >= feature.low) & (values <= feature.high), values, np.nan)
    table = pd.DataFrame({f.name: columns[f.name].astype("float32") for f in core30(24)})
    table.insert(0, "stay_id", stays.stay_id.astype("int64"))
    return table
