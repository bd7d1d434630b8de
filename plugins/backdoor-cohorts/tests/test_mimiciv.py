import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from backdoor_cohorts import register_cohorts
from backdoor_cohorts.database import database, prepare, run_step
from backdoor_cohorts.features import core30, item_map
from backdoor_cohorts.mimiciv import MimicIV
from backdoor_cohorts.raw import TABLES, open_tables
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError


def source(root, **options):
    return MimicIV(MimicIV.Options(**options), Context(root))


@pytest.fixture(scope="session")
def demo(real_data):
    folder = real_data / "mimic-iv-demo-2.2"
    if not folder.is_dir():
        pytest.skip(f"no MIMIC-IV demo in {real_data}")
    return folder


@pytest.fixture(scope="session")
def demo_cohort(demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    card = source(demo.parent, path=demo.name).build(out, Inclusion(), np.random.default_rng(0))
    return card, pq.read_table(out / "stays.parquet"), pq.read_table(out / "table.parquet")


def test_registered():
    found = []
    register_cohorts(found.append)
    assert [cohort.name for cohort in found] == ["mimiciv", "physionet2012", "synthetic"]


def test_options():
    with pytest.raises(ValidationError, match="path"):
        MimicIV.Options()
    with pytest.raises(ValidationError, match="threads"):
        MimicIV.Options(path="x", threads=0)
    assert all(field.description for field in MimicIV.Options.model_fields.values())


def test_path_is_meant_from_the_study(hospital, tmp_path, new_out):
    raw = hospital.write(tmp_path / "study" / "mimic")
    cohort = source(tmp_path / "study", path="mimic")
    assert cohort.inputs() == [raw / f"{table}.parquet" for table in TABLES]
    card = cohort.build(new_out(), Inclusion(), np.random.default_rng(0))
    assert card.source == "mimiciv"
    assert source(tmp_path, path=str(raw)).inputs() == cohort.inputs()


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(BackdoorError, match="nowhere: no such folder"):
        source(tmp_path, path="nowhere").inputs()


def test_demo_attrition(demo_cohort):
    """Counts of the demo v2.2: 140 stays, 117 of 24 h or more, 14 of them deaths."""
    card, stays, table = demo_cohort
    assert [step.stays for step in card.attrition] == [140, 140, 140, 117, 117, 117]
    assert sum(stays["label"].to_pylist()) == 14
    assert len(set(stays["subject_id"].to_pylist())) < 117
    assert table["stay_id"] == stays["stay_id"]
    assert stays["stay_id"].to_pylist() == sorted(set(stays["stay_id"].to_pylist()))


@pytest.mark.parametrize(("hours", "stays", "deaths"), [(0, 140, 20), (48, 74, 12)])
def test_demo_by_length_of_stay(demo, tmp_path, hours, stays, deaths):
    # window_hours=1: nobody died within the first hour, so that only the length of stay decides
    card = source(demo, path=".").build(
        tmp_path, Inclusion(window_hours=1, min_los_hours=hours), np.random.default_rng(0)
    )
    assert card.attrition[3].stays == card.attrition[5].stays == stays
    assert sum(pq.read_table(tmp_path / "stays.parquet")["label"].to_pylist()) == deaths


def test_demo_dead_within_the_window(demo, tmp_path):
    """Two stays end in death within 24 h of ICU admission; both are shorter than 24 h."""
    card = source(demo, path=".").build(tmp_path, Inclusion(min_los_hours=0), np.random.default_rng(0))
    assert card.attrition[3].stays - card.attrition[4].stays == 2


def test_demo_age_is_not_anchor_age(demo, tmp_path):
    with database(tmp_path, threads=1, memory="1GB") as connection:
        open_tables(connection, demo)
        prepare(connection, Inclusion(), core30(24), item_map())
        run_step(connection, "stays")
        differ = connection.execute(
            "SELECT COUNT(*), MIN(c.age) FROM candidates AS c JOIN patients AS p USING (subject_id) "
            "WHERE c.age <> p.anchor_age"
        ).fetchone()
        assert differ[0] == 47
        assert connection.execute("SELECT MIN(age) FROM candidates").fetchone() == (21,)


def test_demo_values_are_clinical(demo_cohort):
    card, _, table = demo_cohort
    for feature in card.features:
        values = table[feature.name].to_numpy()
        seen = values[~np.isnan(values)]
        assert len(seen) > 40, feature.name
        assert seen.min() >= feature.low, feature.name
        assert seen.max() <= feature.high, feature.name
    means = {name: np.nanmean(table[name].to_numpy()) for name in ("heart_rate", "temperature", "spo2", "weight", "ph")}
    bounds = {
        "heart_rate": (80, 100),
        "temperature": (36.5, 37.5),
        "spo2": (95, 99),
        "weight": (70, 95),
        "ph": (7.2, 7.5),
    }
    for name, (low, high) in bounds.items():
        assert low < means[name] < high, name


DEMO_ITEMS = {
    220045: 13913,
    220210: 13913,
    220277: 13540,
    220179: 8347,
    220180: 8349,
    220181: 8342,
    220050: 5525,
    220052: 5560,
    225309: 486,
    224690: 1331,
    220739: 3274,
    223900: 3266,
    223901: 3251,
    51265: 2820,
    50912: 3003,
    50885: 1146,
}


def test_demo_item_counts(demo, tmp_path):
    """Rows of mapped items with a number, as two other projects count them."""
    with database(tmp_path, threads=2, memory="1GB") as connection:
        open_tables(connection, demo)
        prepare(connection, Inclusion(), core30(24), item_map())
        counts = dict(
            connection.execute(
                "SELECT m.itemid, COUNT(*) FROM (SELECT itemid, valuenum FROM chartevents "
                "UNION ALL SELECT itemid, valuenum FROM labevents) AS e "
                "INNER JOIN item_map AS m ON e.itemid = m.itemid WHERE e.valuenum IS NOT NULL GROUP BY m.itemid"
            ).fetchall()
        )
    assert {itemid: counts.get(itemid) for itemid in DEMO_ITEMS} == DEMO_ITEMS
