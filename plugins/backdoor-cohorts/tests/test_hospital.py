from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.database import database, prepare, run_step
from backdoor_cohorts.features import core30, item_map
from backdoor_cohorts.hospital import PAST_DISCHARGE, SUBGROUPS
from backdoor_cohorts.writing import LABELS
from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError


def hospital_time(hours):
    return datetime(2150, 3, 1, 10) + timedelta(hours=hours)


# ------------------------------------------------------------------------------------------------- the rules
def screened(hospital):
    """One stay for each rule that fails, and two that pass."""
    hospital.add_stay(102, anchor=(17, 2150))
    hospital.add_stay(103, hours=-1)
    hospital.add_stay(104, hours=24 - 1 / 3600)
    hospital.add_stay(105, hours=30, label="1", death_after=24 - 1 / 3600)
    hospital.add_stay(106, label=None)
    hospital.add_stay(107, hours=24, label="1", death_after=24)
    hospital.chart(107, 220045, 1, 99.0)
    return hospital


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_each_rule_removes_its_stay_in_order(hospital, tmp_path, suffix, table_of):
    card, table = table_of(screened(hospital), suffix=suffix)
    assert [step.stays for step in card.attrition] == [7, 6, 5, 4, 3, 2]
    assert [step.rule for step in card.attrition] == [
        "ICU stays in the source",
        "patient of 18 years or older at hospital admission",
        "valid times",
        "ICU stay of at least 24 h",
        "alive 24 h after ICU admission",
        "hospital mortality known",
    ]
    assert list(table) == [101, 107]
    stays = pq.read_table(tmp_path / "out" / "stays.parquet")
    assert stays["label"].to_pylist() == [0, 1]  # the flag is text in these tables
    assert stays.column_names == ["stay_id", "subject_id", "label", "intime", "outtime", *SUBGROUPS]
    assert stays["intime"].to_pylist() == [hospital_time(0)] * 2
    assert stays["outtime"].to_pylist() == [hospital_time(48), hospital_time(24)]
    assert stays.schema.field("label").type == pa.int8()
    assert stays["race"].to_pylist() == ["WHITE, OTHER"] * 2
    assert stays["insurance"].to_pylist() == [None, None]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "events",
        "series.parquet",
        "stays.parquet",
        "table.parquet",
    ]


def test_rules_follow_the_inclusion(hospital, table_of):
    inclusion = Inclusion(window_hours=12, min_age=0, min_los_hours=0)
    card, _ = table_of(screened(hospital), inclusion)
    assert [step.stays for step in card.attrition] == [7, 7, 6, 6, 6, 5]


def test_age_is_at_admission_not_in_the_anchor_year(hospital, table_of):
    hospital.add_stay(102, anchor=(50, 2138))  # admitted in 2150
    hospital.add_stay(103, anchor=(17, 2149), gender="F")  # of age by then
    _, table = table_of(hospital)
    assert [table[stay]["age"] for stay in (101, 102, 103)] == [50, 62, 18]
    assert [table[stay]["sex"] for stay in (101, 102, 103)] == [1, 1, 0]


def test_date_of_death_is_not_used(hospital, tmp_path, table_of):
    hospital.tables["hosp/patients"][0]["dod"] = "2150-03-02"
    table_of(hospital)
    assert pq.read_table(tmp_path / "out" / "stays.parquet")["label"].to_pylist() == [0]


def test_admission_ending_after_icu_keeps_its_label(hospital, table_of):
    hospital.add_stay(102, hours=30, label="1", death_after=400)
    _, table = table_of(hospital)
    assert list(table) == [101, 102]


def test_gap_asks_for_a_longer_stay_and_life(hospital, table_of):
    hospital.add_stay(102, hours=30 - 1 / 3600)
    hospital.add_stay(103, hours=30)
    hospital.add_stay(104, hours=40, label="1", death_after=30 - 1 / 3600)
    hospital.add_stay(105, hours=40, label="1", death_after=30)
    hospital.add_stay(106, hours=23)
    card, table = table_of(hospital, Inclusion(gap_hours=6))
    assert list(table) == [101, 103, 105]
    assert [step.stays for step in card.attrition] == [6, 6, 6, 5, 4, 3, 3]
    assert [step.rule for step in card.attrition][3:6] == [
        "ICU stay of at least 24 h",
        "ICU stay of at least 30 h: the window and the gap of 6 h",
        "alive 30 h after ICU admission",
    ]


def test_first_stay_of_each_patient_by_time_not_by_number(hospital, table_of):
    later = {"intime": hospital_time(100), "outtime": hospital_time(150)}
    hospital.add_stay(102, subject=1, **later)
    hospital.add_stay(200, hours=10)  # a short first stay is still the first
    hospital.add_stay(150, subject=100, **later)
    hospital.add_stay(99, subject=7, intime=hospital_time(60), outtime=hospital_time(90))
    hospital.add_stay(107)
    hospital.tables["icu/icustays"][-1]["subject_id"] = 7
    card, table = table_of(hospital, Inclusion(first_stay_only=True))
    assert list(table) == [101, 107]
    assert [step.stays for step in card.attrition] == [6, 6, 6, 3, 2, 2, 2]
    assert card.attrition[3].rule == "first ICU stay of the patient"


