"""The raw tables as csv.gz: the same rows as the Parquet files."""

import gzip

import duckdb
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.simulate import simulate


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("hospitals")
    for name in ("parquet", "csv.gz"):
        simulate(base / name, 60, 3, format=name)
    simulate(base / "again", 60, 3, format="csv.gz")
    return base


def test_the_files_are_those_of_the_published_layout(folders):
    tables = sorted(
        p.relative_to(folders / "parquet").with_suffix("") for p in (folders / "parquet").rglob("*.parquet")
    )
    copies = sorted(p.relative_to(folders / "csv.gz") for p in (folders / "csv.gz").rglob("*") if p.is_file())
    assert [str(t) + ".csv.gz" for t in tables] == [str(c) for c in copies]
    assert sorted(p.name for p in (folders / "csv.gz").iterdir()) == ["hosp", "icu"]


def test_every_copy_holds_equal_rows_in_equal_order(folders):
    for path in (folders / "parquet").rglob("*.parquet"):
        copy = folders / "csv.gz" / path.parent.name / f"{path.stem}.csv.gz"
        described = duckdb.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        types = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in described)
        read = duckdb.execute(f"FROM read_csv('{copy}', header = true, auto_detect = false, columns = {{{types}}})")
        assert read.fetchall() == duckdb.execute(f"FROM '{path}'").fetchall(), path.stem


def test_times_are_written_as_published_and_text_unquoted(folders):
    with gzip.open(folders / "csv.gz" / "icu" / "chartevents.csv.gz", "rt", encoding="utf-8") as file:
        header, row = file.readline().strip(), file.readline().strip().split(",")
    assert header.split(",") == pq.read_schema(folders / "parquet" / "icu" / "chartevents.parquet").names
    assert len(row[4]) == len("2110-01-01 00:00:00")
    assert '"' not in "".join(row)


def test_equal_hospitals_give_equal_bytes(folders):
    for path in (folders / "csv.gz").rglob("*.csv.gz"):
        again = folders / "again" / path.parent.name / path.name
        assert path.read_bytes() == again.read_bytes(), path.name
