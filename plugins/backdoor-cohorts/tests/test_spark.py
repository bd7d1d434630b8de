"""Spark in DuckDB's place: the same queries, the same files."""

import gzip
import os
import shutil
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts import spark, spark_session
from backdoor_cohorts.database import blaming, query
from backdoor_cohorts.engine import EngineError, InterruptedRun
from backdoor_cohorts.hospital import FILTERS
from backdoor_cohorts.mimiciv import MimicIV
from backdoor_cohorts.raw import check_file
from backdoor_cohorts.spark import SparkDatabase, open_reader, spark_database, transpile
from backdoor_cohorts.spark_session import INSTALL, one_line
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError

VIEWS = ("table", "series", "events")
FILES = ("stays", "table", "series", "events/data/0", "events/metadata/codes", "events/metadata/stays", "events/labels")
HOSPITAL = ("stays", "inclusion", *FILTERS, "measurements", "events", "summary", "lasts")
EVERY = sorted(path.name for path in files("backdoor_cohorts").joinpath("sql").iterdir())
QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=128m -XX:+UseSerialGC"

needs_sqlglot = pytest.mark.skipif(find_spec("sqlglot") is None, reason=f"no sqlglot: {INSTALL}")


@pytest.fixture(scope="module")
def on_spark(tmp_path_factory):
    """Makes an empty `SparkDatabase`; all of a module share one Java process, whose start takes most of the time."""
    if find_spec("pyspark") is None or find_spec("sqlglot") is None:
        pytest.skip(f"no PySpark: {INSTALL}")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")
    scratch = tmp_path_factory.mktemp("on spark")
    patch = pytest.MonkeyPatch()
    patch.setenv("JDK_JAVA_OPTIONS", QUICK)
    numbers = iter(range(100))
    with spark_database(scratch, master="local[2]", memory="2GB") as first:

        def make():
            number = next(numbers)
            folder = tmp_path_factory.mktemp("fetched")
            database = SparkDatabase(first._session.newSession(), folder)
            database.execute(f"CREATE SCHEMA made_{number}; USE made_{number}")
            return database

        yield make
    patch.undo()
    assert list(scratch.iterdir()) == []


@pytest.fixture
def both(on_spark, tmp_path, monkeypatch):
    """Build with both engines; give DuckDB's folder after comparing all files and cards."""

    @contextmanager
    def shared(scratch, *, master, memory):
        yield on_spark()

    monkeypatch.setattr(spark, "spark_database", shared)

    def compare(make):
        cards, outs = [], []
        for engine in ("duckdb", "spark"):
            outs.append(tmp_path / engine)
            outs[-1].mkdir()
            cards.append(make(outs[-1], engine))
        assert cards[0] == cards[1]
        for name in FILES:
            tables = [pq.read_table(out / f"{name}.parquet") for out in outs]
            assert tables[0].num_rows > 0, name
            assert tables[0].schema == tables[1].schema, name
            for column in tables[0].column_names:
                assert _equal(*(table[column] for table in tables)), (name, column)
        return outs[0]

    return compare


def _equal(first, second):
    if pa.types.is_floating(first.type):
        return first.is_null() == second.is_null() and np.array_equal(
            first.to_numpy(), second.to_numpy(), equal_nan=True
        )
    return first.to_pylist() == second.to_pylist()


@needs_sqlglot
@pytest.mark.parametrize("name", EVERY)
def test_every_query_is_read_by_sqlglot(name):
    import sqlglot

    statements = sqlglot.parse(query(name.removesuffix(".sql")), read="duckdb")
    assert statements
    assert not any(isinstance(statement, sqlglot.exp.Command) for statement in statements)


@needs_sqlglot
@pytest.mark.parametrize("step", [*HOSPITAL, "event_order"])
def test_every_step_of_a_hospital_is_turned_into_spark(step):
    import sqlglot

    texts = transpile(query(step))
    assert len(texts) == query(step).count(";\n")
    for text in texts:
        assert "VARCHAR" not in text.replace("'VARCHAR'", "")
        assert not isinstance(sqlglot.parse_one(text, read="spark"), sqlglot.exp.Command)


@needs_sqlglot
def test_what_sqlglot_does_not_know_gets_its_spark_name():
    (text,) = transpile("CREATE VIEW v AS SELECT CASE WHEN STRLEN(x) > 5 THEN ERROR('long') ELSE x END AS x FROM t")
    assert text == (
        "CREATE TEMPORARY VIEW v AS "
        "SELECT CASE WHEN OCTET_LENGTH(x) > 5 THEN RAISE_ERROR('long') ELSE x END AS x FROM t"
    )


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("[USER_RAISED_EXCEPTION] column value holds 'x' SQLSTATE: P0001", "column value holds 'x'"),
        (
            "Job aborted\n\tat a.b.C\nCaused by: a.b.D: no\n\tat e\nCaused by: java.io.EOFException: Unexpected end",
            "Unexpected end",
        ),
        ("", ""),
    ],
)
def test_an_error_becomes_one_line(message, line):
    assert one_line(message) == line


def test_what_is_missing_is_told_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(spark_session, "find_spec", lambda name: None)
    told = r'engine: spark needs pyspark and sqlglot; run pip install "backdoor-cohorts\[spark\]"'
    with pytest.raises(BackdoorError, match=told), spark_database(tmp_path, master="local[2]", memory="1GB"):
        pass


