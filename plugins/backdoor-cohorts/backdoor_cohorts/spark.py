"""Apache Spark in DuckDB's place, for raw tables that are more than one machine can read.

There is one set of queries: those in `sql/`, in DuckDB's dialect. sqlglot turns each into Spark's. Tables are Parquet
files in a folder of the output directory, which every machine of a cluster must see, like the raw files. What Spark
computes is fetched as Arrow, in order and bounded in memory, and written by the same code as DuckDB's.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backdoor_cohorts.engine import EngineError, InterruptedRun
from backdoor_cohorts.spark_session import spark_errors, spark_session, uri

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp

_FUNCTIONS = {"ERROR": "RAISE_ERROR", "STRLEN": "OCTET_LENGTH"}
"""Functions of DuckDB that sqlglot hands on as they are -> their names in Spark."""


def transpile(query: str) -> list[str]:
    """Each statement of `query`, which is in DuckDB's dialect, in Spark's.

    Raises sqlglot's `ParseError` or `UnsupportedError` for what has no like in Spark.
    """
    return [_in_spark(statement) for statement in _parse(query)]


def _parse(query: str) -> list[exp.Expr]:
    import sqlglot

    return [statement for statement in sqlglot.parse(query, read="duckdb") if statement is not None]


def _in_spark(statement: exp.Expr) -> str:
    from sqlglot import ErrorLevel, exp

    for call in list(statement.find_all(exp.Anonymous)):
        call.set("this", _FUNCTIONS.get(call.name.upper(), call.name))
    if isinstance(statement, exp.Create) and statement.kind == "VIEW":
        # Spark lets no other view look at a temporary one, which is what a raw file is.
        statement.set("properties", exp.Properties(expressions=[exp.TemporaryProperty()]))
    return statement.sql("spark", comments=False, unsupported_level=ErrorLevel.RAISE)


class SparkDatabase:
    """Looks like a DuckDB connection (`engine.Database`); runs on Spark. Safe to use from several threads."""

    def __init__(self, session: SparkSession, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._numbers = itertools.count()
        self._inserting = threading.Lock()
        self._interrupted = threading.Event()

    def execute(self, query: str, /) -> SparkRelation:
        """Run the statements of `query`; give what the last one gave."""
        with self._errors():
            # Two inserts into one table at a time would clear away each other's unfinished files.
            given = [self._run(text, text.lstrip().upper().startswith(("INSERT", "WITH"))) for text in transpile(query)]
        return given[-1]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with spark_errors():
                yield
        except EngineError:
            if self._interrupted.is_set():
                raise InterruptedRun from None
            raise

    def sql(self, query: str, /) -> SparkRelation:
        """A query that runs when it is fetched."""
        return self.execute(query)

    def _run(self, text: str, alone: bool) -> SparkRelation:
        if alone:
            with self._inserting:
                frame = self._session.sql(text)
        else:
            frame = self._session.sql(text)
        return SparkRelation(frame, self._folder / f"fetched-{next(self._numbers)}")

    def cursor(self) -> SparkDatabase:
        """This database: its session may be used by several threads."""
        return self

    def interrupt(self) -> None:
        """Give up all that is running, for good."""
        self._interrupted.set()
        self._session.sparkContext.cancelAllJobs()

    def close(self) -> None:
        """Nothing: `spark_database` ends the session."""

    def read_file(self, path: Path, types: Mapping[str, str]) -> str:
        """The name of a new view of the columns of a raw file, of which `types` (column -> DuckDB type) are read."""
        name = f"raw_{next(self._numbers)}"
        with spark_errors():
            (self._parquet if path.suffix == ".parquet" else self._csv)(path, types).createOrReplaceTempView(name)
        return name

    def _parquet(self, path: Path, types: Mapping[str, str]) -> DataFrame:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        frame = self._session.read.parquet(_pattern(path))
        nanoseconds = [column for column in types if schema.field(column).type == pa.timestamp("ns")]
        told = {column: f"CAST(TIMESTAMP_MICROS(`{column}` DIV 1000) AS TIMESTAMP_NTZ)" for column in nanoseconds}
        return frame.selectExpr(*(f"{told.get(column, f'`{column}`')} AS `{column}`" for column in types))

    def _csv(self, path: Path, types: Mapping[str, str]) -> DataFrame:
        from pyspark.sql.types import StringType, StructField, StructType

        from backdoor_cohorts.csv_files import beginning

        header, _ = beginning(path)
        reader = self._session.read.options(
            header=True, quote='"', escape='"', multiLine=True, mode="FAILFAST", columnPruning=False, encoding="UTF-8"
        )
        frame = reader.schema(StructType([StructField(column, StringType()) for column in header])).csv(_pattern(path))
        return frame.selectExpr(*(_typed(column, type_) for column, type_ in types.items()))


@contextmanager
def open_reader(database: SparkDatabase, path: Path, columns: Mapping[str, str]) -> Iterator[str]:
    """The name of a view of a raw file; see `raw.open_reader`."""
    from backdoor_cohorts.database import blaming
    from backdoor_cohorts.raw import sql_type

    with blaming(path):
        name = database.read_file(path, {column: sql_type(type_) for column, type_ in columns.items()})
    yield name


def _typed(column: str, type_: str) -> str:
    """A column of text as its type, in Spark's SQL. Spark's own error would not name the column."""
    if type_ == "VARCHAR":
        return f"`{column}`"
    spark_type = {"TIMESTAMP": "TIMESTAMP_NTZ"}.get(type_, type_)
    cast = f"TRY_CAST(`{column}` AS {spark_type})"
    told = f"CONCAT('column {column} holds ''', SUBSTRING(`{column}`, 1, 80), '''; expected {type_}')"
    return f"CASE WHEN `{column}` IS NULL OR {cast} IS NOT NULL THEN {cast} ELSE RAISE_ERROR({told}) END AS `{column}`"


def _pattern(path: Path) -> str:
    """A raw file for Spark, which reads a path as a pattern."""
    return uri(Path(re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))))


class SparkRelation:
    """Rows of a Spark query. Arrow comes by way of Parquet files in `folder`, so that any number can be streamed."""

    def __init__(self, frame: DataFrame, folder: Path) -> None:
        self._frame = frame
        self._folder = folder

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows; for the small results."""
        with spark_errors():
            return [tuple(row) for row in self._frame.collect()]

    def to_arrow_table(self) -> pa.Table:
        """All rows at once."""
        return self.to_arrow_reader(1 << 17).read_all()

    def to_arrow_reader(self, batch_size: int, /) -> pa.RecordBatchReader:
        """All rows in the order of the query, `batch_size` at a time at most."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with spark_errors():
            self._frame.write.parquet(uri(self._folder))
        parts = sorted(self._folder.glob("part-*.parquet"))  # numbered in the order of the rows
        schema = pq.read_schema(parts[0]).remove_metadata()

        def batches() -> Iterator[pa.RecordBatch]:
            for part in parts:
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(batch_size):
                        yield batch.replace_schema_metadata(None)

        return pa.RecordBatchReader.from_batches(schema, batches())


@contextmanager
def spark_database(scratch: Path, *, master: str, memory: str) -> Iterator[SparkDatabase]:
    """An empty database on the Spark at `master` (``local[2]``, ``spark://host:7077``), in a new folder of `scratch`.

    `memory` is for this process and its Java. Raises `BackdoorError` where Spark, sqlglot or Java is missing or does
    not start, and where this process has a Spark session already, whose settings would hold.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".work-") as name:
        folder = Path(name).absolute()
        with spark_session(folder, master=master, memory=memory) as session:
            yield SparkDatabase(session, folder)
