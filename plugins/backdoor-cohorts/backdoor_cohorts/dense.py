"""From rows of measurements to the table and series views, some thousand stays at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_cohorts.engine import Database, Relation
from backdoor_cohorts.features import Column
from backdoor_core.contracts import Feature

CELLS = 1 << 21
"""Cells (stays x hours x features) that are held at a time; fixed, because it shapes the files."""
BATCH = 1 << 17
MICRO = 1_000_000
"""Values are added up in millionths: whole numbers, whose sum does not depend on the order of the rows."""
MOST_COUNTED = np.iinfo(np.uint16).max

Values = NDArray[np.floating[Any]]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Stays:
    """The included stays in order, with the features that need no measurement."""

    stay_id: NDArray[np.int64]
    static: Mapping[str, Values]
    """Feature -> (N,) value, NaN where unknown: age in years, sex as 0 (F) or 1 (M)."""


def write_table(
    connection: Database,
    path: Path,
    stays: Stays,
    columns: Sequence[Column],
    places: Mapping[str, int],
    summed: frozenset[str],
) -> tuple[str, ...]:
    """Write `table.parquet` from the tables `summary`, `firsts` and `lasts`; return the variables never measured.

    `places` is where each variable stands in the table `features`; `summed` are the variables with a net sum.
    """
    schema = pa.schema([("stay_id", pa.int64()), *((column.feature.name, pa.float32()) for column in columns)])
    last = "l.value" if any(column.statistic == "last" for column in columns) else "CAST(NULL AS DOUBLE)"
    join = "LEFT JOIN lasts AS l ON s.stay_id = l.stay_id AND s.place = l.place" if last == "l.value" else ""
    rows = connection.sql(
        f"SELECT s.stay_id, s.place, s.measured, s.total, s.lowest, s.highest, f.value AS first, {last} AS last "
        f"FROM summary AS s LEFT JOIN firsts AS f ON s.stay_id = f.stay_id AND s.place = f.place {join} "
        "ORDER BY s.stay_id"
    )
    seen = np.zeros(len(places), bool)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block, found in _blocks(rows, stays.stay_id, max(1, CELLS // (8 * len(columns)))):
            seen[found["place"]] = True
            stay_id = stays.stay_id[block]
            statistics = _statistics(found, len(places), stay_id)
            values = [
                stays.static[column.variable][block]
                if column.statistic == "value"
                else statistics[column.statistic][places[column.variable]]
                for column in columns
            ]
            values = [
                _plausible(v, column.feature) if column.variable in summed else v
                for v, column in zip(values, columns, strict=True)
            ]
            arrays = [pa.array(stay_id), *(pa.array(v.astype(np.float32)) for v in values)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return tuple(name for name, place in places.items() if not seen[place] and name not in stays.static)


def _statistics(found: Arrays, places: int, stay_id: NDArray[np.int64]) -> dict[str, Values]:
    """Statistic -> (places, stays) in float64, NaN where nothing was measured; a count is 0 there."""
    at = (found["place"], np.searchsorted(stay_id, found["stay_id"]))
    values = {
        "mean": found["total"] / found["measured"],
        "sum": found["total"],
        "min": found["lowest"],
        "max": found["highest"],
        "first": found["first"],
        "last": found["last"],
        "count": found["measured"],
    }
    grids = {name: np.full((places, len(stay_id)), 0.0 if name == "count" else np.nan) for name in values}
    for name, grid in grids.items():
        grid[at] = values[name]
    return grids


def _plausible(values: Values, feature: Feature) -> Values:
    """For net sums, which can leave the range of their feature: urine with more irrigant in than came out.

    Not for other statistics: the mean of three times 0.1 is a little less than 0.1.
    """
    return np.where((values >= feature.low) & (values <= feature.high), values, np.nan)


def write_series(
    connection: Database,
    path: Path,
    stays: Stays,
    features: Sequence[Feature],
    summed: frozenset[str],
    hours: int,
) -> tuple[str, ...]:
    """Write `series.parquet` from the view `measurements`; return the features never measured.

    The value of an hour is the mean of its measurements, or their sum for the features in `summed`.
    """
    schema = pa.schema(
        [
            ("stay_id", pa.int64()),
            ("hour", pa.int16()),
            *((feature.name, pa.float32()) for feature in features),
            *((f"{feature.name}.count", pa.uint16()) for feature in features),
        ]
    )
    seen = np.zeros(len(features), bool)
    rows = connection.sql(
        "SELECT stay_id, place, CAST(FLOOR(hours) AS SMALLINT) AS hour, value FROM measurements ORDER BY stay_id"
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block, found in _blocks(rows, stays.stay_id, max(1, CELLS // (hours * len(features)))):
            stay_id = stays.stay_id[block]
            values, counts = _grid(found, stay_id, features, summed, hours)
            seen |= counts.any(axis=1)
            for place, feature in enumerate(features):
                if feature.name in stays.static:
                    values[place] = np.repeat(stays.static[feature.name][block], hours)
                    counts[place] = ~np.isnan(values[place])
            hour = np.tile(np.arange(hours, dtype=np.int16), len(stay_id))
            arrays = [
                pa.array(np.repeat(stay_id, hours)),
                pa.array(hour),
                *map(pa.array, values),
                *map(pa.array, counts),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return tuple(f.name for place, f in enumerate(features) if not seen[place] and f.name not in stays.static)


def _grid(
    found: Arrays, stay_id: NDArray[np.int64], features: Sequence[Feature], summed: frozenset[str], hours: int
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """(F, stays x hours) values and counts."""
    width = len(stay_id) * hours
    hour = np.searchsorted(stay_id, found["stay_id"]) * hours + found["hour"]
    cell = found["place"].astype(np.int64) * width + hour
    counts = np.bincount(cell, minlength=len(features) * width).reshape(len(features), width)
    micro = np.bincount(cell, weights=np.rint(found["value"] * MICRO), minlength=counts.size)
    totals = micro.astype(np.float64, copy=False).reshape(counts.shape)  # of no rows, numpy makes integers
    divisor = np.where(counts == 0, np.nan, counts)
    for place, feature in enumerate(features):
        if feature.name in summed:
            totals[place] = np.where(counts[place] > 0, totals[place], np.nan)
            divisor[place] = 1
    values = totals / divisor / MICRO
    for place, feature in enumerate(features):
        if feature.name in summed:
            values[place] = _plausible(values[place], feature)
    counts[np.isnan(values)] = 0
    return values.astype(np.float32), np.minimum(counts, MOST_COUNTED).astype(np.uint16)


def _blocks(rows: Relation, stay_id: NDArray[np.int64], size: int) -> Iterator[tuple[slice, Arrays]]:
    """The rows of the relation `rows`, which is ordered by stay_id, of `size` stays at a time."""
    reader = rows.to_arrow_reader(BATCH)
    held: list[pa.RecordBatch] = []
    for start in range(0, len(stay_id), size):
        block = slice(start, min(start + size, len(stay_id)))
        last = stay_id[block.stop - 1]
        parts: list[pa.RecordBatch] = []
        while True:
            batch = held.pop() if held else next(reader, None)
            if batch is None:
                break
            inside = int(np.searchsorted(batch.column("stay_id").to_numpy(), last, side="right"))
            parts.append(batch.slice(0, inside))
            if inside < batch.num_rows:
                held.append(batch.slice(inside))
                break
        yield block, _arrays(parts, reader.schema)


def _arrays(parts: list[pa.RecordBatch], schema: pa.Schema) -> Arrays:
    table = pa.Table.from_batches(parts, schema)
    return {name: table.column(name).to_numpy() for name in table.column_names}