def test_no_java_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(spark_session, "find_spec", lambda name: True)
    monkeypatch.setattr(spark_session.shutil, "which", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with (
        pytest.raises(BackdoorError, match="engine: spark needs Java 17"),
        spark_database(tmp_path, master="local[2]", memory="1GB"),
    ):
        pass


def test_a_folder_that_would_be_a_pattern_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spark_session, "find_spec", lambda name: True)
    monkeypatch.setenv("JAVA_HOME", "somewhere")
    (tmp_path / "[a]").mkdir()
    with (
        pytest.raises(BackdoorError, match=r"\[a\].*for a pattern; use another folder"),
        spark_database(tmp_path / "[a]", master="local[2]", memory="1GB"),
    ):
        pass


def test_tables_made_by_hand_give_equal_rows(hospital, both, build, tmp_path):
    """Everything that two engines might see differently: text, halves of the last digit, ties, odd doses."""
    hospital.add_random(seed=3, events=400)
    for number, dose in enumerate(
        ["5d", "0x10", "1_000", "inf", " 2.50 ", "1e3", ".5", "5.", "1-2", "1e400", None, "½"]
    ):
        hospital.prescribe(1, 4 + number, f"Drug {number}", dose=dose)
    for minute, value in enumerate([60.1234565, 61.0000005, 62.9999995, 63.4567891]):
        hospital.chart(101, 220045, 1 + minute / 60, value)
    for hours in (23.9999, 24.0):
        hospital.chart(101, 220045, hours, 99.0)
        hospital.lab(1, 50912, hours, 2.0, filed=hours)
    hospital.chart(101, 223900, 3, 1.0, text="No Response-ETT")
    hospital.culture(1, 2, filed=20, comments='two\nlines, a "quote" and ö', org_itemid=80004, org_name="E. COLI")
    hospital.culture(1, None, filed=None, chartdate=0)
    hospital.lab(1, 50912, 6, None, text="NEG", unit="mg/dL", filed=7)
    raw = hospital.write(tmp_path / "raw", ".csv.gz")
    inclusion = Inclusion(views=VIEWS, features="rich", visibility="storetime")
    out = both(lambda out, engine: build(raw, out, inclusion, engine=engine))
    doses = pq.read_table(out / "events/data/0.parquet", filters=[("unit", "==", "mg")])
    assert {"5d", "0x10", "1_000", "inf", "1-2", "½"} <= set(doses["text_value"].to_pylist())
    assert {2.5, 1000.0, 0.5, 5.0} <= set(doses["numeric_value"].to_pylist())


def test_demo_gives_equal_rows(real_data, both):
    folder = real_data / "mimic-iv-demo-2.2"
    if not folder.is_dir():
        pytest.skip(f"no MIMIC-IV demo in {real_data}")

    def make(out, engine):
        source = MimicIV(MimicIV.Options(path=folder.name, engine=engine), Context(real_data))
        return source.build(out, Inclusion(views=VIEWS), np.random.default_rng(0))

    stays = pq.read_table(both(make) / "stays.parquet")
    assert (stays.num_rows, sum(stays["label"].to_pylist())) == (117, 14)


def test_nanoseconds_and_odd_file_names(on_spark, tmp_path):
    path = tmp_path / "a [1] b.parquet"
    times = pa.array([1_500_000_000_123_456_789, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"itemid": pa.array([7, 8], pa.uint16()), "charttime": times}), path)
    database = on_spark()
    with open_reader(database, path, {"charttime": "TIMESTAMP", "itemid": "BIGINT"}) as name:
        query_ = f"SELECT itemid, CAST(charttime AS TIMESTAMP) AS t FROM {name} ORDER BY itemid"
        found = database.sql(query_).to_arrow_table()
    assert found["t"].to_pylist() == [np.datetime64("2017-07-14T02:40:00.123456").item(), None]
    assert found["t"].type == pa.timestamp("us")


CHART = {"itemid": "BIGINT", "charttime": "TIMESTAMP", "value": "VARCHAR", "valuenum": "DOUBLE"}
HEADER = "itemid,charttime,value,valuenum\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + "1,2150-01-01 00:00:00,x,1.5\n2,2150-01-01 00:00:00,x,high\n",
            "column valuenum holds 'high'; expected DOUBLE",
        ),
        (HEADER + "2.0,2150-01-01 00:00:00,x,1.5\n", "column itemid holds '2.0'; expected BIGINT"),
        (HEADER + "1,yesterday,x,1.5\n", "column charttime holds 'yesterday'; expected TIMESTAMP"),
        (HEADER + "1,2150-01-01 00:00:00\n", "[Mm]alformed"),
        ("itemid,charttime,valuenum\n1,2,3\n", "column value is missing"),
        (HEADER, "the table has no rows"),
    ],
)
def test_a_bad_file_is_named(on_spark, tmp_path, text, message):
    path = tmp_path / "chartevents.csv"
    path.write_text(text)
    _expect(on_spark(), path, message)


def test_a_truncated_gzip_is_named(on_spark, tmp_path):
    path = tmp_path / "chartevents.csv.gz"
    rng = np.random.default_rng(0)
    lines = "".join(f"1,2150-01-01 00:00:00,x,{value}\n" for value in rng.normal(size=20_000))
    whole = gzip.compress((HEADER + lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    _expect(on_spark(), path, "end of (input stream|stream|file)")


def test_of_two_errors_the_one_that_stopped_the_other_is_told(on_spark):
    database = on_spark()
    with pytest.raises(EngineError, match="no_such_table"):
        database.execute("SELECT * FROM no_such_table")
    database.interrupt()
    with pytest.raises(InterruptedRun):
        database.execute("SELECT * FROM no_such_table")


def _expect(database, path, message):
    def read():
        check_file(path, CHART)
        with blaming(path), open_reader(database, path, CHART) as name:
            database.execute(f"CREATE TABLE read AS SELECT * FROM {name}")

    with pytest.raises(BackdoorError, match=rf"{path}: .*{message}") as told:
        read()
    assert "\n" not in str(told.value)
