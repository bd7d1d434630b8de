"""What the SQL steps and the writing of views need of a database: DuckDB's connection has it, Spark's stand-in too."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

EngineName = Literal["duckdb", "spark"]


class EngineError(Exception):
    """An engine other than DuckDB failed, in one line; `database.blaming` adds the file."""


class InterruptedRun(Exception):
    """A statement did not end, because `Database.interrupt` was called."""


class Fetched(Protocol):
    """What a statement gave."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""


class Relation(Protocol):
    """A query whose rows can be had as Arrow."""

    def to_arrow_table(self) -> pa.Table:
        """All rows at once."""

    def to_arrow_reader(self, batch_size: int, /) -> pa.RecordBatchReader:
        """All rows in the order of the query, `batch_size` at a time at most."""


class Database(Protocol):
    """Runs SQL in DuckDB's dialect."""

    def execute(self, query: str, /) -> Fetched:
        """Run one or more statements; the rows are those of the last."""

    def sql(self, query: str, /) -> Relation:
        """A query that runs when it is fetched."""

    def cursor(self) -> Database:
        """The same database for another thread."""

    def interrupt(self) -> None:
        """Give up what is running."""

    def close(self) -> None:
        """Let go of this connection or cursor."""


class Reader(Protocol):
    """How an engine reads a raw file."""

    def __call__(self, database: Any, path: Path, columns: Any, /) -> AbstractContextManager[str]:
        """What stands after FROM for `path`; `columns` are the names and DuckDB types that are read of it."""
