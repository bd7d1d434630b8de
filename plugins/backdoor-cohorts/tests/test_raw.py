import gzip
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.hospital import build_hospital
from backdoor_cohorts.layout import FILED, TABLES, all_columns
from backdoor_cohorts.raw import MOST_CHARACTERS, raw_files
from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError


def refused(raw, out, *words):
    """The one line with which the build is refused; it holds every word and leaves nothing behind."""
    with pytest.raises(BackdoorError) as caught:
        build_hospital(raw, out, Inclusion(), source="test", description="a test")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    assert list(out.iterdir()) == []
    return message


def test_files_in_the_order_read(hospital, tmp_path):
    raw = hospital.write(tmp_path / "raw", ".csv.gz")
    events = ["hosp/prescriptions", "hosp/microbiologyevents", "icu/procedureevents", "icu/ingredientevents"]
    dictionaries = ["hosp/d_labitems", "icu/d_items"]
    assert raw_files(raw) == [raw / f"{name}.csv.gz" for name in [*TABLES, *events, *dictionaries]]
    (raw / "icu" / "ingredientevents.csv.gz").rename(raw / "icu" / "inputevents.csv.gz")
    assert raw / "icu" / "inputevents.csv.gz" in raw_files(raw)
    (raw / "icu" / "inputevents.csv.gz").unlink()
    assert len(raw_files(raw)) == 11


@pytest.mark.parametrize("folder", ["", "hosp", "icu"])
def test_missing_folder(hospital, tmp_path, new_out, folder):
    raw = hospital.write(tmp_path / "raw")
    shutil.rmtree(raw / folder)
    refused(raw, new_out(), raw / folder, "no such folder")


ALL = all_columns()


@pytest.mark.parametrize("table", ALL)
def test_missing_file(hospital, tmp_path, new_out, table):
    raw = hospital.write(tmp_path / "raw")
    (raw / f"{table}.parquet").unlink()
    message = refused(raw, new_out(), raw / table, "no such table", ".csv.gz")
    assert ("inclusion.views without events" in message) == (table not in TABLES)


def test_event_tables_may_be_missing_where_no_view_needs_them(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    for table in ALL:
        if table not in TABLES:
            (raw / f"{table}.parquet").unlink()
    assert build(raw, new_out(), Inclusion(views=("series", "table"))).views == ("table", "series")


def test_charts_may_be_missing_where_only_events_are_asked_for(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    (raw / "icu" / "chartevents.parquet").unlink()
    out = new_out()
    card = build(raw, out, Inclusion(views=("events",)))
    assert (card.views, card.features, card.series_features) == (("events",), (), ())
    assert sorted(p.name for p in out.iterdir()) == ["events", "stays.parquet"]


COLUMNS = [(table, column, ".parquet") for table, columns in ALL.items() for column in columns]
COLUMNS = [entry for entry in COLUMNS if not (entry[0] in FILED and entry[1] == "storetime")]
COLUMNS += [(table, next(iter(columns)), ".csv.gz") for table, columns in ALL.items()]


@pytest.mark.parametrize("table", FILED)
def test_storetime_is_read_only_where_it_decides(hospital, tmp_path, new_out, build, table):
    del hospital.types[table]["storetime"]
    for row in hospital.tables[table]:
        row.pop("storetime")
    raw = hospital.write(tmp_path / "raw")
    build(raw, new_out("out"))
    with pytest.raises(BackdoorError, match=f"{table}.parquet: column storetime is missing"):
        build(raw, new_out("other"), Inclusion(visibility="storetime"))


@pytest.mark.parametrize(("table", "column", "suffix"), COLUMNS)
def test_missing_column(hospital, tmp_path, new_out, table, column, suffix):
    del hospital.types[table][column]
    for row in hospital.tables[table]:
        row.pop(column, None)
    raw = hospital.write(tmp_path / "raw", suffix)
    refused(raw, new_out(), raw / f"{table}{suffix}", f"column {column} is missing")


@pytest.mark.parametrize(
    ("table", "column", "type_"),
    [
        ("icu/chartevents", "valuenum", pa.string()),
        ("icu/chartevents", "charttime", pa.string()),
        ("hosp/labevents", "charttime", pa.timestamp("us", tz="UTC")),
        ("icu/icustays", "stay_id", pa.string()),
        ("hosp/patients", "anchor_age", pa.float64()),
        ("icu/procedureevents", "starttime", pa.string()),
        ("hosp/microbiologyevents", "chartdate", pa.string()),
        ("hosp/prescriptions", "drug", pa.int64()),
    ],
)
def test_wrong_type_in_parquet(hospital, tmp_path, new_out, table, column, type_):
    hospital.types[table][column] = type_
    if column == "drug":
        hospital.tables[table][0][column] = 1
    if type_ == pa.string():
        for row in hospital.tables[table]:
            row[column] = str(row[column])
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), raw / f"{table}.parquet", f"column {column} is ", ALL[table][column])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("icu/chartevents", "valuenum", "eighty"),
        ("icu/outputevents", "charttime", "yesterday"),
        ("hosp/labevents", "subject_id", "A1"),
        ("hosp/patients", "anchor_age", "old"),
        ("hosp/admissions", "hospital_expire_flag", "yes"),
        ("icu/ingredientevents", "amount", "some"),
        ("hosp/d_labitems", "itemid", "K"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_wrong_value_in_csv(hospital, tmp_path, new_out, table, column, value, late):
    """Also where the first row is well, so that only reading on finds it."""
    row = {**hospital.tables[table][0], column: value}
    hospital.tables[table] = [*hospital.tables[table], row] if late else [row]
    raw = hospital.write(tmp_path / "raw", ".csv")
    message = refused(raw, new_out(), raw / f"{table}.csv", value)
    assert f"column {column} holds '{value}'; expected a " in message


@pytest.mark.parametrize("table", ALL)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_gzip(hospital, tmp_path, new_out, table, keep):
    raw = hospital.write(tmp_path / "raw", ".csv.gz")
    path = raw / f"{table}.csv.gz"
    if keep:
        path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * keep)])
    else:
        path.write_bytes(gzip.decompress(path.read_bytes()))  # the name says gzip, the content does not
    refused(raw, new_out(), path)


