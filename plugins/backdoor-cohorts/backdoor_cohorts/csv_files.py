"""What DuckDB does not tell of a CSV file: its header, and which cell made a line too long."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path

from backdoor_core.errors import BackdoorError

LONGEST_LINE = 8_000_000
"""Bytes of one line of CSV; the published ones have some thousand at most."""

SHOWN = 9_000
"""Characters of a faulty line that DuckDB shows, or a little fewer; a line that fills them has an overlong cell."""


def beginning(path: Path) -> tuple[list[str], bool]:
    """The header and whether anything comes after it. Raises `BackdoorError` where the file cannot be read."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            line = file.readline(LONGEST_LINE)
            return next(csv.reader([line]), []), bool(file.read(1))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise BackdoorError(f"{path}: cannot be read ({error}); expected CSV as published") from None


def overlong(path: Path, message: str) -> str | None:
    """Of a DuckDB error about a line that is too long: line and column in words. `None` for any other error."""
    found = re.search(r"on Line: (\d+)\nOriginal Line: (.*?)\n", message, re.DOTALL)
    if found is None or ("Maximum line size" not in message and len(found[2]) < SHOWN):
        return None
    # DuckDB shows the beginning of the line, which ends within the long cell or soon after it.
    cells = [len(cell) for cell in found[2].split(",")]
    header, _ = beginning(path)
    column = header[min(cells.index(max(cells)), len(header) - 1)]
    return (
        f"column {column} holds an overlong cell in line {found[1]} ({LONGEST_LINE} bytes a line can be read); "
        "expected text as published"
    )
