"""The DuckDB database in which a cohort is made, and the SQL steps in `sql/`.

The steps talk to each other through tables. In: `settings` (the inclusion rules), `features`, `item_map`,
and a source's `candidates` and `observations`. Out: `attrition`, `stays`, `measurements`, `table_core30`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_cohorts.features import DICTIONARY, Item
from backdoor_core.contracts import Feature, Inclusion
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TABLES = """
CREATE TABLE settings (window_hours INTEGER, min_age INTEGER, min_los_hours DOUBLE);
CREATE TABLE features (feature VARCHAR, aggregate VARCHAR, low DOUBLE, high DOUBLE);
CREATE TABLE item_map (source VARCHAR, itemid BIGINT, feature VARCHAR, conversion VARCHAR, preference INTEGER,
                       low DOUBLE, high DOUBLE);
CREATE TABLE observations (stay_id BIGINT, subject_id BIGINT, itemid BIGINT, hours DOUBLE, value DOUBLE,
                           remark VARCHAR);
"""


@contextmanager
def database(scratch: Path, *, threads: int, memory: str) -> Iterator[DuckDBPyConnection]:
    """An empty database in a temporary folder of `scratch`, so that more than `memory` can be sorted and grouped.

    Raises `BackdoorError` where `threads` or `memory` is not something DuckDB takes.
    """
    import duckdb

    with tempfile.TemporaryDirectory(dir=scratch, prefix=".work-") as folder:
        try:
            connection = duckdb.connect(
                str(Path(folder) / "cohort.duckdb"),
                config={
                    "threads": threads,
                    "memory_limit": memory,
                    "temp_directory": str(Path(folder) / "spill"),
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            raise BackdoorError(
                f"threads={threads}, memory={memory!r}: {one_line(error)}; use for example threads=2, memory='2GB'"
            ) from None
        try:
            connection.execute("SET enable_progress_bar = false")
            yield connection
        finally:
            connection.close()


def one_line(error: Exception) -> str:
    """The message of a DuckDB error without its options listing, its advice and the offending record."""
    head = str(error).split("\n\n")[0]
    lines = [
        line for line in head.splitlines() if not line.startswith(("Original Line", "Possible fixes", "*", "LINE"))
    ]
    return "; ".join(line.strip() for line in lines if line.strip())


@contextmanager
def blaming(place: object) -> Iterator[None]:
    """Turn a DuckDB error in the block into a `BackdoorError` that begins with `place`."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise BackdoorError(f"{place}: {one_line(error)}; give the cohort source a larger `memory`") from None
    except (duckdb.DataError, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise BackdoorError(f"{place}: {one_line(error)}") from None


def run_step(connection: DuckDBPyConnection, step: str) -> None:
    """Run ``sql/<step>.sql``."""
    connection.execute(files("backdoor_cohorts").joinpath("sql", f"{step}.sql").read_text(encoding="utf-8"))


def prepare(
    connection: DuckDBPyConnection, inclusion: Inclusion, features: Sequence[Feature], items: Sequence[Item]
) -> None:
    """Create and fill the tables that hold the rules: `settings`, `features`, `item_map`; and empty `observations`."""
    aggregates = {entry.feature: entry.aggregate for entry in DICTIONARY}
    connection.execute(_TABLES)
    connection.execute(
        "INSERT INTO settings VALUES (?, ?, ?)", [inclusion.window_hours, inclusion.min_age, inclusion.min_los_hours]
    )
    connection.executemany(
        "INSERT INTO features VALUES (?, ?, ?, ?)", [[f.name, aggregates[f.name], f.low, f.high] for f in features]
    )
    connection.executemany(
        "INSERT INTO item_map VALUES (?, ?, ?, ?, ?, ?, ?)",
        [[i.source, i.itemid, i.feature, i.conversion, i.preference, i.low, i.high] for i in items],
    )
