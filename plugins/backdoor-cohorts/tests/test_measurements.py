from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.features import CORE30, DICTIONARY, item_map


# ------------------------------------------------------------------------------------------- the measurements
def test_window_is_half_open(hospital, table_of):
    second = 1 / 3600
    for hours, value in ((-second, 200), (0, 60), (24 - second, 100), (24, 200)):
        hospital.chart(101, 220045, hours, value)
        hospital.lab(1, 50912, hours, value / 10)
    _, table = table_of(hospital)
    assert table[101]["heart_rate"] == 80  # 60, 80, 100
    assert table[101]["creatinine"] == 10


def test_units(hospital, table_of):
    hospital.chart(101, 223761, 1, 98.6)  # degrees Fahrenheit
    hospital.chart(101, 223762, 2, 39.0)
    hospital.chart(101, 223761, 3, 37.0)  # a Celsius value in the Fahrenheit item: unclear, so dropped
    hospital.chart(101, 226531, 4, 200.0)  # pounds
    _, table = table_of(hospital)
    assert table[101]["temperature"] == pytest.approx(38.0)
    assert table[101]["weight"] == pytest.approx(90.718474)


def test_weight_prefers_admission_weight_then_the_earliest(hospital, table_of):
    hospital.chart(101, 224639, 1, 90.0)
    hospital.chart(101, 226512, 9, 81.0)
    hospital.chart(101, 226512, 8, 80.0)
    hospital.add_stay(102)
    hospital.chart(102, 226512, 1, 800.0)  # implausible: as good as not charted
    hospital.chart(102, 224639, 3, 71.0)
    hospital.chart(102, 224639, 2, 70.0)
    _, table = table_of(hospital)
    assert table[101]["weight"] == 80
    assert table[102]["weight"] == 70


def test_urine_without_irrigant(hospital, table_of):
    hospital.output(101, 227489, 4, 500.0)
    hospital.output(101, 227488, 4, 200.0)
    hospital.output(101, 226559, 5, 5001.0)  # more than a bladder holds
    hospital.output(101, 227510, 5, 50.0)  # tube-feeding residual
    hospital.add_stay(102)
    hospital.output(102, 227488, 4, 200.0)
    _, table = table_of(hospital)
    assert table[101]["urine_output"] == 400
    assert np.isnan(table[102]["urine_output"])


def test_intubated_patient_has_no_verbal_score(hospital, table_of):
    hospital.chart(101, 223900, 1, 1.0, "No Response-ETT")
    hospital.chart(101, 223900, 2, 4.0, "Confused")
    hospital.add_stay(102)
    hospital.chart(102, 223900, 1, 1.0, "No Response-ETT")
    hospital.chart(102, 220739, 1, 1.0, "None")
    _, table = table_of(hospital)
    assert table[101]["gcs_verbal"] == 4
    assert np.isnan(table[102]["gcs_verbal"])
    assert table[102]["gcs_eye"] == 1


def test_implausible_values_and_settings_are_dropped(hospital, table_of):
    for itemid, value in ((220045, 0.0), (220045, 999999.0), (220045, None), (220045, float("nan")), (220046, 130.0)):
        hospital.chart(101, itemid, 2, value)
    for itemid, value in ((226253, 88.0), (224688, 14.0), (224027, 90.0), (220277, 101.0)):
        hospital.chart(101, itemid, 2, value)
    _, table = table_of(hospital)
    assert table[101]["heart_rate"] == 80
    assert all(np.isnan(table[101][name]) for name in ("spo2", "resp_rate", "temperature"))


def test_labs_come_by_patient_and_time(hospital, table_of):
    """Without an admission number, and for each of two stays of a patient in the hours of each."""
    hospital.add_stay(
        202,
        subject=1,
        intime=hospital.intime + timedelta(hours=12),
        outtime=hospital.intime + timedelta(hours=60),
    )
    hospital.lab(1, 50983, 6, 130.0)
    hospital.lab(1, 50983, 18, 140.0)
    hospital.lab(1, 50983, 30, 150.0)
    hospital.lab(2, 50983, 18, 199.0)
    _, table = table_of(hospital)
    assert table[101]["sodium"] == 135
    assert table[202]["sodium"] == 145


def test_not_measured_is_nan_and_told(hospital, tmp_path, table_of):
    card, table = table_of(hospital)
    measured = {"age", "sex", "heart_rate", "creatinine", "urine_output"}
    assert {name for name, value in table[101].items() if not np.isnan(value)} == measured | {"stay_id"}
    assert "spo2" in card.notes[-1]
    assert "heart_rate" not in card.notes[-1]
    assert card.features == CORE30
    parquet = pq.read_table(tmp_path / "out" / "table.parquet")
    assert parquet.column_names == ["stay_id", *(f.name for f in CORE30)]
    assert set(parquet.schema.types[1:]) == {pa.float32()}
    assert parquet["spo2"].null_count == 0  # NaN, so that numpy gets float32 as it is


# ---------------------------------------------------------------------------- against another way of counting
def by_hand(hospital):
    """(stay, feature) -> value, straight from the dictionary's words."""
    found = {}
    items = {item.itemid: item for item in item_map()}
    events = [
        (row.get("stay_id", row.get("subject_id", 0) + 100), row["itemid"], row["charttime"], value)
        for table, column in (
            ("icu/chartevents", "valuenum"),
            ("hosp/labevents", "valuenum"),
            ("icu/outputevents", "value"),
        )
        for row in hospital.tables[table]
        for value in [row[column]]
    ]
    for stay, itemid, at, value in events:
        hours = (at - hospital.intime).total_seconds() / 3600
        item = items[itemid]
        if not 0 <= hours < 24:
            continue
        if itemid == 223761:
            value = (value - 32) * 5 / 9 if 70 < value < 120 else np.nan
        if itemid == 226531:
            value *= 0.45359237
        if item.low <= value <= item.high:
            value = -value if itemid == 227488 else value
            found.setdefault((stay, item.feature), []).append((item.preference, hours, value))
    entries = {entry.feature: entry for entry in DICTIONARY}
    result = {}
    for (stay, feature), rows in found.items():
        values = [row[2] for row in rows]
        how = {"mean": np.mean, "min": min, "max": max, "sum": sum, "first": lambda _, r=rows: min(r)[2]}
        value = how[entries[feature].aggregate](values)
        if entries[feature].low <= value <= entries[feature].high:
            result[stay, feature] = value
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_table_equals_a_count_by_hand(hospital, seed, table_of):
    hospital.add_random(seed)
    _, table = table_of(hospital)
    expected = by_hand(hospital)
    assert len(expected) > 60
    for stay, row in table.items():
        for feature in CORE30[2:]:
            want = expected.get((stay, feature.name), np.nan)
            assert row[feature.name] == pytest.approx(want, rel=1e-5, nan_ok=True), (stay, feature.name)
