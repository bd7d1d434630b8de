"""The raw tables: MIMIC-IV's columns and types, written as Parquet block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_cohorts.simulate.course import EPOCH
from backdoor_cohorts.simulate.schemas import BASE_SCHEMAS, DATE, SCHEMAS, TEXT

# A repeated value costs nothing in a dictionary; a time hardly ever repeats.
_NOT_ENCODED = {
    *("charttime", "storetime", "starttime", "stoptime", "endtime", "intime", "outtime"),
    *("labevent_id", "microevent_id", "micro_specimen_id", "pharmacy_id", "orderid", "linkorderid"),
}


class Tables:
    """The open Parquet files of one hospital. Use as a context manager.

    Without `events` the tables of `EVENT_SCHEMAS` are left out.
    """

    def __init__(self, out: Path, *, events: bool = True) -> None:
        self._out = out
        self._schemas = SCHEMAS if events else BASE_SCHEMAS
        self._stack = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}
        self.rows = dict.fromkeys(self._schemas, 0)
        """Rows of each table so far."""

    def __enter__(self) -> Self:
        for table, columns in self._schemas.items():
            path = self._out / f"{table}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            encoded = [name for name in columns if name not in _NOT_ENCODED]
            writer = pq.ParquetWriter(
                path, pa.schema(columns.items()), compression="snappy", use_dictionary=encoded, write_statistics=False
            )
            self._writers[table] = self._stack.enter_context(writer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Add rows; columns of the schema that are not given are null. Raises `KeyError` for a column it lacks."""
        schema = self._schemas[table]
        unknown = columns.keys() - schema.keys()
        if unknown:
            raise KeyError(f"{table} has no column {', '.join(sorted(unknown))}")
        rows = len(next(iter(columns.values())))
        arrays = [
            pa.nulls(rows, kind) if name not in columns else _as_array(columns[name], kind)
            for name, kind in schema.items()
        ]
        self._writers[table].write_table(pa.Table.from_arrays(arrays, names=list(schema)))
        self.rows[table] += rows


def _as_array(column: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.Array):
        return column.cast(kind)
    return pa.array(column, kind)


def moments(seconds: NDArray[np.int64]) -> pa.Array:
    """Times from seconds since `course.EPOCH`; null where negative."""
    stamps = (EPOCH.astype("datetime64[us]").astype(np.int64) + seconds * 1_000_000).view("datetime64[us]")
    return pa.array(stamps, mask=seconds < 0)


def dates(seconds: NDArray[np.int64]) -> pa.Array:
    """Days from seconds since `course.EPOCH`; null where negative."""
    return moments(seconds).cast(DATE, safe=False)


def chosen(choices: Sequence[str | None], picks: NDArray[np.integer[Any]]) -> pa.Array:
    """``choices[pick]`` of every row, stored as a dictionary."""
    return pa.DictionaryArray.from_arrays(pa.array(picks.astype(np.int32)), pa.array(choices, TEXT))


def number_texts(values: NDArray[np.float64]) -> pa.Array:
    """Numbers of at most two decimals as the hospital's system prints them (98.6, 120), stored as a dictionary."""
    hundredths = pa.array(np.rint(values * 100).astype(np.int64)).dictionary_encode()
    texts = [
        str(number // 100) if number % 100 == 0 else repr(number / 100) for number in hundredths.dictionary.to_pylist()
    ]
    return pa.DictionaryArray.from_arrays(hundredths.indices, pa.array(texts, TEXT))


def texts_by_item(items: NDArray[np.int64], texts: Mapping[int, str]) -> pa.Array:
    """The text of each row's item (its unit, say), null for items without one; stored as a dictionary."""
    known = np.array(sorted(texts))
    place = np.minimum(np.searchsorted(known, items), len(known) - 1)
    found = known[place] == items
    dictionary = pa.array([texts[int(item)] for item in known], TEXT)
    return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32), mask=~found), dictionary)
