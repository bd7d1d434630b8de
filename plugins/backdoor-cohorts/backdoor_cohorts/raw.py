"""Opening a folder of raw MIMIC-IV tables: finding the files, checking columns and types.

Only the columns of `backdoor_cohorts.layout` are read, by name, so that versions may differ in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_cohorts.csv_files import beginning, open_csv
from backdoor_cohorts.database import blaming
from backdoor_cohorts.engine import Database, Reader
from backdoor_cohorts.layout import CHARTED, EVENTS, INSTEAD, TABLES, all_columns, columns_read
from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""Fastest first; the first that exists is read."""

MOST_CHARACTERS = 100_000
"""Longest cell of text. The longest that is published is a comment of a few thousand."""

_KEYS = {"patients": "subject_id", "admissions": "hadm_id", "icustays": "stay_id"}
_LOADED = (*_KEYS, "d_labitems", "d_items")
_MEASURED = (*CHARTED, "hosp/labevents")


def find_file(raw: Path, table: str) -> Path | None:
    """The file of one table (such as ``icu/icustays``) or of the one read instead of it, if there is any."""
    for name in (table, INSTEAD.get(table, table)):
        for suffix in SUFFIXES:
            if (path := raw / f"{name}{suffix}").is_file():
                return path
    return None


def raw_file(raw: Path, table: str) -> Path:
    """Like `find_file`. Raises `BackdoorError` where there is none."""
    if (path := find_file(raw, table)) is not None:
        return path
    more = "" if table in TABLES else ", or inclusion.views without events"
    raise BackdoorError(f"{raw / table}: no such table; expected a file ending in {', '.join(SUFFIXES)}{more}")


def raw_files(raw: Path) -> list[Path]:
    """The six files that every cohort is made from, and those for the events view that are there.

    Raises `BackdoorError` where the folder, its `hosp` or `icu`, or one of the six is missing.
    """
    check_folders(raw)
    events = [find_file(raw, table) for table in EVENTS if table not in TABLES]
    return [*(raw_file(raw, table) for table in TABLES), *(path for path in events if path is not None)]


def check_folders(raw: Path) -> None:
    """Raises `BackdoorError` where the folder, its `hosp` or its `icu` is missing."""
    for folder in (raw, raw / "hosp", raw / "icu"):
        if not folder.is_dir():
            raise BackdoorError(f"{folder}: no such folder; expected a MIMIC-IV folder with hosp/ and icu/ in it")


@dataclass(frozen=True)
class RawTable:
    """A raw table that was found to be as published, and what is wanted of it."""

    name: str
    """As in MIMIC-IV, without its folder."""
    path: Path
    wanted: Mapping[str, str]
    """Column -> DuckDB type of what is read."""
    columns: Mapping[str, str]
    """Likewise with what is not: NULL in the relation."""
    itemids: tuple[int, ...] = ()
    """The items that are read; none: all."""

    def select(self, source: str) -> str:
        """The query that makes the relation of `source`, an expression that stands after FROM."""
        columns = ", ".join(
            cell(column, type_) if column in self.wanted else f"CAST(NULL AS {sql_type(type_)}) AS {column}"
            for column, type_ in self.columns.items()
        )
        chosen = f" WHERE itemid IN ({', '.join(map(str, self.itemids))})" if self.itemids else ""
        return f"SELECT {columns} FROM {source}{chosen}"


def find_tables(raw: Path, inclusion: Inclusion, itemids: Sequence[int]) -> dict[str, RawTable]:
    """Name -> table, of all that this inclusion needs; each file's columns, types and rows are checked.

    A column that this inclusion does not need is not read; of chartevents, outputevents and (without the events view)
    labevents as Parquet only `itemids` are. Raises `BackdoorError` naming file and column where a table is missing or
    not as published.
    """
    check_folders(raw)
    everything, wanted = all_columns(), columns_read(inclusion)
    paths = {table: raw_file(raw, table) for table in wanted}
    tables = {}
    for table, path in paths.items():
        check_file(path, wanted[table])
        # Lets whole row groups of Parquet be passed over; with CSV it would only cost, and the step filters anyway.
        some = table in _MEASURED and not (table == "hosp/labevents" and "events" in inclusion.views)
        some = some and path.suffix == ".parquet"
        name = table.split("/")[1]
        tables[name] = RawTable(name, path, wanted[table], everything[table], tuple(sorted(itemids)) if some else ())
    return tables


def load_tables(connection: Database, tables: Mapping[str, RawTable], reader: Reader) -> None:
    """Read the small ones of `tables` (all but those of events). Raises `BackdoorError` where a row is not possible."""
    for name in _LOADED:
        if name in tables:
            table = tables[name]
            with blaming(table.path), reader(connection, table.path, table.wanted) as source:
                connection.execute(f"CREATE TABLE {name} AS {table.select(source)}")
    for name, key in _KEYS.items():
        _check_key(connection, name, key, tables[name].path)
    _check_links(connection, tables)
    _check_codes(connection, tables)


@contextmanager
def viewed(connection: Database, table: RawTable, reader: Reader) -> Iterator[None]:
    """Within the block, a view of `connection` has the name of `table` and reads its file; once, where that is CSV."""
    with reader(connection, table.path, table.wanted) as source:
        connection.execute(f"CREATE TEMP VIEW {table.name} AS {table.select(source)}")
        yield


