from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from backdoor_cohorts import own_columns
from backdoor_cohorts.parquet import Column, OwnParquet
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError

DAY = [datetime(2150, 1, day) for day in range(1, 9)]
TABLE = {
    "stay_id": [7, 5, 9, 6],
    "subject_id": [1, 1, 2, 3],
    "label": [0, 1, 0, 1],
    "hr": [80.5, None, 400.0, 90.0],
    "lactate": [1, 2, 3, 4],
    "years": [50, 51, 17, 80],
    "unit": ["MICU", "CCU", None, "MICU"],
    "start": [DAY[3], DAY[0], DAY[0], DAY[0]],
    "end": [DAY[5], DAY[2], DAY[6], DAY[1]],
}
SERIES = {
    "stay_id": [5, 5, 5, 7, 7, 5],
    "hour": [0.0, 1.25, 1.75, 23.99, 24.0, -1.0],
    "hr": [70.0, 80.0, 100.0, None, 60.0, 50.0],
    "mbp": [None, 60.0, None, 65.0, None, None],
}


def write(path, columns):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.output_stream(path) as stream:  # compresses where the name ends in .gz
            pyarrow.csv.write_csv(table, stream)


def source(root, **options):
    return OwnParquet(OwnParquet.Options(**{"table": "t.parquet", **options}), Context(root))


@pytest.fixture
def build(tmp_path, new_out):
    """Write the files, build, and give the card and the columns of each file as lists."""

    def make(table=TABLE, series=None, suffix=".parquet", out="out", inclusion=None, **options):
        write(tmp_path / f"t{suffix}", table)
        options["table"] = f"t{suffix}"
        if series is not None:
            write(tmp_path / f"s{suffix}", series)
            options["series"] = f"s{suffix}"
        folder = new_out(out)
        card = source(tmp_path, **options).build(folder, Inclusion(**(inclusion or {})), np.random.default_rng(0))
        return card, {path.stem: pq.read_table(path) for path in sorted(folder.iterdir())}

    return make


def test_defaults(build):
    card, files = build()
    assert set(files) == {"stays", "table"}
    assert files["stays"]["stay_id"].to_pylist() == [5, 6, 7, 9]
    assert files["stays"]["subject_id"].to_pylist() == [1, 3, 1, 2]
    assert files["stays"]["label"].to_pylist() == [1, 1, 0, 0]
    assert files["stays"].schema.field("label").type == pa.int8()
    assert files["stays"]["intime"].null_count == 4
    assert files["stays"].schema.field("outtime").type == pa.timestamp("us")
    assert files["table"].column_names == ["stay_id", "hr", "lactate", "years"]
    assert files["table"].schema.field("lactate").type == pa.float32()
    np.testing.assert_array_equal(files["table"]["hr"].to_numpy(), np.float32([np.nan, 90, 80.5, 400]))
    assert [(f.name, f.unit, f.low, f.high) for f in card.features] == [
        ("hr", "", 80.5, 400),
        ("lactate", "", 1, 4),
        ("years", "", 17, 80),
    ]
    assert (card.views, [step.stays for step in card.attrition]) == (("table",), [4])
    assert "min_age" in card.notes[1]
    assert "min_los_hours" in card.notes[1]


MAPPED = {
    "static": {"age": "years", "first_careunit": "unit"},
    "intime": "start",
    "outtime": "end",
    "features": {"heart_rate": Column(column="hr", unit="bpm", low=1, high=300), "lactate": None},
}


def test_column_map_and_rules(build):
    card, files = build(**MAPPED)
    assert [step.stays for step in card.attrition] == [4, 3, 3, 3]
    assert files["stays"].column_names[3:] == ["intime", "outtime", "age", "first_careunit"]
    assert files["stays"]["first_careunit"].to_pylist() == ["CCU", "MICU", "MICU"]
    assert files["stays"]["age"].to_pylist() == [51, 80, 50]
    assert files["table"].column_names == ["stay_id", "heart_rate", "lactate"]
    assert (card.features[0].unit, card.features[0].high) == ("bpm", 300)
    assert "heart_rate 1" in card.notes[-1]


def test_every_rule(build):
    rules = {"first_stay_only": True, "min_los_hours": 48, "gap_hours": 24, "min_age": 0}
    card, files = build(inclusion=rules, **MAPPED)
    # All; aged 0 or more; valid times; the first of each patient; 48 h or more; 24 + 24 h or more.
    assert [step.stays for step in card.attrition] == [4, 4, 4, 3, 2, 2]
    assert files["stays"]["stay_id"].to_pylist() == [5, 9]
    assert np.isnan(files["table"]["heart_rate"].to_numpy()[1])  # 400 is above 300


