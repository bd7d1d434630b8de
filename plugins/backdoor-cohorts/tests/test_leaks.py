"""What was not known at the prediction time changes no byte of any view."""

from datetime import timedelta

import numpy as np
import pytest

from backdoor_core.contracts import Inclusion


def contents(out):
    """Every file of the views; stays.parquet holds the label and the discharge, and is no view."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name not in {"stays.parquet", "labels.parquet"}]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(files) if p != out / "stays.parquet"}


def busy(hospital):
    """Stays of 40 to 60 hours with measurements and events in and after their windows."""
    rng = np.random.default_rng(0)
    for stay in range(102, 107):
        died = stay % 2
        hospital.add_stay(stay, hours=40 + stay % 20, label=str(died), death_after=70 if died else None)
    for stay in range(101, 107):
        for at in (*rng.uniform(0, 24, 8), *rng.uniform(24, 40, 8)):
            at = round(at * 3600) / 3600
            hospital.chart(stay, 220045, at, float(rng.integers(50, 120)), filed=at + 0.5)
            hospital.lab(stay - 100, 50912, at, float(rng.integers(1, 5)), filed=at + 1)
            hospital.output(stay, 226559, at, float(rng.integers(1, 500)), filed=at)
            hospital.prescribe(stay - 100, at, "Heparin")
            hospital.culture(
                stay - 100, at, filed=at + 30, micro_specimen_id=1, org_itemid=1, org_name="E", comments="GREW"
            )
            hospital.proceed(stay, 225441, at, at + 8, float(rng.integers(1, 500)), filed=at + 8)
            hospital.infuse(stay, 225166, at, at + 5, float(rng.integers(1, 500)), filed=at + 5)
    return hospital


def forget_discharge(hospital):
    """As if every patient had left alive, later, and with other codes."""
    for row in hospital.tables["icu/icustays"]:
        row["outtime"] += timedelta(hours=100)
        row.update(last_careunit="Elsewhere", los=99.0)
    for row in hospital.tables["hosp/admissions"]:
        row.update(hospital_expire_flag="0", deathtime=None, discharge_location="HOME", dischtime=None)
    for row in hospital.tables["hosp/patients"]:
        row["dod"] = "2150-03-03"


def change_what_came_later(hospital):
    """Other values and texts after the window, later ends and results, more and fewer rows."""
    end = hospital.intime + timedelta(hours=24)
    for table, times in (
        ("icu/chartevents", "charttime"),
        ("hosp/labevents", "charttime"),
        ("icu/outputevents", "charttime"),
        ("hosp/prescriptions", "starttime"),
        ("hosp/microbiologyevents", "charttime"),
        ("icu/procedureevents", "starttime"),
        ("icu/ingredientevents", "starttime"),
    ):
        rows = hospital.tables[table]
        later = [row for row in rows if row[times] >= end]
        assert later
        hospital.tables[table] = [row for row in rows if row[times] < end] + later[::2]
    for table, value in (("icu/procedureevents", "value"), ("icu/ingredientevents", "amount")):
        for row in hospital.tables[table]:
            if row["endtime"] >= end:
                row["endtime"] += timedelta(hours=50)
                row[value] += 1000
    for row in hospital.tables["hosp/microbiologyevents"]:
        if row["storetime"] is None or row["storetime"] >= end:
            row.update(org_itemid=None, org_name=None, comments="NO GROWTH")
    hospital.tables["hosp/microbiologyevents"] *= 2  # as many antibiotics more


@pytest.mark.parametrize("visibility", ["charttime", "storetime"])
@pytest.mark.parametrize("change", [forget_discharge, change_what_came_later])
def test_the_future_changes_nothing(hospital, tmp_path, new_out, build, change, visibility):
    inclusion = Inclusion(features="rich", visibility=visibility)
    hospital = busy(hospital)
    before, after = new_out("before"), new_out("after")
    build(hospital.write(tmp_path / "raw1"), before, inclusion)
    change(hospital)
    build(hospital.write(tmp_path / "raw2"), after, inclusion)
    assert contents(before) == contents(after)
    assert len(contents(before)) == 5


def test_the_label_is_of_what_is_asked_and_the_test_above_can_fail(hospital, tmp_path, new_out, build):
    hospital = busy(hospital)
    outs = [new_out("a"), new_out("b")]
    for number, out in enumerate(outs):
        build(hospital.write(tmp_path / f"raw{number}"), out)
        hospital.tables["icu/chartevents"][0]["valuenum"] = 81.0  # within the window
    first, second = map(contents, outs)
    assert {name for name in first if first[name] != second[name]} == {"series.parquet", "table.parquet"}


def test_a_diagnosis_table_is_not_even_opened(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    for name in ("diagnoses_icd", "procedures_icd", "drgcodes", "discharge", "services"):
        (raw / "hosp" / f"{name}.csv.gz").write_bytes(b"this is no gzip")
    assert build(raw, new_out()).attrition[-1].stays == 1
