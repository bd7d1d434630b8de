"""The Spark session behind `backdoor_cohorts.spark`: its Java, its settings, its errors."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_cohorts.database import heap_bytes
from backdoor_cohorts.engine import EngineError
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

INSTALL = 'pip install "backdoor-cohorts[spark]"'
LEAST_HEAP = 512 << 20
"""Bytes; Spark does not start with less than 450 MiB."""

_SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # a number too large or a text that is no number is an error, not a NULL
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.sources.default": "parquet",
    "spark.sql.legacy.parquet.nanosAsLong": "true",  # else a Parquet file written by pandas is refused
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


@contextmanager
def spark_session(folder: Path, *, master: str, memory: str) -> Iterator[SparkSession]:
    """A session on the Spark at `master`, whose tables and temporary files lie in `folder`; see `spark_database`."""
    _check(folder)
    _quiet()
    with as_file(files("backdoor_cohorts").joinpath("spark-log4j2.properties")) as log_settings:
        session = _start(folder, log_settings, master, max(heap_bytes(memory), LEAST_HEAP))
        try:
            yield session
        finally:
            session.stop()
            _end_java()


def uri(path: Path) -> str:
    """The path as Spark wants it. Without the scheme, it would be looked up in the default file system."""
    return f"file://{path.absolute()}"  # in which nothing is percent-encoded


def _check(folder: Path) -> None:
    missing = [name for name in ("pyspark", "sqlglot") if find_spec(name) is None]
    if missing:
        raise BackdoorError(f"engine: spark needs {' and '.join(missing)}; run {INSTALL}")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise BackdoorError("engine: spark needs Java 17 or newer; install it, or set JAVA_HOME to where it is")
    if set(str(folder)) & set("[]{}*?\\"):
        raise BackdoorError(f"{folder}: Spark takes a path with any of []{{}}*?\\ for a pattern; use another folder")


def _quiet() -> None:
    """Import PySpark without its words on pandas, which is not used, and on failed queries: they are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pyspark.testing.utils  # noqa: F401  (its first query would)
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)


def _start(folder: Path, log_settings: Path, master: str, heap: int) -> SparkSession:
    from pyspark.sql import SparkSession

    if SparkSession.getActiveSession() is not None:
        raise BackdoorError("engine: spark: this process has a Spark session already; stop it first")
    settings = {
        **_SETTINGS,
        "spark.sql.warehouse.dir": uri(folder / "tables"),
        "spark.local.dir": str(folder / "spill"),
        "spark.driver.memory": f"{heap >> 20}m",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log_settings.as_uri()} -Duser.timezone=UTC",
    }
    if master.startswith("local"):
        # 200 parts, as for a cluster, would be 200 small tasks one after another.
        settings |= {"spark.sql.shuffle.partitions": "32", "spark.driver.host": "127.0.0.1"}
        settings |= {"spark.driver.bindAddress": "127.0.0.1"}
    builder = SparkSession.builder.master(master).appName("backdoor-cohorts")
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        with spark_errors():
            return builder.getOrCreate()
    except (EngineError, OSError) as error:
        _end_java()
        raise BackdoorError(
            f"engine: spark at spark_master={master!r} does not start: {error}; Java 17 or newer is needed"
        ) from None


def _end_java() -> None:
    """End the Java process. It would keep its memory, and have the next database spill into a folder that is gone."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is None or (process := getattr(gateway, "proc", None)) is None:
        return  # it is not ours: spark-submit started it
    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None
    process.stdin.close()
    process.wait()


@contextmanager
def spark_errors() -> Iterator[None]:
    """Turn an error of Spark in the block into an `EngineError` of one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise EngineError(one_line(str(error))) from None


def one_line(message: str) -> str:
    """What went wrong first: the innermost cause of a Java error, without its class, code and place."""
    causes = [line for line in message.splitlines() if line.startswith("Caused by: ")]
    told = causes[-1].removeprefix("Caused by: ") if causes else next(iter(message.splitlines()), "")
    name, colon, rest = told.partition(": ")
    if colon and " " not in name and "." in name:
        told = rest
    if told.startswith("[") and "] " in told:
        told = told.split("] ", 1)[1]
    return told.split(" SQLSTATE: ")[0].strip()
