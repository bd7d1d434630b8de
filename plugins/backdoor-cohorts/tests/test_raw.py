import gzip
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.hospital import build_hospital
from backdoor_cohorts.raw import TABLES, raw_files
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
    assert raw_files(raw) == [raw / f"{name}.csv.gz" for name in TABLES]


@pytest.mark.parametrize("folder", ["", "hosp", "icu"])
def test_missing_folder(hospital, tmp_path, new_out, folder):
    raw = hospital.write(tmp_path / "raw")
    shutil.rmtree(raw / folder)
    refused(raw, new_out(), raw / folder, "no such folder")


@pytest.mark.parametrize("table", TABLES)
def test_missing_file(hospital, tmp_path, new_out, table):
    raw = hospital.write(tmp_path / "raw")
    (raw / f"{table}.parquet").unlink()
    refused(raw, new_out(), raw / table, "no such table", ".csv.gz")


COLUMNS = [(table, column, ".parquet") for table, columns in TABLES.items() for column in columns]
COLUMNS += [(table, next(iter(columns)), ".csv.gz") for table, columns in TABLES.items()]


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
    ],
)
def test_wrong_type_in_parquet(hospital, tmp_path, new_out, table, column, type_):
    hospital.types[table][column] = type_
    if type_ == pa.string():
        for row in hospital.tables[table]:
            row[column] = str(row[column])
    raw = hospital.write(tmp_path / "raw")
    refused(raw, new_out(), raw / f"{table}.parquet", f"column {column} is ", TABLES[table][column])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("icu/chartevents", "valuenum", "eighty"),
        ("icu/outputevents", "charttime", "yesterday"),
        ("hosp/labevents", "subject_id", "A1"),
        ("hosp/patients", "anchor_age", "old"),
        ("hosp/admissions", "hospital_expire_flag", "yes"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_wrong_value_in_csv(hospital, tmp_path, new_out, table, column, value, late):
    """Also where the first row is well, so that only reading on finds it."""
    row = {**hospital.tables[table][0], column: value}
    hospital.tables[table] = [*hospital.tables[table], row] if late else [row]
    raw = hospital.write(tmp_path / "raw", ".csv")
    message = refused(raw, new_out(), raw / f"{table}.csv", value)
    assert column in message or column == "hospital_expire_flag"


@pytest.mark.parametrize("table", TABLES)
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


@pytest.mark.parametrize("table", TABLES)
def test_damaged_parquet(hospital, tmp_path, new_out, table):
    raw = hospital.write(tmp_path / "raw")
    path = raw / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    refused(raw, new_out(), path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
@pytest.mark.parametrize("table", TABLES)
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
    refused(raw, new_out(), path, "Line: 3")


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


@pytest.mark.parametrize(("type_", "value"), [(pa.int64(), 1), (pa.bool_(), True), (pa.string(), "1"), (pa.int8(), 1)])
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