def test_gzip_truncated_after_many_rows(hospital, tmp_path, new_out):
    """The header and the first rows read well; half of the hospital must still not be taken for the whole."""
    for minute in range(60_000):
        hospital.chart(101, 220045, minute / 3600, 60 + minute % 50)
    raw = hospital.write(tmp_path / "raw", ".csv.gz")
    path = raw / "icu" / "chartevents.csv.gz"
    path.write_bytes(path.read_bytes()[:-6])
    refused(raw, new_out(), path)


@pytest.mark.parametrize("table", ALL)
def test_damaged_parquet(hospital, tmp_path, new_out, table):
    raw = hospital.write(tmp_path / "raw")
    path = raw / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    refused(raw, new_out(), path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
@pytest.mark.parametrize("table", ALL)
def test_empty_table(hospital, tmp_path, new_out, table, suffix):
    hospital.tables[table] = []
    raw = hospital.write(tmp_path / "raw", suffix)
    refused(raw, new_out(), raw / f"{table}{suffix}", "no rows")


def test_file_without_a_byte(hospital, tmp_path, new_out):
    raw = hospital.write(tmp_path / "raw", ".csv")
    (raw / "icu" / "icustays.csv").write_bytes(b"")
    refused(raw, new_out(), raw / "icu" / "icustays.csv", "subject_id")


def test_row_with_too_few_cells(hospital, tmp_path, new_out):
    raw = hospital.write(tmp_path / "raw", ".csv")
    path = raw / "icu" / "outputevents.csv"
    path.write_text(path.read_text() + "101,226559\n")
    refused(raw, new_out(), path, "a row has 2 cells: '101,226559'; expected 5, as in the header")


@pytest.mark.parametrize(
    ("table", "key"), [("icu/icustays", "stay_id"), ("hosp/admissions", "hadm_id"), ("hosp/patients", "subject_id")]
)
def test_duplicate_key(hospital, tmp_path, new_out, table, key):
    hospital.tables[table] *= 2
    value = hospital.tables[table][0][key]
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), raw / f"{table}.parquet", f"column {key}: {value} is in 2 rows")


def test_key_that_is_empty(hospital, tmp_path, new_out):
    hospital.add_stay(102)
    hospital.tables["icu/icustays"][1]["stay_id"] = None
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), "icustays.parquet: column stay_id: is empty in 1 rows")


@pytest.mark.parametrize("table", ["hosp/admissions", "hosp/patients"])
def test_stay_without_its_admission_or_patient(hospital, tmp_path, new_out, table):
    hospital.add_stay(102)
    hospital.tables[table].pop()
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), "stay_id 102", raw / f"{table}.parquet")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("hosp/admissions", "hospital_expire_flag", "2"), ("hosp/patients", "gender", "male")],
)
def test_unknown_code(hospital, tmp_path, new_out, table, column, value):
    hospital.tables[table][0][column] = value
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), raw / f"{table}.parquet", f"column {column}", value, "expected")


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_label_that_is_no_label(hospital, tmp_path, new_out, value):
    """As pandas writes an empty cell, and what would be rounded to one."""
    hospital.types["hosp/admissions"]["hospital_expire_flag"] = pa.float64()
    hospital.tables["hosp/admissions"][0]["hospital_expire_flag"] = value
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), raw / "hosp" / "admissions.parquet", f"column hospital_expire_flag holds {value}")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("suffix", "size"),
    [(".parquet", 9_000_000), (".csv", MOST_CHARACTERS + 1), (".csv", 9_000_000), (".csv.gz", 34_000_000)],
)
def test_cell_as_large_as_a_bomb(hospital, tmp_path, new_out, suffix, last, size):
    """Also the last of the file and larger than a buffer of the reader, which it could drop without a word."""
    bomb = {**hospital.tables["hosp/prescriptions"][0], "drug": "x" * size}
    rows = [bomb, *hospital.tables["hosp/prescriptions"]]
    hospital.tables["hosp/prescriptions"] = rows[::-1] if last else rows
    raw = hospital.write(tmp_path / "raw", suffix)
    message = refused(raw, new_out(), raw / f"hosp/prescriptions{suffix}", "column drug holds")
    assert len(message) < 600


@pytest.mark.parametrize(
    ("type_", "value"), [(pa.float64(), 1.0), (pa.int64(), 1), (pa.bool_(), True), (pa.string(), "1"), (pa.int8(), 1)]
)
def test_label_of_any_type_is_read(hospital, tmp_path, new_out, type_, value):
    hospital.add_stay(102, label=value)
    hospital.tables["hosp/admissions"][0]["hospital_expire_flag"] = type(value)(0)
    hospital.types["hosp/admissions"]["hospital_expire_flag"] = type_
    out = new_out()
    build_hospital(hospital.write(tmp_path / "raw"), out, Inclusion(), source="test", description="a test")
    assert pq.read_table(out / "stays.parquet")["label"].to_pylist() == [0, 1]


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_times_of_any_precision_are_read(hospital, tmp_path, new_out, unit):
    for types in hospital.types.values():
        for column, type_ in types.items():
            if pa.types.is_timestamp(type_):
                types[column] = pa.timestamp(unit)
    build_hospital(hospital.write(tmp_path / "raw"), new_out(), Inclusion(), source="test", description="a test")
