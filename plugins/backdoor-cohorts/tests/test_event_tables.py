"""The events view, on hand-made hospitals."""

from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest

from backdoor_core.contracts import Inclusion
from backdoor_core.errors import BackdoorError

INTIME = datetime(2150, 3, 1, 10)
SECOND = 1 / 3600


@pytest.fixture
def events_of(tmp_path, new_out, build):
    """Build a hospital; give its events as (stay, hours, code, number, text, unit), codes and card."""

    def make(hospital, **inclusion):
        number = len(list(tmp_path.iterdir()))
        out = new_out(f"out{number}")
        raw = hospital.write(tmp_path / f"raw{number}")
        card = build(raw, out, Inclusion(views=("events",), **inclusion))
        rows = pq.read_table(out / "events" / "data" / "0.parquet").to_pylist()
        events = [
            (
                row["stay_id"],
                (row["time"] - INTIME).total_seconds() / 3600,
                row["code"],
                row["numeric_value"],
                row["text_value"],
                row["unit"],
            )
            for row in rows
        ]
        codes = pq.read_table(out / "events" / "metadata" / "codes.parquet").to_pylist()
        return events, {row["code"]: row["description"] for row in codes}, card

    return make


def test_the_five_types(hospital, events_of):
    hospital.tables["hosp/labevents"][0].update(valueuom="mg/dL")
    events, codes, card = events_of(hospital)
    assert events == [
        (101, 2, "LAB//50912//mg/dL", pytest.approx(1.1), None, "mg/dL"),
        (101, 4, "PRESCRIPTION//Furosemide//IV", 1, None, "mg"),
        (101, 5, "MICROBIOLOGY//90115", None, None, None),
        (101, 6, "PROCEDURE//225792", 60, None, "min"),
        (101, 7, "INGREDIENT//220490", 50, None, "ml"),
    ]
    assert codes == {
        "LAB//50912//mg/dL": "Creatinine, blood",
        "PRESCRIPTION//Furosemide//IV": "Furosemide, IV",
        "MICROBIOLOGY//90115": "BLOOD CULTURE",
        "PROCEDURE//225792": "Invasive Ventilation",
        "INGREDIENT//220490": "Water",
    }
    assert card.views == ("events",)


def test_labels_and_extension_columns(hospital, tmp_path, events_of):
    hospital.add_stay(102, hours=30, label="1", death_after=29)
    events_of(hospital, window_hours=12)
    folder = next(tmp_path.glob("out*")) / "events"
    labels = pq.read_table(folder / "labels.parquet").to_pylist()
    at = INTIME + timedelta(hours=12)
    assert [(row["subject_id"], row["prediction_time"], row["boolean_value"]) for row in labels] == [
        (1, at, False),
        (2, at, True),
    ]
    assert pq.read_table(folder / "metadata" / "stays.parquet")["stay_id"].to_pylist() == [101, 102]
    first = pq.read_table(folder / "data" / "0.parquet").to_pylist()[0]
    assert (first["subject_id"], first["hadm_id"], first["stay_id"]) == (1, 11, 101)


def test_window_is_half_open_for_every_type(hospital, events_of):
    for at in (-SECOND, 0, 24 - SECOND, 24):
        hospital.lab(1, 51222, at, 10.0)
        hospital.prescribe(1, at, "Heparin")
        hospital.culture(1, at, test_itemid=2)
        hospital.proceed(101, 225441, at, at + 1, 60.0)
        hospital.infuse(101, 225166, at, at + 1, 1.0)
    events, _, _ = events_of(hospital)
    codes = {
        "LAB//51222//UNK",
        "PRESCRIPTION//Heparin//IV",
        "MICROBIOLOGY//2",
        "PROCEDURE//225441",
        "INGREDIENT//225166",
    }
    seen = {code: [event[1] for event in events if event[2] == code] for code in codes}
    assert seen == {code: [0, pytest.approx(24 - SECOND)] for code in codes}


def test_labs_of_every_item_and_texts_where_there_is_no_number(hospital, events_of):
    hospital.lab(1, 51486, 3, None, text="NEG")
    hospital.lab(1, 51486, 4, None, text=None, unit=" ")
    hospital.lab(1, 50912, 5, 99999.0, text="99999", unit="mg/dL")  # as charted: ranges are the dictionary's business
    hospital.lab(1, 50912, 6, float("inf"))
    events, codes, _ = events_of(hospital)
    labs = [event[1:5] for event in events if event[2].startswith("LAB")][1:]
    assert labs == [
        (3, "LAB//51486//UNK", None, "NEG"),
        (4, "LAB//51486//UNK", None, None),
        (5, "LAB//50912//mg/dL", 99999, None),
        (6, "LAB//50912//UNK", None, None),
    ]
    assert codes["LAB//51486//UNK"] == "LAB//51486//UNK"  # no dictionary knows it


@pytest.mark.parametrize(("dose", "number", "text"), [("2.5", 2.5, None), ("1-2", None, "1-2"), (None, None, None)])
def test_dose(hospital, events_of, dose, number, text):
    hospital.prescribe(1, 1, " Aspirin ", route=None, dose=dose)
    events, codes, _ = events_of(hospital)
    assert events[0] == (101, 1, "PRESCRIPTION//Aspirin//UNK", number, text, "mg")
    assert codes["PRESCRIPTION//Aspirin//UNK"] == "Aspirin"


