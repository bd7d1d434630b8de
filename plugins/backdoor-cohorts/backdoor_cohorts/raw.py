"""Opening a folder of raw MIMIC-IV tables: finding the files, checking columns and types.

Only the columns of `backdoor_cohorts.layout` are read, by name, so that versions may differ in the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from backdoor_cohorts.csv_files import LONGEST_LINE, beginning
from backdoor_cohorts.database import blaming
from backdoor_cohorts.engine import Database, Reader
from backdoor_cohorts.layout import CHARTED, EVENTS, INSTEAD, TABLES, all_columns, columns_read
from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""Fastest first; the first that exists is read."""

MOST_CHARACTERS = 100_000
"""Longest cell of text. The longest that is published is a comment of a few thousand."""

_KEYS = {"hosp/patients": "subject_id", "hosp/admissions": "hadm_id", "icu/icustays": "stay_id"}
_LOADED = (*_KEYS, "hosp/d_labitems", "icu/d_items")
_MEASURED = (*CHARTED, "hosp/labevents")

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_TIMES = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_ACCEPTED: dict[str, tuple[str, ...]] = {
    "BIGINT": _INTEGERS,
    "DOUBLE": (*_INTEGERS, "FLOAT", "DOUBLE", "DECIMAL"),
    "TIMESTAMP": _TIMES,
    "DATE": ("DATE", *_TIMES),
    "VARCHAR": ("VARCHAR", "ENUM"),
    # The label: some converters leave the flag as text, and comparing '1' with 1 once made every label 0.
    "INTEGER": (*_INTEGERS, "VARCHAR", "BOOLEAN", "FLOAT", "DOUBLE"),
}


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


def open_tables(
    connection: Database, raw: Path, inclusion: Inclusion, itemids: Sequence[int], *, reader: Reader | None = None
) -> dict[str, Path]:
    """Create one relation for each raw table, named as in MIMIC-IV without its folder; return their files.

    The small tables are loaded; the event tables become views, so that each is read once, by the step that filters
    it. A column that this inclusion does not need is NULL there and not read; of chartevents, outputevents and
    (without the events view) labevents as Parquet only `itemids` are. `reader` is how another engine than DuckDB
    reads a file. Raises `BackdoorError` naming file and column where a table is not as published.
    """
    check_folders(raw)
    everything, wanted = all_columns(), columns_read(inclusion)
    paths = {table: raw_file(raw, table) for table in wanted}
    for table, path in paths.items():
        name = table.split("/")[1]
        opened = (reader or open_reader)(connection, path, wanted[table])
        columns = ", ".join(
            cell(column, type_) if column in wanted[table] else f"CAST(NULL AS {sql_type(type_)}) AS {column}"
            for column, type_ in everything[table].items()
        )
        # Lets whole row groups of Parquet be passed over; with CSV it would only cost, and the step filters anyway.
        some = table in _MEASURED and not (table == "hosp/labevents" and "events" in inclusion.views)
        some = some and path.suffix == ".parquet"
        chosen = f" WHERE itemid IN ({', '.join(map(str, sorted(itemids)))})" if some else ""
        with blaming(path):
            kind = "TABLE" if table in _LOADED else "VIEW"
            connection.execute(f"CREATE {kind} {name} AS SELECT {columns} FROM {opened}{chosen}")
        if table in _KEYS:
            _check_key(connection, name, _KEYS[table], path)
    _check_links(connection, paths)
    _check_codes(connection, paths)
    return {table.split("/")[1]: path for table, path in paths.items()}


def open_reader(connection: Database, path: Path, columns: Mapping[str, str]) -> str:
    """The DuckDB expression that reads a raw file. Raises `BackdoorError` where a column or every row is missing."""
    return _parquet(connection, path, columns) if path.suffix == ".parquet" else _csv(path, columns)


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