def test_series(build):
    card, files = build(series=SERIES)
    series = files["series"]
    assert series.column_names == ["stay_id", "hour", "hr", "mbp", "hr.count", "mbp.count"]
    assert series.schema.field("hour").type == pa.int16()
    assert series.schema.field("mbp").type == pa.float32()
    assert series.schema.field("hr.count").type == pa.uint16()
    assert series["stay_id"].to_pylist() == [stay for stay in (5, 6, 7, 9) for _ in range(24)]
    assert series["hour"].to_pylist() == list(range(24)) * 4
    measured = {
        (row["stay_id"], row["hour"]): (row["hr"], row["hr.count"])
        for row in series.to_pylist()
        if not np.isnan(row["hr"])
    }
    assert measured == {(5, 0): (70, 1), (5, 1): (90, 2)}
    mbp = {(row["stay_id"], row["hour"]): row["mbp"] for row in series.to_pylist() if row["mbp.count"]}
    assert mbp == {(5, 1): 60, (7, 23): 65}
    assert card.views == ("table", "series")
    assert [f.name for f in card.series_features] == ["hr", "mbp"]
    assert "2 rows of s.parquet lie outside the window of 24 h" in card.notes[-1]


def test_views_that_are_not_asked_for_are_not_written(build):
    card, files = build(series=SERIES, inclusion={"views": ("series",)})
    assert set(files) == {"stays", "series"}
    assert (card.views, card.features) == (("series",), ())


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_gives_the_same(build, suffix, tmp_path):
    build(series=SERIES, out="a", **MAPPED)
    build(series=SERIES, out="b", suffix=suffix, **MAPPED)
    for name in ("stays", "table", "series"):
        file = f"{name}.parquet"
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(4)), st.permutations(range(6)))
def test_order_of_rows_does_not_matter(tmp_path_factory, rows, hours):
    folder = tmp_path_factory.mktemp("rows")
    write(folder / "t.parquet", pa.table(TABLE).take(rows))
    write(folder / "s.parquet", pa.table(SERIES).take(hours))
    write(folder / "t0.parquet", TABLE)
    write(folder / "s0.parquet", SERIES)
    for out, table, series in (("a", "t.parquet", "s.parquet"), ("b", "t0.parquet", "s0.parquet")):
        (folder / out).mkdir()
        source(folder, table=table, series=series, **MAPPED).build(folder / out, Inclusion(), np.random.default_rng(0))
    for name in ("stays", "table", "series"):
        file = f"{name}.parquet"
        assert (folder / "a" / file).read_bytes() == (folder / "b" / file).read_bytes()


def changed(**columns):
    return {**TABLE, **columns}


