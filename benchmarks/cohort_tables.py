"""Simulated raw tables of a given size, kept in a folder; as thinly filled as MIMIC-IV's, if wanted.

The simulator charts little that a cohort does not use. In MIMIC-IV 4% of the rows of chartevents are used by the
core30 table of the first 24 hours (measured on the open demo): the others are of other items or from later days.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backdoor_cohorts.simulate import simulate
from backdoor_cohorts.simulate.csv_copies import write_csv_copies

SEED = 42
PILOT = 500
"""Stays that are simulated to learn how many rows a stay has."""
FAR_APART = 4096
"""Rows between two copies of a row."""
PADDED = {
    "icu/chartevents": ("itemid", pa.scalar(10_000_000)),
    "hosp/labevents": ("charttime", pa.scalar(timedelta(days=7))),
}
"""Table -> the column in which an added row differs from the simulated one, and by how much."""


def raw_tables(data: Path, rows: int, unused: int, formats: Sequence[str]) -> tuple[Path, dict[str, int]]:
    """The folder of the simulated tables (a folder in it for each format), made where it is not there yet."""
    folder = data / f"{rows}-rows-{unused}-unused"
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "rows.json"
    if not (told.exists() and (folder / "parquet").exists()):
        _make(folder / "parquet", lambda out: told.write_text(json.dumps(_simulated(out, rows, unused))))
    if "csv.gz" in formats and not (folder / "csv.gz").exists():
        _make(folder / "csv.gz", lambda out: write_csv_copies(folder / "parquet", out))
    return folder, json.loads(told.read_text())


def _make(out: Path, make: Callable[[Path], object]) -> None:
    print(f"making {out}", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        make(Path(folder) / "made")
        (Path(folder) / "made").rename(out)


def _simulated(out: Path, rows: int, unused: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        pilot = simulate(Path(folder), PILOT, SEED, events=False)
    stays = max(PILOT, round(rows * PILOT / pilot.rows["icu/chartevents"] / (1 + unused)))
    made = simulate(out, stays, SEED)
    padded = {table: _pad(out / f"{table}.parquet", table, unused) for table in PADDED}
    return {"stays": made.stays, "included": made.included, **made.rows, **padded}


def _pad(path: Path, table: str, unused: int) -> int:
    """Add `unused` rows for each that no view takes, as a rule: of other items, or weeks after the ICU.

    Mixed with the simulated ones within each row group, so that no reader can pass over a row group. The copies of a
    row lie too far apart for gzip to see that they are alike.
    """
    column, step = PADDED[table]
    written = path.with_suffix(".padded")
    source = pq.ParquetFile(path)
    with pq.ParquetWriter(written, source.schema_arrow, compression="snappy", write_statistics=False) as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            pieces = []
            for start in range(0, len(rows), FAR_APART):
                piece = rows.slice(start, FAR_APART)
                pieces += [_shifted(piece, column, [step] * copy) for copy in range(1 + unused)]
            writer.write_table(pa.concat_tables(pieces))
    written.replace(path)
    return int(source.metadata.num_rows * (1 + unused))


def _shifted(rows: pa.Table, column: str, steps: Sequence[pa.Scalar]) -> pa.Table:
    values = rows[column]
    for step in steps:
        values = pc.add(values, step)
    return rows.set_column(rows.column_names.index(column), rows.schema.field(column), values)
