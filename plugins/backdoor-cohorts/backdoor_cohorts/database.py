"""The DuckDB database in which a cohort is made, and the SQL steps in `sql/`.

The steps talk to each other through tables. In: `settings` (the inclusion rules), `features`, `item_map`,
and a source's `candidates`, `measurements` and `events` with their `codes`. Out: `attrition`, `stays`,
and `summary` with `firsts` and `lasts`, which the table view is made of.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_cohorts.csv_files import csv_error
from backdoor_cohorts.engine import Database, EngineError
from backdoor_cohorts.features import DICTIONARY, Item
from backdoor_core.contracts import Feature, Inclusion
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TABLES = """
CREATE TABLE settings (window_hours INTEGER, min_age INTEGER, min_los_hours DOUBLE, gap_hours INTEGER,
                       first_stay_only INTEGER, label VARCHAR, visibility VARCHAR);
CREATE TABLE features (place SMALLINT, feature VARCHAR, aggregate VARCHAR, low DOUBLE, high DOUBLE);
CREATE TABLE item_map (source VARCHAR, itemid INTEGER, place SMALLINT, feature VARCHAR, conversion VARCHAR,
                       preference TINYINT, low DOUBLE, high DOUBLE);
"""


_UNITS = {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", start=1)
}
RESERVE = 900_000_000
"""Bytes of `memory` that are left to Python and Arrow, which hold what is written at the moment."""
LONGEST_MESSAGE = 500


@contextmanager
def database(scratch: Path, *, threads: int, memory: str) -> Iterator[DuckDBPyConnection]:
    """An empty database that puts off what does not fit into `memory` to a temporary folder of `scratch`.

    `memory` is for the whole process, as a number with a unit (2GB, 1.5 GiB). DuckDB gets what Python and Arrow leave
    of it, at least half; below about 2 GB the process may take more than it says. `threads` holds for Arrow too.
    Raises `BackdoorError` where `threads` or `memory` is not something DuckDB takes.
    """
    import duckdb
    import pyarrow as pa

    limit = heap_bytes(memory)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".work-") as folder:
        try:
            connection = duckdb.connect(
                ":memory:",
                config={
                    "threads": threads,
                    "memory_limit": f"{limit // 1000}KB",
                    "temp_directory": str(Path(folder) / "spill"),
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            raise BackdoorError(f"threads={threads}: {one_line(error)}; use for example threads=2") from None
        arrow_threads = pa.cpu_count()
        try:
            connection.execute("SET enable_progress_bar = false")
            pa.set_cpu_count(threads)  # each holds some blocks of the CSV file that it reads
            yield connection
        finally:
            pa.set_cpu_count(arrow_threads)
            connection.close()


def heap_bytes(memory: str) -> int:
    """What Python and Arrow leave to the engine of `memory`. Raises `BackdoorError` where it is not a size."""
    limit = _bytes(memory)
    return max(limit - RESERVE, limit // 2)


def _bytes(memory: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", memory.strip(), re.IGNORECASE)
    if match is None:
        raise BackdoorError(f"memory={memory!r}: not a size; use for example memory='2GB'")
    return int(float(match[1]) * {unit.upper(): size for unit, size in _UNITS.items()}[match[2].upper()])


def one_line(error: Exception) -> str:
    """The message of a DuckDB error without its options listing, its advice and the offending record."""
    head = str(error).split("\n\n")[0]
    lines = [
        line for line in head.splitlines() if not line.startswith(("Original Line", "Possible fixes", "*", "LINE"))
    ]
    return textwrap.shorten("; ".join(line.strip() for line in lines if line.strip()), LONGEST_MESSAGE)


@contextmanager
def blaming(place: object) -> Iterator[None]:
    """Turn an error of the engine in the block into a `BackdoorError` that begins with `place`."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise BackdoorError(f"{place}: {one_line(error)}; give the cohort source a larger `memory`") from None
    except (duckdb.DataError, duckdb.IOException, duckdb.InvalidInputException, duckdb.NotSupportedError) as error:
        told = csv_error(place, str(error)) if isinstance(place, Path) else None
        raise BackdoorError(f"{place}: {told or one_line(error)}") from None
    except EngineError as error:
        raise BackdoorError(f"{place}: {error}") from None


def run_step(connection: Database, step: str) -> None:
    """Run ``sql/<step>.sql``."""
    connection.execute(query(step))


def query(step: str) -> str:
    """The text of ``sql/<step>.sql``."""
    return files("backdoor_cohorts").joinpath("sql", f"{step}.sql").read_text(encoding="utf-8")


def prepare(connection: Database, inclusion: Inclusion, features: Sequence[Feature], items: Sequence[Item]) -> None:
    """Create the tables that hold the rules: `settings`, `features`, `item_map`.

    `features` are the variables of the views (`features.variables`); items of other variables are left out.
    """
    aggregates = {entry.feature: entry.aggregate for entry in DICTIONARY}
    places = {feature.name: place for place, feature in enumerate(features)}
    connection.execute(_TABLES)
    rules = [
        inclusion.window_hours,
        inclusion.min_age,
        inclusion.min_los_hours,
        inclusion.gap_hours,
        int(inclusion.first_stay_only),
        inclusion.label,
        inclusion.visibility,
    ]
    _insert(connection, "settings", [rules])
    _insert(connection, "features", [[places[f.name], f.name, aggregates[f.name], f.low, f.high] for f in features])
    known = [i for i in items if i.feature in places]
    _insert(
        connection,
        "item_map",
        [[i.source, i.itemid, places[i.feature], i.feature, i.conversion, i.preference, i.low, i.high] for i in known],
    )


def _insert(connection: Database, table: str, rows: Sequence[Sequence[str | float]]) -> None:
    if rows:
        # As one statement: one for each row takes a tenth of a second.
        listed = (f"({', '.join(map(_literal, row))})" for row in rows)
        connection.execute(f"INSERT INTO {table} VALUES {', '.join(listed)}")


def _literal(value: str | float) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
