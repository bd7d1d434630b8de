"""Opening a folder of raw MIMIC-IV tables: which files, which columns, which types.

Only the columns listed in `TABLES` are read. Diagnoses, discharge columns and `patients.dod` are not among
them, so that nothing from after the prediction time can slip in.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_cohorts.database import blaming
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLES: dict[str, dict[str, str]] = {
    "hosp/patients": {
        "subject_id": "BIGINT",
        "gender": "VARCHAR",
        "anchor_age": "BIGINT",
        "anchor_year": "BIGINT",
    },
    "hosp/admissions": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "admittime": "TIMESTAMP",
        "deathtime": "TIMESTAMP",
        "admission_type": "VARCHAR",
        "admission_location": "VARCHAR",
        "insurance": "VARCHAR",
        "marital_status": "VARCHAR",
        "race": "VARCHAR",
        "hospital_expire_flag": "INTEGER",
    },
    "hosp/labevents": {
        "subject_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "valuenum": "DOUBLE",
    },
    "icu/icustays": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "stay_id": "BIGINT",
        "first_careunit": "VARCHAR",
        "intime": "TIMESTAMP",
        "outtime": "TIMESTAMP",
    },
    "icu/chartevents": {
        "stay_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
    },
    "icu/outputevents": {
        "stay_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "value": "DOUBLE",
    },
}
"""Table -> column -> DuckDB type of what is read."""

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""Fastest first; the first that exists is read."""

_KEYS = {"hosp/patients": "subject_id", "hosp/admissions": "hadm_id", "icu/icustays": "stay_id"}

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_ACCEPTED: dict[str, tuple[str, ...]] = {
    "BIGINT": _INTEGERS,
    "DOUBLE": (*_INTEGERS, "FLOAT", "DOUBLE", "DECIMAL"),
    "TIMESTAMP": ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
    "VARCHAR": ("VARCHAR", "ENUM"),
    # The label: some converters leave the flag as text, and comparing '1' with 1 once made every label 0.
    "INTEGER": (*_INTEGERS, "VARCHAR", "BOOLEAN"),
}


def raw_file(raw: Path, table: str) -> Path:
    """The file of one table (such as ``icu/icustays``). Raises `BackdoorError` where there is none."""
    for suffix in SUFFIXES:
        if (path := raw / f"{table}{suffix}").is_file():
            return path
    raise BackdoorError(f"{raw / table}: no such table; expected a file ending in {', '.join(SUFFIXES)}")


def raw_files(raw: Path) -> list[Path]:
    """The six files that a cohort is made from, in the order of `TABLES`.

    Raises `BackdoorError` where the folder, its `hosp` or `icu`, or a table is missing.
    """
    for folder in (raw, raw / "hosp", raw / "icu"):
        if not folder.is_dir():
            raise BackdoorError(f"{folder}: no such folder; expected a MIMIC-IV folder with hosp/ and icu/ in it")
    return [raw_file(raw, table) for table in TABLES]


def open_tables(connection: DuckDBPyConnection, raw: Path) -> dict[str, Path]:
    """Create one relation for each raw table, named as in MIMIC-IV without its folder; return their files.

    The three small tables are loaded; the event tables become views, so that each is read once, by the step
    that filters it. Raises `BackdoorError` naming file and column where a table is not as published.
    """
    paths = dict(zip(TABLES, raw_files(raw), strict=True))
    for table, path in paths.items():
        name = table.split("/")[1]
        kind = "TABLE" if table in _KEYS else "VIEW"
        reader = _parquet(connection, table, path) if path.suffix == ".parquet" else _csv(table, path)
        columns = ", ".join(f'CAST("{column}" AS {type_}) AS "{column}"' for column, type_ in TABLES[table].items())
        with blaming(path):
            connection.execute(f"CREATE {kind} {name} AS SELECT {columns} FROM {reader}")
            first = connection.execute(f"SELECT * FROM {name} LIMIT 1").fetchall()
        if not first:
            raise BackdoorError(f"{path}: the table has no rows; expected it as published")
        if table in _KEYS:
            _check_key(connection, name, _KEYS[table], path)
    _check_links(connection, paths)
    _check_codes(connection, paths)
    return {table.split("/")[1]: path for table, path in paths.items()}


def _parquet(connection: DuckDBPyConnection, table: str, path: Path) -> str:
    reader = f"read_parquet({_quoted(str(path))})"
    with blaming(path):
        described = connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()
    found = {str(row[0]): str(row[1]) for row in described}
    _check_columns(table, path, list(found))
    for column, wanted in TABLES[table].items():
        # DECIMAL(18,3) and ENUM('a', 'b') carry their parameters in the name.
        if found[column].split("(")[0] not in _ACCEPTED[wanted]:
            raise BackdoorError(f"{path}: column {column} is {found[column]}; expected {wanted}")
    return reader


def _csv(table: str, path: Path) -> str:
    header = _header(path)
    _check_columns(table, path, header)
    # A column that is not read is not parsed either, so VARCHAR costs nothing.
    types = {column: TABLES[table].get(column, "VARCHAR") for column in header}
    if "hospital_expire_flag" in types:
        types["hospital_expire_flag"] = "VARCHAR"
    columns = ", ".join(f"{_quoted(column)}: '{type_}'" for column, type_ in types.items())
    return (
        f"read_csv({_quoted(str(path))}, header = true, auto_detect = false, delim = ',', quote = '\"', "
        f"escape = '\"', columns = {{{columns}}})"
    )


def _header(path: Path) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BackdoorError(f"{path}: cannot be read ({error}); expected CSV as published") from None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _check_columns(table: str, path: Path, found: list[str]) -> None:
    missing = [column for column in TABLES[table] if column not in found]
    if missing:
        raise BackdoorError(f"{path}: column {missing[0]} is missing; expected {', '.join(TABLES[table])}")


def _check_key(connection: DuckDBPyConnection, name: str, key: str, path: Path) -> None:
    with blaming(path):
        bad = connection.execute(
            f"SELECT {key}, COUNT(*) FROM {name} GROUP BY {key} HAVING COUNT(*) > 1 OR {key} IS NULL "
            f"ORDER BY {key} NULLS FIRST LIMIT 1"
        ).fetchall()
    for value, count in bad:
        what = "is empty in" if value is None else f"{value} is in"
        raise BackdoorError(f"{path}: column {key}: {what} {count} rows; expected one row for each {key}")


def _check_links(connection: DuckDBPyConnection, paths: dict[str, Path]) -> None:
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


def _check_codes(connection: DuckDBPyConnection, paths: dict[str, Path]) -> None:
    for table, column, allowed in (("admissions", "hospital_expire_flag", "0, 1"), ("patients", "gender", "'F', 'M'")):
        query = f"SELECT MIN({column}) FROM {table} WHERE {column} NOT IN ({allowed})"
        ((value,),) = connection.execute(query).fetchall()
        if value is not None:
            raise BackdoorError(f"{paths[f'hosp/{table}']}: column {column} holds {value!r}; expected {allowed}")
