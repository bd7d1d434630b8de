"""Reading CSV files as published, gzipped or not: Arrow parses what ISA-L decompresses, some MiB at a time.

DuckDB's own reader takes longer for it, and 2.0 drops a last line that is longer than its buffer without a word.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from isal import igzip, isal_zlib

from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 21
"""Bytes that are parsed at a time. A row that does not fit is refused; the published ones have some thousand."""

SHOWN = 80
"""Characters of a faulty cell or row that an error shows."""

_UNREADABLE: tuple[type[Exception], ...] = (OSError, EOFError, isal_zlib.error, UnicodeDecodeError, csv.Error)
_EXPECTED = {
    "int64": "a whole number, without a decimal point",
    "double": "a number",
    "timestamp[us]": "a time such as 2180-05-06 22:23:00",
    "string": "text in UTF-8",
}
_LONG_CELL = re.compile(r'"(?:[^"]|"")*"?|[^,\r\n]+')


@contextmanager
def open_csv(path: Path, columns: Mapping[str, str]) -> Iterator[pa.RecordBatchReader]:
    """The named columns of a CSV file in batches of rows, to be read once; `columns` tells their DuckDB types.

    An empty cell is NULL. The file is closed at the end of the block. Raises `BackdoorError` where the beginning
    cannot be read; for what comes later, the reader raises what `csv_error` puts into words.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    types = {
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "TIMESTAMP": pa.timestamp("us"),
        "VARCHAR": pa.string(),
    }
    with _opened(path) as file:
        try:
            reader = pc.open_csv(
                file,
                read_options=pc.ReadOptions(block_size=BLOCK),
                parse_options=pc.ParseOptions(newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    include_columns=list(columns),
                    column_types={column: types[type_] for column, type_ in columns.items()},
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, *_UNREADABLE) as error:
            raise BackdoorError(f"{path}: {csv_error(path, str(error)) or _unreadable(error)}") from None
        with reader:
            yield reader


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], igzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def beginning(path: Path) -> tuple[list[str], bool]:
    """The header and whether anything comes after it. Raises `BackdoorError` where the file cannot be read."""
    try:
        with _opened(path) as file:
            line = file.readline(BLOCK).decode("utf-8-sig")
            return next(csv.reader([line]), []), bool(file.read(1))
    except _UNREADABLE as error:
        raise BackdoorError(f"{path}: {_unreadable(error)}") from None


def _unreadable(error: object) -> str:
    return f"cannot be read ({error}); expected CSV as published"


def csv_error(path: Path, message: str) -> str | None:
    """What is wrong with a CSV file, of Arrow's or DuckDB's message about it; `None` where it says nothing of CSV."""
    if found := re.search(r"In CSV column #(\d+): .*?error to (\S+): (.*)", message, re.DOTALL):
        value = re.search(r"'(.*)'", found[3], re.DOTALL)
        told = f"holds {_shown(value[1])}" if value else f"holds {found[3]}"
        return f"column {beginning(path)[0][int(found[1])]} {told}; expected {_EXPECTED[found[2]]}"
    if found := re.search(r"Expected (\d+) columns, got (\d+): (.*)", message, re.DOTALL):
        return f"a row has {found[2]} cells: {_shown(found[3])}; expected {found[1]}, as in the header"
    if "straddles two block boundaries" in message:
        return _overlong(path)
    if found := re.search(r"failed: IOError: (.*?)\. Detail: Python exception", message, re.DOTALL):
        return _unreadable(found[1])
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _overlong(path: Path) -> str:
    """Line and column of the first cell with more characters than Python's csv takes (131,072).

    Reads the file again up to there, a piece at a time.
    """
    held: list[str] = []
    line = 1

    def pieces(file: IO[str]) -> Iterator[str]:
        while piece := file.readline(BLOCK):
            held.append(piece)
            yield piece

    with io.TextIOWrapper(_opened(path), encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            for _ in csv.reader(pieces(file)):
                line += sum(piece.endswith("\n") for piece in held)
                held.clear()
        except csv.Error:
            column = _longest("".join(held), beginning(path)[0])
            return (
                f"column {column} holds an overlong cell, or a quote that is never closed, in line {line} "
                f"({BLOCK} bytes a row can be read); expected text as published"
            )
        except _UNREADABLE as error:
            return _unreadable(error)
    return f"a row is longer than {BLOCK} bytes; expected CSV as published"


def _longest(row: str, header: list[str]) -> str:
    """In which column the longest cell of the beginning of a row is."""
    cells = sorted(_LONG_CELL.finditer(row), key=lambda cell: cell.start() - cell.end())
    commas = re.sub(r'"(?:[^"]|"")*"', "", row[: cells[0].start()]).count(",")
    return header[min(commas, len(header) - 1)]