def test_what_ends_after_the_window_has_no_value_yet(hospital, events_of):
    hospital.proceed(101, 225441, 23, 24 - SECOND, 59.0)
    hospital.proceed(101, 225441, 23.5, 24, 30.0)
    hospital.infuse(101, 225166, 20, 300, 1000.0)
    hospital.infuse(101, 225166, 21, None, 7.0)
    events, _, _ = events_of(hospital)
    assert [(e[1], e[3], e[5]) for e in events if e[2] == "PROCEDURE//225441"] == [(23, 59, "min"), (23.5, None, None)]
    assert [(e[1], e[3], e[5]) for e in events if e[2] == "INGREDIENT//225166"] == [(20, None, None), (21, None, None)]


def grown(hospital, at, filed):
    """A positive culture: one row for each antibiotic."""
    for antibiotic in (90001, 90002):
        hospital.culture(
            1,
            at,
            filed=filed,
            micro_specimen_id=7,
            org_itemid=80002,
            org_name="ESCHERICHIA COLI",
            ab_itemid=antibiotic,
            ab_name=f"DRUG {antibiotic}",
            interpretation="S",
        )


def test_culture_shows_its_result_only_when_it_was_filed_in_time(hospital, events_of):
    grown(hospital, 10, filed=60)
    late = [event[1:5] for event in events_of(hospital)[0] if event[2].startswith("MICRO")]
    assert late == [(5, "MICROBIOLOGY//90115", None, None), (10, "MICROBIOLOGY//90115", None, None)]
    hospital.tables["hosp/microbiologyevents"] = []
    grown(hospital, 10, filed=23)
    hospital.culture(1, 12, filed=13, micro_specimen_id=8, comments="NO GROWTH.")
    events, codes, _ = events_of(hospital)
    assert [event[1:5] for event in events if event[2].startswith("MICRO")] == [
        (10, "MICROBIOLOGY//90115//80002//90001", None, "S"),
        (10, "MICROBIOLOGY//90115//80002//90002", None, "S"),
        (12, "MICROBIOLOGY//90115", None, "NO GROWTH."),
    ]
    assert codes["MICROBIOLOGY//90115//80002//90001"] == "BLOOD CULTURE, ESCHERICHIA COLI, DRUG 90001"


def test_specimen_with_a_date_only_is_of_the_end_of_that_day(hospital, events_of):
    hospital.culture(1, None, chartdate=-10, test_itemid=3)  # 2150-03-01 00:00, ten hours before admission
    hospital.culture(1, None, chartdate=14, test_itemid=4)  # the next midnight: its end is after the window
    events, _, _ = events_of(hospital)
    assert [event[1] for event in events if event[2] == "MICROBIOLOGY//3"] == [pytest.approx(14 - SECOND)]
    assert not [event for event in events if event[2] == "MICROBIOLOGY//4"]


def test_storetime_hides_what_was_filed_later(hospital, events_of):
    hospital.lab(1, 51222, 10, 9.0, filed=24)
    hospital.lab(1, 51222, 10, 8.0, filed=23)
    hospital.infuse(101, 225166, 10, 11, 1.0, filed=24)
    hospital.proceed(101, 225441, 10, 11, 1.0, filed=25)
    hospital.culture(1, 10, filed=24, test_itemid=2)
    events, _, card = events_of(hospital, visibility="storetime")
    assert [event[2:4] for event in events if event[1] == 10] == [("LAB//51222//UNK", 8)]
    assert any("; 4 in the windows have none" in note for note in card.notes)  # of the five types but prescriptions


def test_inputevents_stand_in_for_ingredientevents(hospital, tmp_path, new_out, build):
    raw = hospital.write(tmp_path / "raw")
    (raw / "icu" / "ingredientevents.parquet").rename(raw / "icu" / "inputevents.parquet")
    card = build(raw, new_out())
    assert any("icu/inputevents" in note for note in card.notes)


def test_events_of_a_patient_go_to_the_stay_in_whose_hours_they_are(hospital, events_of):
    hospital.add_stay(202, subject=1, intime=INTIME + timedelta(hours=100), outtime=INTIME + timedelta(hours=150))
    hospital.prescribe(1, 101, "Heparin")
    hospital.prescribe(1, 50, "Insulin")
    hospital.prescribe(2, 4, "Propofol")
    events, _, _ = events_of(hospital)
    assert [event[:3] for event in events if event[2].startswith("PRE")] == [
        (101, 4, "PRESCRIPTION//Furosemide//IV"),
        (202, 101, "PRESCRIPTION//Heparin//IV"),
    ]


def test_no_event_at_all(hospital, events_of):
    for table in ("hosp/labevents", "hosp/prescriptions", "hosp/microbiologyevents"):
        hospital.tables[table][0]["subject_id"] = 99
    for table in ("icu/procedureevents", "icu/ingredientevents"):
        hospital.tables[table][0]["stay_id"] = 99
    with pytest.raises(BackdoorError, match="no stay has an event in its window"):
        events_of(hospital)
