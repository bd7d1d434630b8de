"""The table and series of the same stays, on hand-made hospitals."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts import dense
from backdoor_cohorts.features import DICTIONARY, series_features, table_columns
from backdoor_core.contracts import Inclusion

SECOND = 1 / 3600
SUMMED = {"urine_output"}


@pytest.fixture
def views_of(tmp_path, new_out, build):
    """Build a hospital; give its card, table by stay, and series by stay and hour."""

    def make(hospital, **inclusion):
        number = len(list(tmp_path.iterdir()))
        out = new_out(f"out{number}")
        card = build(hospital.write(tmp_path / f"raw{number}"), out, Inclusion(views=("table", "series"), **inclusion))
        table = {row["stay_id"]: row for row in pq.read_table(out / "table.parquet").to_pylist()}
        series = {}
        for row in pq.read_table(out / "series.parquet").to_pylist():
            series.setdefault(row["stay_id"], []).append(row)
        return card, table, series

    return make


# ------------------------------------------------------------------------------------------------- the series
@pytest.mark.parametrize("hours", [1, 24, 48])
def test_as_many_rows_as_hours_and_none_after(hospital, hours, views_of):
    hospital.add_stay(102)  # nothing measured at all
    for at in (hours - SECOND, hours, hours + 0.5):
        hospital.chart(101, 220277, at, 95.0)
    card, _, series = views_of(hospital, window_hours=hours, min_los_hours=0)
    assert {stay: [row["hour"] for row in rows] for stay, rows in series.items()} == {
        101: list(range(hours)),
        102: list(range(hours)),
    }
    assert sum(row["spo2.count"] for row in series[101]) == 1
    assert series[101][-1]["spo2"] == 95
    assert all(np.isnan(row["heart_rate"]) and row["heart_rate.count"] == 0 for row in series[102])
    assert card.series_features == series_features("core30")


def test_an_hour_is_half_open_and_holds_the_mean(hospital, views_of):
    for at, value in ((2, 60.0), (2.5, 70.0), (3 - SECOND, 80.0), (3, 100.0)):
        hospital.chart(101, 220210, at, value / 5)
    _, _, series = views_of(hospital)
    assert [series[101][hour]["resp_rate"] for hour in (2, 3)] == [14, 20]
    assert [series[101][hour]["resp_rate.count"] for hour in (1, 2, 3, 4)] == [0, 3, 1, 0]


def test_urine_is_summed_and_a_net_intake_is_no_value(hospital, views_of):
    for at, item, volume in ((5, 226559, 100.0), (5.5, 226560, 50.0), (6, 227488, 200.0), (7, 227489, 260.0)):
        hospital.output(101, item, at, volume)
    _, table, series = views_of(hospital)
    assert [series[101][hour]["urine_output"] for hour in (3, 5, 7)] == [100, 150, 260]
    assert [series[101][hour]["urine_output.count"] for hour in (3, 5, 6, 7)] == [1, 2, 0, 1]
    assert np.isnan(series[101][6]["urine_output"])
    assert table[101]["urine_output"] == 310


def test_age_and_sex_stand_in_every_hour(hospital, views_of):
    hospital.add_stay(102, gender="F")
    hospital.add_stay(103, gender=None)
    _, table, series = views_of(hospital)
    assert {(row["age"], row["sex"], row["age.count"], row["sex.count"]) for row in series[102]} == {(50, 0, 1, 1)}
    assert all(np.isnan(row["sex"]) and row["sex.count"] == 0 for row in series[103])
    assert table[102]["sex"] == 0


def test_types_on_disk(hospital, tmp_path, views_of):
    views_of(hospital)
    schema = pq.read_schema(next(tmp_path.glob("out*")) / "series.parquet")
    names = [f.name for f in series_features("core30")]
    assert schema.names == ["stay_id", "hour", *names, *(f"{name}.count" for name in names)]
    assert [str(schema.field(name).type) for name in ("stay_id", "hour", "ph", "ph.count")] == [
        "int64",
        "int16",
        "float",
        "uint16",
    ]
    assert pq.read_table(next(tmp_path.glob("out*")) / "series.parquet")["ph"].null_count == 0  # NaN, as in the table


@pytest.mark.parametrize(("seed", "features"), [(1, "core30"), (2, "rich")])
def test_series_and_table_tell_the_same(hospital, seed, features, views_of, monkeypatch):
    """Mean over the window = sum(mean * count) / sum(count) over the hours; also when written stay by stay."""
    hospital.add_random(seed, events=2500)
    urine = [row for row in hospital.tables["icu/outputevents"] if row["itemid"] != 227488]
    hospital.tables["icu/outputevents"] = [{**row, "value": row["value"] / 100} for row in urine]  # a plausible sum
    _, table, series = views_of(hospital, features=features)
    compared = 0
    for column in table_columns(features, 24):
        if column.statistic not in {"mean", "sum", "count"}:
            continue
        for stay, rows in series.items():
            counts = np.array([row[f"{column.variable}.count"] for row in rows], float)
            values = np.nan_to_num([row[column.variable] for row in rows])
            if column.variable in SUMMED:
                if column.statistic == "sum":
                    assert table[stay][column.feature.name] == pytest.approx(values.sum(), rel=1e-5)
                    compared += 1
                continue
            expected = {"count": counts.sum(), "mean": (values * counts).sum() / (counts.sum() or np.nan)}
            assert table[stay][column.feature.name] == pytest.approx(expected[column.statistic], rel=1e-5, nan_ok=True)
            compared += int(counts.sum() > 0)
    assert compared > 40
    monkeypatch.setattr(dense, "CELLS", 1)
    _, again, more = views_of(hospital, features=features)
    np.testing.assert_equal((again, more), (table, series))


# -------------------------------------------------------------------------------------------------- rich table
def test_rich_statistics(hospital, views_of):
    for at, value in ((2, 100.0), (9, 60.0), (9, 70.0)):
        hospital.chart(101, 220045, at, value)  # 80 at hour 1 is there already
    hospital.lab(1, 51221, 3, 30.0)
    _, table, _ = views_of(hospital, features="rich")
    row = table[101]
    assert [row[f"heart_rate.{name}"] for name in ("mean", "min", "max", "last", "count")] == [77.5, 60, 100, 70, 4]
    assert [row[f"hematocrit.{name}"] for name in ("mean", "min", "max", "last", "count")] == [30, 30, 30, 30, 1]
    assert row["urine_output.sum"] == 100
    assert (row["age"], row["sex"]) == (50, 1)
    assert row["lactate.count"] == 0
    assert all(np.isnan(row[f"lactate.{name}"]) for name in ("mean", "min", "max", "last"))


def test_rich_holds_every_variable_once(hospital, views_of):
    card, table, series = views_of(hospital, features="rich")
    assert list(table[101]) == ["stay_id", *(f.name for f in card.features)]
    assert {f.name for f in card.series_features} == {entry.feature for entry in DICTIONARY}
    assert "gcs_total" in card.notes[-1]
    assert len(series[101][0]) == 2 + 2 * 46


def test_total_coma_score_needs_all_three_at_one_time(hospital, views_of):
    for item, value, text in ((220739, 3.0, "To Speech"), (223900, 4.0, "Confused"), (223901, 6.0, "Obeys Commands")):
        hospital.chart(101, item, 2, value, text)
    hospital.chart(101, 220739, 4, 1.0, "None")  # no verbal and motor score then
    for item, value, text in ((220739, 1.0, "None"), (223900, 1.0, "No Response-ETT"), (223901, 1.0, "No response")):
        hospital.chart(101, item, 6, value, text)
    _, table, series = views_of(hospital, features="rich")
    assert [table[101][f"gcs_total.{name}"] for name in ("min", "max", "count")] == [13, 13, 1]
    assert series[101][2]["gcs_total"] == 13
    assert np.isnan(series[101][6]["gcs_total"])


def test_mean_at_the_limit_of_the_range_is_kept(hospital, views_of):
    for at in (1, 2, 3):
        hospital.lab(1, 50885, at, 0.1)  # 0.1 is the lowest plausible bilirubin, and 0.1 * 3 / 3 is less
    _, table, series = views_of(hospital, features="rich")
    assert table[101]["bilirubin_total.mean"] == pytest.approx(0.1)
    assert series[101][1]["bilirubin_total"] == pytest.approx(0.1)


# -------------------------------------------------------------------------------------------------- visibility
def test_storetime_decides_what_is_known_and_charttime_when_it_was(hospital, views_of):
    hospital.chart(101, 220277, 20, 91.0, filed=24 - SECOND)
    hospital.chart(101, 220277, 21, 99.0, filed=24)
    hospital.lab(1, 50983, 22, 130.0, filed=23)
    hospital.lab(1, 50983, 22, 150.0, filed=25)
    hospital.output(101, 226559, 23, 40.0, filed=30)
    card, table, series = views_of(hospital, visibility="storetime")
    assert table[101]["spo2"] == 91
    assert table[101]["sodium"] == 130
    assert series[101][20]["spo2"] == 91  # the hour is that of the measurement
    assert series[101][22]["sodium"] == 130
    assert table[101]["urine_output"] == 100
    assert table[101]["heart_rate"] == 80  # never filed: counts from its charttime
    assert any("(storetime); 3 in the windows have none" in note for note in card.notes)
    _, by_charttime, _ = views_of(hospital)
    assert [by_charttime[101][name] for name in ("spo2", "sodium", "urine_output")] == [95, 140, 140]
