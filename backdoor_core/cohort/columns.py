"""Arrow tables as they were promised: the columns of a schema, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backdoor_core.errors import BackdoorError


def read_columns(path: Path, encoded: Sequence[str] = ()) -> pa.Table:
    """A Parquet file, the `encoded` columns as dictionaries."""
    try:
        return pq.read_table(path, read_dictionary=list(encoded))
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; expected a MEDS dataset") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise BackdoorError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """The columns of `schema`, cast to its types. `path` is what an error names.

    Raises `BackdoorError` where a column is missing, of another kind, does not fit its type, or has an empty cell
    that the schema does not allow.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise BackdoorError(f"{path}: column {field.name} is missing; expected {', '.join(schema.names)}")
        column = table.column(field.name)
        if _kind(column.type) not in (_kind(field.type), "null"):
            raise BackdoorError(f"{path}: column {field.name} is {column.type}; expected {field.type}")
        if column.null_count and not field.nullable:
            raise BackdoorError(f"{path}: column {field.name} has {column.null_count} empty cells; expected none")
        try:
            # The only narrowing that may lose digits is that of a measured value to float32.
            columns.append(column.cast(field.type, safe=not pa.types.is_floating(field.type)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BackdoorError(f"{path}: column {field.name} does not fit {field.type} ({error})") from None
    return pa.table(columns, schema=schema)


def refuse_twice(table: pa.Table, column: str, path: Path) -> None:
    """Raise `BackdoorError` where a value stands twice in `column`."""
    if len(pc.unique(table.column(column))) != table.num_rows:
        raise BackdoorError(f"{path}: column {column} holds a value twice; expected each {column} once")


def _kind(type_: pa.DataType) -> str:
    """What may be cast to what. A time with a zone is another kind than one without."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_timestamp(type_) and type_.tz is None:
        return "time"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        # Writers name the items of a list differently.
        return f"list of {_kind(type_.value_type)}"
    for kind, tests in _KINDS.items():
        if any(test(type_) for test in tests):
            return kind
    return str(type_)


_KINDS = {
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "number": (pa.types.is_floating, pa.types.is_decimal),
    "integer": (pa.types.is_integer,),
}
