"""How much of a hospital is simulated and written."""

import duckdb
import pytest

from backdoor_cohorts.simulate import simulate
from backdoor_cohorts.simulate.schemas import EVENT_SCHEMAS, SCHEMAS

STARTS = {
    "icu/chartevents": "charttime",
    "icu/outputevents": "charttime",
    "icu/procedureevents": "starttime",
    "icu/ingredientevents": "starttime",
    "hosp/labevents": "charttime",
    "hosp/prescriptions": "starttime",
    "hosp/microbiologyevents": "charttime",
}


def test_longer_recording_covers_the_hours_asked_for(tmp_path):
    simulate(tmp_path, 60, 1, block=60, hours=96)
    (last,) = duckdb.execute(f"""
        SELECT max(date_diff('hour', intime, charttime)) FROM '{tmp_path}/icu/chartevents.parquet'
        JOIN '{tmp_path}/icu/icustays.parquet' USING (stay_id)""").fetchone()
    assert 90 <= last <= 96


def test_no_stays_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stays is 0"):
        simulate(tmp_path, 0, 1)


def test_rows_are_counted(tmp_path):
    found = simulate(tmp_path, 60, 1)
    assert found.rows.keys() == SCHEMAS.keys()
    for table, count in found.rows.items():
        assert duckdb.execute(f"SELECT count(*) FROM '{tmp_path}/{table}.parquet'").fetchone() == (count,)
    assert (found.subjects, found.stays) == (found.rows["hosp/patients"], found.rows["icu/icustays"])


def test_without_orders_the_measurements_are_the_same(tmp_path):
    simulate(tmp_path / "all", 60, 5)
    assert simulate(tmp_path / "less", 60, 5, events=False).rows.keys() == SCHEMAS.keys() - EVENT_SCHEMAS.keys()
    written = {p.relative_to(tmp_path / "less").as_posix() for p in (tmp_path / "less").rglob("*.parquet")}
    assert written == {f"{table}.parquet" for table in SCHEMAS.keys() - EVENT_SCHEMAS.keys()}
    for name in written - {"icu/d_items.parquet"}:
        assert (tmp_path / "less" / name).read_bytes() == (tmp_path / "all" / name).read_bytes(), name


def test_leaving_out_later_hours_leaves_the_earlier_ones_as_they_are(tmp_path):
    simulate(tmp_path / "all", 80, 5)
    simulate(tmp_path / "day", 80, 5, until=24)
    for table, time in STARTS.items():
        day, whole = (
            # Of patients with one stay, because laboratory and pharmacy do not tell to which stay a row belongs.
            duckdb.execute(f"""
                SELECT e.* EXCLUDE ({time}), e.{time} FROM '{tmp_path}/{which}/{table}.parquet' e
                JOIN (SELECT subject_id, min(intime) AS intime FROM '{tmp_path}/all/icu/icustays.parquet'
                      GROUP BY subject_id HAVING count(*) = 1) USING (subject_id)
                WHERE {condition} ORDER BY ALL""").fetchall()
            for which, condition in (("day", "true"), ("all", f"e.{time} < intime + INTERVAL 24 HOUR"))
        )
        if table == "hosp/microbiologyevents":
            day = [row for row in day if row[-1] is not None]  # those without a time cannot be placed by this test
        assert day == whole, table
        assert len(day) > 50, table
