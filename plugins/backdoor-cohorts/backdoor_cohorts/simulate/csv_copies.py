"""The same tables as gzipped CSV, as MIMIC-IV is published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

AT_ONCE = 2
"""Tables that are written side by side: a gzip stream is serial."""


def write_csv_copies(raw: Path, out: Path) -> None:
    """Write ``out/hosp/*.csv.gz`` and ``out/icu/*.csv.gz`` from the Parquet files of `raw`, the same rows in order.

    In bounded memory. Times are written to the second, missing values as nothing; equal tables give equal bytes.
    """
    # The longest first, so that it is not the last to end.
    paths = sorted(raw.glob("*/*.parquet"), key=lambda path: (-path.stat().st_size, path))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        copies = [pool.submit(_write_copy, path, out / path.parent.name / f"{path.stem}.csv.gz") for path in paths]
        for copy in copies:
            copy.result()


def _write_copy(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    # Of its own, because statements of one connection wait for each other; more threads would only hold more rows.
    with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"COPY (SELECT * FROM read_parquet({_quoted(path)})) TO {_quoted(copy)} "
            "(FORMAT csv, HEADER true, COMPRESSION gzip)"
        )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
