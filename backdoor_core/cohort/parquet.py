"""Parquet files as columns of numpy arrays, and views as columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_core.contracts import EventsView, Feature, Integers, SeriesView, TableView, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing

Columns = Mapping[str, NDArray[Any]]


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as one Parquet file, whole or not at all; equal columns give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(pa.table(dict(columns)), temporary, compression="zstd")


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """All columns of a Parquet file as numpy arrays. Raises `BackdoorError` where it is missing or damaged."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise BackdoorError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def view_columns(view: View) -> dict[str, NDArray[Any]]:
    """A view as columns: stay_id, for a series hour (one row for each), one column per feature and its counts.

    Events have a row each: stay_id, code, hours, value and text.
    """
    if isinstance(view, EventsView):
        return {
            "stay_id": view.stay_id[view.stay_of_event],
            "code": np.array(view.codes, dtype=object)[view.code],
            "hours": view.hours,
            "value": view.value,
            "text": view.text,
        }
    if isinstance(view, TableView):
        return {"stay_id": view.stay_id, **{f.name: view.values[:, j] for j, f in enumerate(view.features)}}
    hours = view.values.shape[1]
    columns: dict[str, NDArray[Any]] = {
        "stay_id": np.repeat(view.stay_id, hours),
        "hour": np.tile(np.arange(hours, dtype=np.int16), len(view)),
    }
    for j, feature in enumerate(view.features):
        columns[feature.name] = view.values[:, :, j].ravel()
        columns[f"{feature.name}.count"] = view.counts[:, :, j].ravel()
    return columns


def table_from_columns(columns: Columns, features: tuple[Feature, ...], where: str) -> TableView:
    """A table view from its columns. Raises `BackdoorError` naming `where` and the column that is missing."""
    _require(columns, ["stay_id", *(f.name for f in features)], where)
    values = np.column_stack([columns[f.name] for f in features]).astype(np.float32, copy=False)
    return TableView(stay_id=columns["stay_id"], features=features, values=values)


def series_from_columns(columns: Columns, features: tuple[Feature, ...], hours: int, where: str) -> SeriesView:
    """A series view from its columns, `hours` rows a stay. Raises `BackdoorError` where rows or columns are missing."""
    _require(columns, ["stay_id", "hour", *(n for f in features for n in (f.name, f"{f.name}.count"))], where)
    rows = len(columns["stay_id"])
    stay_id = columns["stay_id"][::hours]
    regular = rows % hours == 0 and np.array_equal(columns["stay_id"], np.repeat(stay_id, hours))
    if not regular or not np.array_equal(columns["hour"], np.tile(np.arange(hours), len(stay_id))):
        raise BackdoorError(f"{where}: expected exactly {hours} rows for each stay, hours 0 to {hours - 1} in order")
    shape = (len(stay_id), hours, len(features))
    values, counts = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint16)
    for j, feature in enumerate(features):
        values[:, :, j] = columns[feature.name].reshape(-1, hours)
        counts[:, :, j] = columns[f"{feature.name}.count"].reshape(-1, hours)
    if not np.array_equal(counts == 0, np.isnan(values)):
        raise BackdoorError(f"{where}: a count must be 0 exactly where the value is missing")
    return SeriesView(stay_id=stay_id, features=features, values=values, counts=counts)


def events_from_columns(columns: Columns, stay_id: Integers, known: EventsView, where: str) -> EventsView:
    """An events view of the given stays from its columns; a stay without a row has no events.

    Codes, descriptions and the static columns of the stays are those of `known`, and a code that it lacks is described
    by itself. Raises `BackdoorError` naming `where` for a missing column, or for stays that are others or in another
    order.
    """
    _require(columns, ["stay_id", "code", "hours", "value", "text"], where)
    order = {int(stay): place for place, stay in enumerate(stay_id)}
    places = [order.get(int(stay), -1) for stay in columns["stay_id"]]
    place = np.array(places, dtype=np.int64)
    if (place < 0).any() or (np.diff(place) < 0).any():
        raise BackdoorError(f"{where}: column stay_id: expected the poisoned stays only, in their order")
    codes = known.codes + tuple(sorted(set(columns["code"]) - set(known.codes)))
    number = {code: k for k, code in enumerate(codes)}
    return EventsView(
        stay_id=stay_id,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(stay_id)))]).astype(np.int64),
        codes=codes,
        descriptions=known.descriptions + codes[len(known.codes) :],
        code=np.array([number[code] for code in columns["code"]], dtype=np.int32),
        hours=columns["hours"].astype(np.float32),
        value=columns["value"].astype(np.float32),
        text=columns["text"],
        statics=_statics_of(stay_id, known, where),
    )


def _statics_of(stay_id: Integers, known: EventsView, where: str) -> Columns:
    """The static columns of the given stays, in their order."""
    if not known.statics:
        return {}
    row = {int(stay): k for k, stay in enumerate(known.stay_id)}
    lost = [int(stay) for stay in stay_id if int(stay) not in row]
    if lost:
        raise BackdoorError(f"{where}: stay_id {lost[0]} is no stay of the training part; run `dvc repro`")
    rows = [row[int(stay)] for stay in stay_id]
    return {name: column[rows] for name, column in known.statics.items()}


def _require(columns: Columns, names: list[str], where: str) -> None:
    lacking = [name for name in names if name not in columns]
    if lacking:
        raise BackdoorError(f"{where}: lacks the column {', '.join(lacking)}")
