import csv
import gzip
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from backdoor_cohorts import register_cohorts
from backdoor_cohorts.database import database, prepare, run_step
from backdoor_cohorts.features import core30, item_map
from backdoor_cohorts.mimiciv import MimicIV
from backdoor_cohorts.raw import find_tables, load_tables, open_reader, raw_files, viewed
from backdoor_cohorts.writing import attrition
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


@pytest.fixture(scope="session")
def demo_rich(demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("rich")
    card = source(demo.parent, path=demo.name).build(out, Inclusion(features="rich"), np.random.default_rng(0))
    return card, out


def test_registered():
    found = []
    register_cohorts(found.append)
    assert {"mimiciv", "physionet2012", "synthetic"} <= {cohort.name for cohort in found}
    assert MimicIV.views == {"table", "series", "events"}


def test_options():
    with pytest.raises(ValidationError, match="path"):
        MimicIV.Options()
    with pytest.raises(ValidationError, match="threads"):
        MimicIV.Options(path="x", threads=0)
    assert all(field.description for field in MimicIV.Options.model_fields.values())


def test_path_is_meant_from_the_study(hospital, tmp_path, new_out):
    raw = hospital.write(tmp_path / "study" / "mimic")
    cohort = source(tmp_path / "study", path="mimic")
    assert cohort.inputs() == raw_files(raw)
    assert raw / "icu" / "chartevents.parquet" in cohort.inputs()
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


@pytest.fixture(scope="session")
def demo_rules(demo, tmp_path_factory):
    """Attrition and positive labels of an inclusion, without reading an event table."""

    def count(**rules):
        inclusion = Inclusion(**rules)
        with database(tmp_path_factory.mktemp("rules"), threads=1, memory="1GB") as connection:
            load_tables(connection, find_tables(demo, inclusion, []), open_reader)
            prepare(connection, inclusion, core30(24), item_map())
            run_step(connection, "stays")
            run_step(connection, "inclusion")
            steps = [step.stays for step in attrition(connection, inclusion)]
            ((positive,),) = connection.execute("SELECT SUM(label) FROM stays").fetchall()
            return steps, positive

    return count


@pytest.mark.parametrize(
    ("rules", "stays", "deaths"),
    [
        # window_hours=1: nobody died within the first hour, so that only the rule in question decides
        ({"window_hours": 1, "min_los_hours": 0}, 140, 20),
        ({"window_hours": 1, "min_los_hours": 48}, 74, 12),
        ({"window_hours": 1, "min_los_hours": 0, "first_stay_only": True}, 100, 11),
        ({"first_stay_only": True}, 85, 7),
        ({"window_hours": 24, "gap_hours": 24}, 74, 12),
    ],
)
def test_demo_rules(demo_rules, rules, stays, deaths):
    steps, positive = demo_rules(**rules)
    assert steps[0] == 140
    assert (steps[-1], positive) == (stays, deaths)


@pytest.mark.parametrize("label", ["icu_mortality", "los_gt_3d", "los_gt_7d"])
def test_demo_labels_against_another_way_of_counting(demo, demo_rules, label):
    def rows(name):
        with gzip.open(demo / f"{name}.csv.gz", "rt", newline="") as file:
            return list(csv.DictReader(file))

    deaths = {row["hadm_id"]: row["deathtime"] for row in rows("hosp/admissions")}
    stays = rows("icu/icustays")
    expected = {
        # Times are written YYYY-MM-DD HH:MM:SS, so that they compare as text; los is in days.
        "icu_mortality": sum("" < deaths[row["hadm_id"]] <= row["outtime"] for row in stays),
        "los_gt_3d": sum(float(row["los"]) > 3 for row in stays),
        "los_gt_7d": sum(float(row["los"]) > 7 for row in stays),
    }
    steps, positive = demo_rules(label=label, min_los_hours=0, window_hours=1)
    assert steps[-1] == 140
    assert positive == expected[label]


def test_demo_dead_within_the_window(demo, tmp_path):
    """Two stays end in death within 24 h of ICU admission; both are shorter than 24 h."""
    card = source(demo, path=".").build(tmp_path, Inclusion(min_los_hours=0), np.random.default_rng(0))
    assert card.attrition[3].stays - card.attrition[4].stays == 2


def test_demo_age_is_not_anchor_age(demo, tmp_path):
    with database(tmp_path, threads=1, memory="1GB") as connection:
        load_tables(connection, find_tables(demo, Inclusion(), []), open_reader)
        prepare(connection, Inclusion(), core30(24), item_map())
        run_step(connection, "stays")
        differ = connection.execute(
            "SELECT COUNT(*), MIN(c.age) FROM candidates AS c JOIN patients AS p USING (subject_id) "
            "WHERE c.age <> p.anchor_age"
        ).fetchone()
        assert differ[0] == 47
        assert connection.execute("SELECT MIN(age) FROM candidates").fetchone() == (21,)


def test_demo_views_are_of_the_same_stays(demo_rich):
    card, out = demo_rich
    assert card.views == ("table", "series", "events")
    stays = pq.read_table(out / "stays.parquet")
    ids = stays["stay_id"].to_pylist()
    assert len(ids) == 117
    assert pq.read_table(out / "table.parquet", columns=["stay_id"])["stay_id"].to_pylist() == ids
    series = pq.read_table(out / "series.parquet")
    assert series["stay_id"].to_pylist() == [stay for stay in ids for _ in range(24)]
    assert series["hour"].to_pylist() == list(range(24)) * 117
    labels = pq.read_table(out / "events" / "labels.parquet")
    assert sum(labels["boolean_value"].to_pylist()) == sum(stays["label"].to_pylist()) == 14
    assert sorted(pq.read_table(out / "events" / "metadata" / "stays.parquet")["stay_id"].to_pylist()) == ids
    events = pq.read_table(out / "events" / "data" / "0.parquet", columns=["stay_id", "time", "code"]).to_pylist()
    assert {event["stay_id"] for event in events} <= set(ids)
    kinds = {event["code"].split("//")[0] for event in events}
    assert kinds == {"LAB", "PRESCRIPTION", "PROCEDURE", "INGREDIENT", "MICROBIOLOGY"}
    begins = dict(zip(ids, stays["intime"].to_pylist(), strict=True))
    assert all(0 <= (e["time"] - begins[e["stay_id"]]).total_seconds() < 24 * 3600 for e in events)


def test_demo_series_and_table_tell_the_same(demo_rich):
    card, out = demo_rich
    table, series = pq.read_table(out / "table.parquet"), pq.read_table(out / "series.parquet")
    measured = 0
    for feature in card.series_features:
        if feature.name in {"age", "sex", "urine_output"}:
            continue
        counts = series[f"{feature.name}.count"].to_numpy().reshape(117, 24).astype(float)
        values = series[feature.name].to_numpy().reshape(117, 24)
        np.testing.assert_array_equal(counts.sum(axis=1), table[f"{feature.name}.count"].to_numpy())
        assert ((counts == 0) == np.isnan(values)).all()
        with np.errstate(invalid="ignore"):
            means = np.nansum(values * counts, axis=1) / counts.sum(axis=1)
        np.testing.assert_allclose(means, table[f"{feature.name}.mean"].to_numpy(), rtol=1e-5)
        measured += counts.sum()
    assert measured > 30_000


def test_demo_events_are_described(demo_rich):
    _, out = demo_rich
    codes = pq.read_table(out / "events" / "metadata" / "codes.parquet").to_pylist()
    described = {row["code"]: row["description"] for row in codes}
    assert described["LAB//50912//mg/dL"] == "Creatinine, blood"
    assert described["PROCEDURE//225792"] == "Invasive Ventilation"
    bare = [code for code, text in described.items() if code == text]
    assert len(bare) < 0.02 * len(codes), bare


def test_demo_lab_events_are_the_rows_of_labevents(demo, demo_rich):
    """Counted another way: each row of labevents in the window of a stay of its patient."""
    _, out = demo_rich
    stays = pq.read_table(out / "stays.parquet").to_pylist()
    windows = {}
    for stay in stays:
        begin = stay["intime"]
        windows.setdefault(str(stay["subject_id"]), []).append((str(begin), str(begin + timedelta(hours=24))))
    with gzip.open(demo / "hosp" / "labevents.csv.gz", "rt", newline="") as file:
        expected = sum(
            low <= row["charttime"] < high
            for row in csv.DictReader(file)
            for low, high in windows.get(row["subject_id"], [])
        )
    codes = pq.read_table(out / "events" / "data" / "0.parquet", columns=["code"])["code"].to_pylist()
    assert sum(code.startswith("LAB//") for code in codes) == expected


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
    tables = find_tables(demo, Inclusion(), [])
    with (
        database(tmp_path, threads=2, memory="1GB") as connection,
        viewed(connection, tables["chartevents"], open_reader),
        viewed(connection, tables["labevents"], open_reader),
    ):
        prepare(connection, Inclusion(), core30(24), item_map())
        counts = dict(
            connection.execute(
                "SELECT m.itemid, COUNT(*) FROM (SELECT itemid, valuenum FROM chartevents "
                "UNION ALL SELECT itemid, valuenum FROM labevents) AS e "
                "INNER JOIN item_map AS m ON e.itemid = m.itemid WHERE e.valuenum IS NOT NULL GROUP BY m.itemid"
            ).fetchall()
        )
    assert {itemid: counts.get(itemid) for itemid in DEMO_ITEMS} == DEMO_ITEMS