def without(name, columns=TABLE):
    return {key: value for key, value in columns.items() if key != name}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(stay_id=[7, 5, 7, 6]), "column stay_id holds 7 in 2 rows; expected each stay_id once"),
        (changed(stay_id=[7, None, 9, 6]), "column stay_id is empty in 1 rows, first in row 2"),
        (changed(stay_id=["a", "b", "c", "d"]), "column stay_id is string; expected whole numbers"),
        (changed(label=[0.0, float("nan"), 1, 0]), "column label is empty in 1 rows, first in row 2"),
        (changed(label=[0, None, 1, 0]), "column label is empty in 1 rows, first in row 2"),
        (changed(label=[0, 2, 1, 0]), "column label: row 2 holds 2; expected 0 or 1"),
        (changed(label=["no", "yes", "no", "no"]), "column label is string; expected numbers"),
        (changed(hr=[1.0, 2.0, float("inf"), 0.0]), "column hr: row 3 holds inf; expected finite"),
        (changed(hr=[1.0, 1e39, 2.0, 0.0]), r"column hr: row 2 holds 1e\+39; expected finite"),
        (without("subject_id"), "column subject_id is missing; the file has stay_id, label, hr"),
        (pa.table(TABLE).slice(0, 0), "the table has no rows"),
        ({name: TABLE[name] for name in ("stay_id", "subject_id", "label")}, "no numeric column is left for a feature"),
    ],
)
def test_broken_table(build, table, message):
    with pytest.raises(BackdoorError, match=message) as caught:
        build(table)
    assert "t.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({**SERIES, "stay_id": [5, 5, 5, 7, 7, 99]}, "column stay_id holds 99, which .*t.parquet lacks"),
        ({**SERIES, "hour": [0, 1, 2, 3, 4, None]}, "column hour is empty in 1 rows"),
        ({**SERIES, "hour": list("abcdef")}, "column hour is string; expected numbers"),
        (without("hour", SERIES), "column hour is missing"),
    ],
)
def test_broken_series(build, series, message):
    with pytest.raises(BackdoorError, match=message) as caught:
        build(series=series)
    assert "s.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": {"hr": Column(column="puls")}}, "column puls is missing"),
        ({"features": {"unit": None}}, "column unit is string; expected numbers"),
        ({"intime": "years"}, "column years is int64; expected times without a zone"),
        ({"static": {"race": "start"}}, r"column start is timestamp\[us\]; expected numbers or text"),
        ({"inclusion": {"visibility": "storetime"}}, "inclusion.visibility: the source parquet has no storetime"),
        ({"inclusion": {"features": "rich"}}, "inclusion.features: the source parquet has the features of its file"),
        ({"inclusion": {"views": ("events",)}}, "inclusion.views: events is asked for, but these files .* give table"),
        ({"inclusion": {"gap_hours": 6}}, "inclusion.gap_hours: map cohorts.parquet.intime and outtime"),
        ({"inclusion": {"first_stay_only": True}}, "inclusion.first_stay_only: map cohorts.parquet.intime"),
        ({**MAPPED, "inclusion": {"min_age": 120}}, "no stay is left by the rule 'patient of 120 years"),
    ],
)
def test_broken_options(build, options, message):
    with pytest.raises(BackdoorError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def test_subject_may_be_left_out_on_purpose(build):
    card, files = build(without("subject_id"), subject_id=None)
    assert files["stays"]["subject_id"] == files["stays"]["stay_id"]
    assert "patient of its own" in card.notes[-1]


def test_files(tmp_path):
    with pytest.raises(BackdoorError, match=r"t\.parquet: no such file"):
        source(tmp_path).inputs()
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing at all")
    assert source(tmp_path).inputs() == [tmp_path / "t.parquet"]
    with pytest.raises(BackdoorError, match=r"t\.parquet: cannot be read"):
        source(tmp_path).build(tmp_path, Inclusion(), np.random.default_rng(0))
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(BackdoorError, match=r"t\.xlsx: unknown kind of file"):
        source(tmp_path, table="t.xlsx").build(tmp_path, Inclusion(), np.random.default_rng(0))
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(BackdoorError, match=r"t\.csv\.gz: cannot be read"):
        source(tmp_path, table="t.csv.gz").build(tmp_path, Inclusion(), np.random.default_rng(0))
    (tmp_path / "t.csv").write_text("stay_id,stay_id\n1,2\n")
    with pytest.raises(BackdoorError, match=r"t\.csv: column stay_id is there twice"):
        source(tmp_path, table="t.csv").build(tmp_path, Inclusion(), np.random.default_rng(0))
    (tmp_path / "t.csv").write_text("stay_id,note\n1," + "x" * 3_000_000 + "\n")
    with pytest.raises(BackdoorError, match=r"t\.csv: cannot be read"):
        source(tmp_path, table="t.csv").build(tmp_path, Inclusion(), np.random.default_rng(0))


ROWS = "1,0,80\n2,1,90\n"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("stay_id,label,fréquence\n" + ROWS, "latin-1"),
        ("stay_id,label,unit\n1,0,Réa\n", "latin-1"),
        ("stay_id,label,unit\n" + "1,0,ICU\n" * 200_000 + "1,0,Réa\n", "latin-1"),
        ("stay_id,label,hr\n" + ROWS, "utf-16"),
        ("stay_id\n1\n", "utf-16"),
        ("stay_id,label,hr\n" + ROWS, "utf-16-le"),
        ("stay_id,label,hr\n" + ROWS, "utf-16-be"),
    ],
    ids=["header", "cell", "late cell", "utf-16", "utf-16 of one column", "utf-16-le", "utf-16-be"],
)
def test_a_table_that_is_not_utf8_is_one_line(tmp_path, content, encoding, suffix):
    path = tmp_path / f"t.{suffix}"
    with pa.output_stream(path) as stream:
        stream.write(content.encode(encoding))
    with pytest.raises(BackdoorError) as caught:
        own_columns.read(path)
    assert str(caught.value) == f"{path}: the file is not UTF-8; save it as UTF-8"


def test_what_is_wrong_with_a_table_in_utf8_is_still_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("stay_id,label\né,0,1\n")
    with pytest.raises(BackdoorError, match=r"cannot be read .*Expected 2 columns, got 3"):
        own_columns.read(path)
    path.write_text("stay_id,unité\n1,Réa\n", encoding="utf-8-sig")
    assert own_columns.read(path).static("unité").to_pylist() == ["Réa"]


def test_a_range_has_two_ends():
    with pytest.raises(ValidationError, match=r"low \(5\) must be less than high \(5\)"):
        Column(low=5, high=5)