LABEL_STAYS = {
    # stay: (hours in the ICU, flag, hours to death), then the four labels
    101: ((48, "0", None), (0, 0, 0, 0)),
    102: ((48, "1", 47), (1, 1, 0, 0)),
    103: ((48, "1", 48), (1, 1, 0, 0)),
    104: ((48, "1", 49), (1, 0, 0, 0)),
    105: ((72, "0", None), (0, 0, 0, 0)),
    106: ((72 + 1 / 3600, "0", None), (0, 0, 1, 0)),
    107: ((168, "1", 300), (1, 0, 1, 0)),
    108: ((168 + 1 / 3600, "0", None), (0, 0, 1, 1)),
    109: ((48, "1", None), (1, None, 0, 0)),  # died somewhere in the hospital, at an unknown time
    110: ((80, None, None), (None, None, 1, 0)),
}


@pytest.mark.parametrize("number", range(4))
def test_labels(number, hospital, tmp_path, table_of):
    label = ("hospital_mortality", "icu_mortality", "los_gt_3d", "los_gt_7d")[number]
    for stay, ((hours, flag, death), _) in LABEL_STAYS.items():
        if stay != 101:
            hospital.add_stay(stay, hours=hours, label=flag, death_after=death)
    card, _ = table_of(hospital, Inclusion(label=label, min_los_hours=0, views=("table",)))
    expected = {stay: labels[number] for stay, (_, labels) in LABEL_STAYS.items() if labels[number] is not None}
    stays = pq.read_table(tmp_path / "out" / "stays.parquet")
    assert dict(zip(stays["stay_id"].to_pylist(), stays["label"].to_pylist(), strict=True)) == expected
    assert card.attrition[-1].stays == len(expected)
    assert card.attrition[-1].rule == LABELS[label]


# ------------------------------------------------------------------------------------------------ same bytes
def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("features", ["core30", "rich"])
def test_bytes_do_not_depend_on_row_order_format_or_threads(hospital, tmp_path, new_out, build, features):
    hospital.add_random(4, events=1500)
    for stay in (101, 102):  # a tie: two first weights at the same minute
        for value in (70.0, 90.0):
            hospital.chart(stay, 226512, 0, value)
    inclusion = Inclusion(features=features)
    first, second = new_out("first"), new_out("second")
    build(hospital.write(tmp_path / "raw1"), first, inclusion, threads=1)
    hospital.shuffle(5)
    build(hospital.write(tmp_path / "raw2", ".csv.gz"), second, inclusion, threads=4, memory="512MB")
    assert contents(first) == contents(second)
    assert len(contents(first)) == 8


def test_sums_do_not_depend_on_the_order_of_the_rows(tmp_path):
    """At full precision: the rounding to float32 in the files would hide most of it."""
    rng = np.random.default_rng(0)
    values = rng.uniform(40, 200, 3000)
    assert sum(values) != sum(values[::-1])  # or this test could not fail
    totals = []
    for order in (values, values[::-1]):
        with database(tmp_path, threads=1, memory="500MB") as connection:
            prepare(connection, Inclusion(), core30(24), item_map())
            read = pa.table({"v": order})
            connection.register("read", read)
            connection.execute(
                "CREATE TABLE measurements AS "
                "SELECT 1 AS stay_id, 2 AS place, 0.0 AS hours, v AS value, 0 AS preference FROM read"
            )
            run_step(connection, "summary")
            totals.append(connection.execute("SELECT total / measured FROM summary").fetchone()[0])
    assert totals[0] == totals[1]
    assert totals[0] == pytest.approx(values.mean())


def test_parquet_goes_before_csv(hospital, tmp_path, table_of):
    hospital.write(tmp_path / "raw", ".csv")
    hospital.tables["icu/chartevents"][0]["valuenum"] = 90.0
    _, table = table_of(hospital)
    assert table[101]["heart_rate"] == 90


# ---------------------------------------------------------------------------------------- nothing to work with
def test_no_stay_left(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    with pytest.raises(BackdoorError, match="no stay is left by the rule 'ICU stay of at least 100 h'"):
        build(raw, new_out(), Inclusion(min_los_hours=100))


def test_events_of_other_stays(hospital, tmp_path, table_of):
    for table, column in (
        ("icu/chartevents", "stay_id"),
        ("hosp/labevents", "subject_id"),
        ("icu/outputevents", "stay_id"),
    ):
        hospital.tables[table][0][column] = 999
    with pytest.raises(BackdoorError, match="no stay has a measurement"):
        table_of(hospital)
    assert list((tmp_path / "out").iterdir()) == []


def test_threads_hold_for_arrow_too(tmp_path):
    before = pa.cpu_count()
    with database(tmp_path, threads=before + 3, memory="500MB"):
        assert pa.cpu_count() == before + 3
    assert pa.cpu_count() == before


def test_bad_memory(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    with pytest.raises(BackdoorError, match=r"memory='lots'.*use for example") as caught:
        build(raw, new_out(), memory="lots")
    assert "\n" not in str(caught.value)


def test_notes_are_kept(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    card = build(raw, new_out(), notes=["a note"])
    assert card.notes[0] == "a note"
    assert "death in hospital" in card.notes[1]
    assert PAST_DISCHARGE not in card.notes
    assert PAST_DISCHARGE in build(raw, new_out("b"), Inclusion(min_los_hours=23)).notes
    assert (card.source, card.description) == ("test", "a test")
    assert isinstance(raw, Path)
