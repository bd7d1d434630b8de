import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.convert import convert
from backdoor_cohorts.layout import all_columns
from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_cohort_of_the_copy_is_the_cohort(hospital, tmp_path, new_out, build):
    hospital.add_random(3, events=800)
    raw, copy = hospital.write(tmp_path / "raw", ".csv.gz"), tmp_path / "copies" / "mimic"
    files = convert(raw, copy)
    assert {str(p.relative_to(copy).with_suffix("")) for p in files} == set(all_columns())
    assert all(p.is_file() for p in files)
    inclusion = Inclusion(features="rich", visibility="storetime")
    first, second = new_out("first"), new_out("second")
    build(raw, first, inclusion)
    build(copy, second, inclusion)
    assert contents(first) == contents(second)
    items = pq.read_table(copy / "icu" / "chartevents.parquet")["itemid"].to_pylist()
    assert items == sorted(items)
    assert len(items) == len(hospital.tables["icu/chartevents"])
    assert "dod" not in pq.read_schema(copy / "hosp" / "patients.parquet").names


def test_bytes_do_not_depend_on_row_order_or_threads(hospital, tmp_path):
    hospital.add_random(5, events=800)
    convert(hospital.write(tmp_path / "raw1", ".csv"), tmp_path / "copy1", threads=1)
    hospital.shuffle(6)
    convert(hospital.write(tmp_path / "raw2", ".csv"), tmp_path / "copy2", threads=3, memory="500MB")
    assert contents(tmp_path / "copy1") == contents(tmp_path / "copy2")


def test_event_tables_may_be_missing_and_inputevents_keep_their_name(hospital, tmp_path):
    raw = hospital.write(tmp_path / "raw")
    (raw / "icu" / "ingredientevents.parquet").rename(raw / "icu" / "inputevents.parquet")
    (raw / "hosp" / "microbiologyevents.parquet").unlink()
    names = {p.name for p in convert(raw, tmp_path / "copy")}
    assert "inputevents.parquet" in names
    assert not names & {"ingredientevents.parquet", "microbiologyevents.parquet"}


def test_a_bad_table_leaves_the_old_copy(hospital, tmp_path):
    raw, copy = hospital.write(tmp_path / "raw", ".csv"), tmp_path / "copy"
    convert(raw, copy)
    before = contents(copy)
    path = raw / "icu" / "ingredientevents.csv"
    path.write_text(path.read_text() + "101,220490,yesterday,,,,\n")
    with pytest.raises(BackdoorError, match=r"ingredientevents\.csv: .*starttime"):
        convert(raw, copy)
    assert contents(copy) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "raw"]


@pytest.mark.parametrize("table", ["hosp/labevents", "icu/icustays"])
def test_a_table_that_every_cohort_needs(hospital, tmp_path, table):
    raw = hospital.write(tmp_path / "raw")
    (raw / f"{table}.parquet").unlink()
    with pytest.raises(BackdoorError, match=f"{table}: no such table"):
        convert(raw, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