@contextmanager
def open_reader(connection: DuckDBPyConnection, path: Path, columns: Mapping[str, str]) -> Iterator[str]:
    """The DuckDB expression that reads a raw file, for `connection` and within the block."""
    if path.suffix == ".parquet":
        yield f"read_parquet({_quoted(str(path))})"
        return
    name = f"csv_of_{path.name.split('.')[0]}"
    with open_csv(path, {column: sql_type(type_) for column, type_ in columns.items()}) as rows:
        connection.register(name, rows)
        try:
            yield name
        finally:
            connection.unregister(name)


def check_file(path: Path, columns: Mapping[str, str]) -> None:
    """Raises `BackdoorError` where a column or every row is missing, or a column of Parquet is of another type."""
    if path.suffix == ".parquet":
        schema, rows = _parquet(path)
        found = schema.names
    else:
        found, rows = beginning(path)
    missing = [column for column in columns if column not in found]
    if missing:
        raise BackdoorError(f"{path}: column {missing[0]} is missing; expected {', '.join(columns)}")
    if path.suffix == ".parquet":
        for column, wanted in columns.items():
            if not _accepted(schema.field(column).type, wanted):
                raise BackdoorError(f"{path}: column {column} is {schema.field(column).type}; expected {wanted}")
    if not rows:
        raise BackdoorError(f"{path}: the table has no rows; expected it as published")


def _parquet(path: Path) -> tuple[pa.Schema, bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows > 0
    except (pa.ArrowInvalid, OSError) as error:
        raise BackdoorError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _accepted(type_: pa.DataType, wanted: str) -> bool:
    import pyarrow.types as pt

    if pt.is_dictionary(type_):
        type_ = type_.value_type
    whole, text = pt.is_integer(type_), pt.is_string(type_) or pt.is_large_string(type_)
    time = pt.is_timestamp(type_) and type_.tz is None
    accepted = {
        "BIGINT": whole,
        "DOUBLE": whole or pt.is_floating(type_) or pt.is_decimal(type_),
        "TIMESTAMP": time,
        "DATE": time or pt.is_date(type_),
        "VARCHAR": text,
        # The label: some converters leave the flag as text, and comparing '1' with 1 once made every label 0.
        "INTEGER": whole or text or pt.is_boolean(type_) or pt.is_floating(type_),
    }
    return bool(accepted[wanted])


def cell(column: str, type_: str) -> str:
    """The SQL expression of one column, of its type, that refuses an overlong text."""
    cast = f'CAST("{column}" AS {sql_type(type_)})'
    if type_ != "VARCHAR":
        return f'{cast} AS "{column}"'
    told = f"column {column} holds a cell of more than {MOST_CHARACTERS} characters; expected text as published"
    return f'CASE WHEN STRLEN({cast}) > {MOST_CHARACTERS} THEN ERROR({_quoted(told)}) ELSE {cast} END AS "{column}"'


def sql_type(type_: str) -> str:
    """The DuckDB type that a column of a type of `TABLES` is read as."""
    # The label as DOUBLE, so that a NaN or a 0.5 is found, not rounded.
    return {"DATE": "TIMESTAMP", "INTEGER": "DOUBLE"}.get(type_, type_)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _check_key(connection: Database, name: str, key: str, path: Path) -> None:
    with blaming(path):
        bad = connection.execute(
            f"SELECT {key}, COUNT(*) FROM {name} GROUP BY {key} HAVING COUNT(*) > 1 OR {key} IS NULL "
            f"ORDER BY {key} NULLS FIRST LIMIT 1"
        ).fetchall()
    for value, count in bad:
        what = "is empty in" if value is None else f"{value} is in"
        raise BackdoorError(f"{path}: column {key}: {what} {count} rows; expected one row for each {key}")


def _check_links(connection: Database, tables: Mapping[str, RawTable]) -> None:
    for other, on, columns in (
        ("admissions", "i.hadm_id = o.hadm_id AND i.subject_id = o.subject_id", "hadm_id with its subject_id"),
        ("patients", "i.subject_id = o.subject_id", "subject_id"),
    ):
        ((stay, count),) = connection.execute(
            f"SELECT MIN(i.stay_id), COUNT(*) FROM icustays AS i LEFT JOIN {other} AS o ON {on} "
            "WHERE o.subject_id IS NULL"
        ).fetchall()
        if count:
            raise BackdoorError(
                f"{tables['icustays'].path}: stay_id {stay} and {count - 1} more have no row in {tables[other].path}; "
                f"expected each {columns} there"
            )


def _check_codes(connection: Database, tables: Mapping[str, RawTable]) -> None:
    for table, column, allowed in (("admissions", "hospital_expire_flag", "0, 1"), ("patients", "gender", "'F', 'M'")):
        query = f"SELECT MIN({column}) FROM {table} WHERE {column} NOT IN ({allowed})"
        ((value,),) = connection.execute(query).fetchall()
        if value is not None:
            raise BackdoorError(f"{tables[table].path}: column {column} holds {value!r}; expected {allowed}")
