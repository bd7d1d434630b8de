"""Reading a user's file, column by column, each as what it is meant to be or one line that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError
from backdoor_core.files import is_utf8

_CSV = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
SUFFIXES = (".parquet", ".csv", ".csv.gz")


def read(path: Path) -> Frame:
    """A Parquet or CSV file. Raises `BackdoorError` where it is damaged, of another kind, not UTF-8, or empty."""
    if not path.name.endswith(SUFFIXES):
        raise BackdoorError(f"{path}: unknown kind of file; expected one ending in {', '.join(SUFFIXES)}")
    is_csv = path.suffix != ".parquet"
    try:
        table = pyarrow.csv.read_csv(path, convert_options=_CSV) if is_csv else pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        # What Arrow says of another encoding is not what is wrong. To look costs a pass, so only where it failed.
        if is_csv and not is_utf8(_portions(path)):
            raise _not_utf8(path) from None
        raise BackdoorError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if is_csv and not _is_decoded(table):
        raise _not_utf8(path)
    double = [name for name in table.column_names if table.column_names.count(name) > 1]
    if double:
        raise BackdoorError(f"{path}: column {double[0]} is there twice; expected each name once")
    if table.num_rows == 0:
        raise BackdoorError(f"{path}: the table has no rows; expected one row a stay")
    return Frame(path, table)


def _is_decoded(table: pa.Table) -> bool:
    """Whether what Arrow read from a CSV file is text; what does not decode it takes for bytes."""
    try:
        names = table.column_names
    except UnicodeDecodeError:
        return False
    return not (any(pa.types.is_binary(field.type) for field in table.schema) or any("\0" in name for name in names))


def _portions(path: Path) -> Iterator[bytes]:
    """The bytes of a file, as far as it can be read."""
    try:
        with pa.input_stream(str(path)) as stream:
            while portion := stream.read(2**20):
                yield portion
    except OSError:
        return


def _not_utf8(path: Path) -> BackdoorError:
    return BackdoorError(f"{path}: the file is not UTF-8; save it as UTF-8")


@dataclass(frozen=True)
class Frame:
    """A table and where it is from. Each method raises `BackdoorError` naming file and column."""

    path: Path
    table: pa.Table

    def numeric(self) -> tuple[str, ...]:
        """The columns of numbers and truth values."""
        return tuple(field.name for field in self.table.schema if _is_numeric(field.type))

    def integers(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers without an empty cell."""
        column = self._column(name)
        self.refuse_empty(name, column.is_null().to_numpy())
        if not pa.types.is_integer(column.type):
            raise self._wrong(name, column.type, "whole numbers")
        try:
            return column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid as error:
            raise BackdoorError(f"{self.path}: column {name} does not fit int64 ({error})") from None

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where empty; finite as float32."""
        column = self._column(name)
        if not _is_numeric(column.type) and not pa.types.is_null(column.type):
            raise self._wrong(name, column.type, "numbers")
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        values = np.array(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan), np.float64)
        wide = np.abs(values) > np.finfo(np.float32).max
        if wide.any():
            row = int(wide.argmax())
            raise BackdoorError(
                f"{self.path}: column {name}: row {row + 1} holds {values[row]:g}; expected finite numbers"
            )
        return values

    def label(self, name: str) -> NDArray[np.int8]:
        """A column of 0 and 1 (or false and true) without an empty cell."""
        values = self.numbers(name)
        self.refuse_empty(name, np.isnan(values))
        other = ~np.isin(values, (0, 1))
        if other.any():
            row = int(other.argmax())
            raise BackdoorError(f"{self.path}: column {name}: row {row + 1} holds {values[row]:g}; expected 0 or 1")
        return values.astype(np.int8)

    def times(self, name: str) -> NDArray[np.datetime64]:
        """A column of times without an empty cell."""
        column = self._column(name)
        self.refuse_empty(name, column.is_null().to_numpy())
        if not pa.types.is_timestamp(column.type) or column.type.tz is not None:
            raise self._wrong(name, column.type, "times without a zone, such as 2150-01-31 12:00:00")
        return column.cast(pa.timestamp("us"), safe=False).to_numpy()

    def static(self, name: str) -> pa.Array:
        """A column of numbers or text as it is."""
        column = self._column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not (_is_numeric(column.type) or pa.types.is_null(column.type) or _is_text(column.type)):
            raise self._wrong(name, column.type, "numbers or text")
        return pa.concat_arrays(column.chunks)

    def refuse_empty(self, name: str, empty: NDArray[np.bool_]) -> None:
        """Refuse an empty cell."""
        if empty.any():
            raise BackdoorError(
                f"{self.path}: column {name} is empty in {int(empty.sum())} rows, first in row "
                f"{int(empty.argmax()) + 1}; expected a value in each"
            )

    def refuse_twice(self, name: str, values: NDArray[np.int64]) -> None:
        """Refuse a value that stands twice."""
        unique, counts = np.unique(values, return_counts=True)
        if (counts > 1).any():
            place = int((counts > 1).argmax())
            raise BackdoorError(
                f"{self.path}: column {name} holds {unique[place]} in {counts[place]} rows; expected each {name} once"
            )

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.table.column_names:
            raise BackdoorError(
                f"{self.path}: column {name} is missing; the file has {', '.join(self.table.column_names[:12])}"
            )
        return self.table.column(name)

    def _wrong(self, name: str, found: Any, expected: str) -> BackdoorError:
        return BackdoorError(f"{self.path}: column {name} is {found}; expected {expected}")


def _is_numeric(type_: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(type_) for test in tests)


def _is_text(type_: pa.DataType) -> bool:
    return any(test(type_) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