def _parquet(connection: Database, path: Path, columns: Mapping[str, str]) -> str:
    reader = f"read_parquet({_quoted(str(path))})"
    with blaming(path):
        described = connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()
        ((rows,),) = connection.execute(
            f"SELECT SUM(num_rows) FROM parquet_file_metadata({_quoted(str(path))})"
        ).fetchall()
    found = {str(row[0]): str(row[1]) for row in described}
    _check_columns(columns, path, list(found))
    for column, wanted in columns.items():
        # DECIMAL(18,3) and ENUM('a', 'b') carry their parameters in the name.
        if found[column].split("(")[0] not in _ACCEPTED[wanted]:
            raise BackdoorError(f"{path}: column {column} is {found[column]}; expected {wanted}")
    if not rows:
        raise BackdoorError(f"{path}: the table has no rows; expected it as published")
    return reader


def _csv(path: Path, columns: Mapping[str, str]) -> str:
    header, more = beginning(path)
    _check_columns(columns, path, header)
    if not more:
        raise BackdoorError(f"{path}: the table has no rows; expected it as published")
    # A column that is not read is not parsed either, so VARCHAR costs nothing.
    types = {column: sql_type(columns.get(column, "VARCHAR")) for column in header}
    if "hospital_expire_flag" in types:
        types["hospital_expire_flag"] = "VARCHAR"
    listed = ", ".join(f"{_quoted(column)}: '{type_}'" for column, type_ in types.items())
    # Not parallel: with several threads DuckDB 2.0 drops a last line that is longer than its buffer, without a word.
    # It costs little, because a gzip stream is serial anyway and several files are read side by side.
    return (
        f"read_csv({_quoted(str(path))}, header = true, auto_detect = false, delim = ',', quote = '\"', "
        f"escape = '\"', max_line_size = {LONGEST_LINE}, buffer_size = {4 * LONGEST_LINE}, parallel = false, "
        f"columns = {{{listed}}})"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _check_columns(columns: Mapping[str, str], path: Path, found: list[str]) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise BackdoorError(f"{path}: column {missing[0]} is missing; expected {', '.join(columns)}")


def _check_key(connection: Database, name: str, key: str, path: Path) -> None:
    with blaming(path):
        bad = connection.execute(
            f"SELECT {key}, COUNT(*) FROM {name} GROUP BY {key} HAVING COUNT(*) > 1 OR {key} IS NULL "
            f"ORDER BY {key} NULLS FIRST LIMIT 1"
        ).fetchall()
    for value, count in bad:
        what = "is empty in" if value is None else f"{value} is in"
        raise BackdoorError(f"{path}: column {key}: {what} {count} rows; expected one row for each {key}")


def _check_links(connection: Database, paths: dict[str, Path]) -> None:
    for other, on, columns in (
        ("hosp/admissions", "i.hadm_id = o.hadm_id AND i.subject_id = o.subject_id", "hadm_id with its subject_id"),
        ("hosp/patients", "i.subject_id = o.subject_id", "subject_id"),
    ):
        ((stay, count),) = connection.execute(
            f"SELECT MIN(i.stay_id), COUNT(*) FROM icustays AS i LEFT JOIN {other.split('/')[1]} AS o ON {on} "
            "WHERE o.subject_id IS NULL"
        ).fetchall()
        if count:
            raise BackdoorError(
                f"{paths['icu/icustays']}: stay_id {stay} and {count - 1} more have no row in {paths[other]}; "
                f"expected each {columns} there"
            )


def _check_codes(connection: Database, paths: dict[str, Path]) -> None:
    for table, column, allowed in (("admissions", "hospital_expire_flag", "0, 1"), ("patients", "gender", "'F', 'M'")):
        query = f"SELECT MIN({column}) FROM {table} WHERE {column} NOT IN ({allowed})"
        ((value,),) = connection.execute(query).fetchall()
        if value is not None:
            raise BackdoorError(f"{paths[f'hosp/{table}']}: column {column} holds {value!r}; expected {allowed}")
