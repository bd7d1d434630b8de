import copy
import csv
import gzip
import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.features import item_map
from backdoor_cohorts.hospital import build_hospital
from backdoor_core.contracts import Inclusion

INTIME = datetime(2150, 3, 1, 10, 0, 0)

TYPES = {
    "hosp/patients": {
        "subject_id": pa.int64(),
        "gender": pa.string(),
        "anchor_age": pa.int32(),
        "anchor_year": pa.int32(),
        "dod": pa.string(),
    },
    "hosp/admissions": {
        "subject_id": pa.int64(),
        "hadm_id": pa.int64(),
        "admittime": pa.timestamp("us"),
        "deathtime": pa.timestamp("us"),
        "admission_type": pa.string(),
        "admission_location": pa.string(),
        "discharge_location": pa.string(),
        "insurance": pa.string(),
        "marital_status": pa.string(),
        "race": pa.string(),
        "hospital_expire_flag": pa.string(),
    },
    "hosp/labevents": {
        "subject_id": pa.int64(),
        "hadm_id": pa.int64(),
        "itemid": pa.int64(),
        "charttime": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "value": pa.string(),
        "valuenum": pa.float64(),
        "valueuom": pa.string(),
    },
    "icu/icustays": {
        "subject_id": pa.int64(),
        "hadm_id": pa.int64(),
        "stay_id": pa.int64(),
        "first_careunit": pa.string(),
        "intime": pa.timestamp("us"),
        "outtime": pa.timestamp("us"),
    },
    "icu/chartevents": {
        "stay_id": pa.int64(),
        "itemid": pa.int64(),
        "charttime": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "value": pa.string(),
        "valuenum": pa.float64(),
    },
    "icu/outputevents": {
        "stay_id": pa.int64(),
        "itemid": pa.int64(),
        "charttime": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "value": pa.float64(),
    },
    "hosp/prescriptions": {
        "subject_id": pa.int64(),
        "starttime": pa.timestamp("us"),
        "stoptime": pa.timestamp("us"),
        "drug": pa.string(),
        "route": pa.string(),
        "dose_val_rx": pa.string(),
        "dose_unit_rx": pa.string(),
    },
    "hosp/microbiologyevents": {
        "subject_id": pa.int64(),
        "micro_specimen_id": pa.int64(),
        "chartdate": pa.timestamp("us"),
        "charttime": pa.timestamp("us"),
        "storedate": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "test_itemid": pa.int64(),
        "test_name": pa.string(),
        "org_itemid": pa.int64(),
        "org_name": pa.string(),
        "ab_itemid": pa.int64(),
        "ab_name": pa.string(),
        "interpretation": pa.string(),
        "comments": pa.string(),
    },
    "icu/procedureevents": {
        "stay_id": pa.int64(),
        "itemid": pa.int64(),
        "starttime": pa.timestamp("us"),
        "endtime": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "value": pa.float64(),
        "valueuom": pa.string(),
    },
    "icu/ingredientevents": {
        "stay_id": pa.int64(),
        "itemid": pa.int64(),
        "starttime": pa.timestamp("us"),
        "endtime": pa.timestamp("us"),
        "storetime": pa.timestamp("us"),
        "amount": pa.float64(),
        "amountuom": pa.string(),
    },
    "hosp/d_labitems": {"itemid": pa.int64(), "label": pa.string(), "fluid": pa.string()},
    "icu/d_items": {"itemid": pa.int64(), "label": pa.string()},
}
ITEMS = {225792: "Invasive Ventilation", 220490: "Water", 225441: "Hemodialysis"}


class Hospital:
    """Raw tables as lists of dicts; a stay's subject is its number minus 100, its admission that plus 10."""

    intime = INTIME

    def __init__(self):
        self.tables = {name: [] for name in TYPES}
        self.types = copy.deepcopy(TYPES)

    def add_stay(
        self, stay, hours=48.0, label="0", gender="M", anchor=(50, 2150), death_after=None, subject=None, **more
    ):
        known = subject is not None
        subject = stay - 100 if subject is None else subject
        death = None if death_after is None else INTIME + timedelta(hours=death_after)
        if not known:
            self.tables["hosp/patients"].append(
                {"subject_id": subject, "gender": gender, "anchor_age": anchor[0], "anchor_year": anchor[1]}
            )
        self.tables["hosp/admissions"].append(
            {
                "subject_id": subject,
                "hadm_id": stay - 90,
                "admittime": INTIME - timedelta(hours=5),
                "deathtime": death,
                "admission_type": "URGENT",
                "race": "WHITE, OTHER",
                "hospital_expire_flag": label,
            }
        )
        row = {
            "subject_id": subject,
            "hadm_id": stay - 90,
            "stay_id": stay,
            "first_careunit": "Medical ICU",
            "intime": INTIME,
            "outtime": INTIME + timedelta(hours=hours),
        }
        self.tables["icu/icustays"].append({**row, **more})

    def chart(self, stay, itemid, hours, number, text=None, filed=None):
        self.add("icu/chartevents", stay_id=stay, itemid=itemid, charttime=hours, storetime=filed)
        self.tables["icu/chartevents"][-1].update({"value": text, "valuenum": number})

    def lab(self, subject, itemid, hours, number, text=None, unit=None, filed=None):
        self.add("hosp/labevents", subject_id=subject, itemid=itemid, charttime=hours, storetime=filed)
        self.tables["hosp/labevents"][-1].update({"value": text, "valuenum": number, "valueuom": unit})

    def output(self, stay, itemid, hours, number, filed=None):
        self.add("icu/outputevents", stay_id=stay, itemid=itemid, charttime=hours, storetime=filed)
        self.tables["icu/outputevents"][-1]["value"] = number

    def prescribe(self, subject, hours, drug, route="IV", dose="1", unit="mg"):
        self.add("hosp/prescriptions", subject_id=subject, starttime=hours, drug=drug, route=route)
        self.tables["hosp/prescriptions"][-1].update({"dose_val_rx": dose, "dose_unit_rx": unit})

    def culture(self, subject, hours, filed=None, **more):
        row = {"micro_specimen_id": 1, "test_itemid": 90115, "test_name": "BLOOD CULTURE", **more}
        day = None if hours is None else hours - (INTIME + timedelta(hours=hours)).hour
        self.add(
            "hosp/microbiologyevents", subject_id=subject, charttime=hours, storetime=filed, **{"chartdate": day, **row}
        )

    def proceed(self, stay, itemid, hours, ends, minutes, filed=None):
        self.add("icu/procedureevents", stay_id=stay, itemid=itemid, starttime=hours, endtime=ends, storetime=filed)
        self.tables["icu/procedureevents"][-1].update({"value": minutes, "valueuom": "min"})

    def infuse(self, stay, itemid, hours, ends, amount, filed=None):
        self.add("icu/ingredientevents", stay_id=stay, itemid=itemid, starttime=hours, endtime=ends, storetime=filed)
        self.tables["icu/ingredientevents"][-1].update({"amount": amount, "amountuom": "ml"})

    def add(self, table, **row):
        """Add a row; a number in a column of times is hours since INTIME."""
        times = {name for name, type_ in TYPES[table].items() if pa.types.is_timestamp(type_)}
        hours = {name for name in times if isinstance(row.get(name), int | float)}
        self.tables[table].append(
            {**row, **{name: INTIME + timedelta(seconds=round(row[name] * 3600)) for name in hours}}
        )

    def add_random(self, seed, stays=6, events=250):
        """Six more stays, with measurements in and out of the window and of the plausible ranges."""
        rng = np.random.default_rng(seed)
        for stay in range(102, 102 + stays):
            self.add_stay(stay)
        items = item_map()
        for _ in range(events):
            item = items[rng.integers(len(items))]
            stay = int(rng.integers(101, 102 + stays))
            hours = int(rng.integers(-60, 26 * 60)) / 60
            value = float(np.round(rng.uniform(item.low - 0.1 * (item.high - item.low), 1.1 * item.high), 2))
            add = {"chartevents": self.chart, "labevents": self.lab, "outputevents": self.output}[item.source]
            add(stay - 100 if item.source == "labevents" else stay, item.itemid, hours, value)

    def shuffle(self, seed):
        rng = np.random.default_rng(seed)
        self.tables = {name: [rows[i] for i in rng.permutation(len(rows))] for name, rows in self.tables.items()}

    def write(self, folder: Path, suffix=".parquet"):
        for name, rows in self.tables.items():
            path = folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            types = self.types[name]
            if suffix == ".parquet":
                columns = {c: pa.array([row.get(c) for row in rows], type_) for c, type_ in types.items()}
                pq.write_table(pa.table(columns), path)
                continue
            opened = gzip.open if suffix.endswith(".gz") else open
            with opened(path, "wt", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(types), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        return folder


def minimal():
    """One stay with one row in each event table."""
    hospital = Hospital()
    hospital.add_stay(101)
    hospital.chart(101, 220045, 1, 80.0)
    hospital.lab(1, 50912, 2, 1.1)
    hospital.output(101, 226559, 3, 100.0)
    hospital.prescribe(1, 4, "Furosemide")
    hospital.culture(1, 5)
    hospital.proceed(101, 225792, 6, 7, 60.0)
    hospital.infuse(101, 220490, 7, 8, 50.0)
    hospital.tables["icu/d_items"] = [{"itemid": item, "label": label} for item, label in ITEMS.items()]
    hospital.tables["hosp/d_labitems"] = [{"itemid": 50912, "label": "Creatinine", "fluid": "Blood"}]
    return hospital


@pytest.fixture
def hospital():
    return minimal()


@pytest.fixture(scope="session")
def build():
    """Build the cohort of raw tables; by default the adults who stayed 24 h."""

    def make(raw, out, inclusion=None, **more):
        return build_hospital(raw, out, inclusion or Inclusion(), source="test", description="a test", **more)

    return make


def rows_of(table):
    """stay_id -> feature -> value."""
    return {row["stay_id"]: row for row in table.to_pylist()}


@pytest.fixture
def table_of(tmp_path, new_out, build):
    """Build a hospital's cohort in tmp_path/out; give its card and its table by stay."""

    def make(hospital, inclusion=None, suffix=".parquet"):
        out = new_out()
        card = build(hospital.write(tmp_path / "raw", suffix), out, inclusion)
        return card, rows_of(pq.read_table(out / "table.parquet"))

    return make


@pytest.fixture
def new_out(tmp_path):
    def make(name="out"):
        out = tmp_path / name
        out.mkdir()
        return out

    return make


@pytest.fixture(scope="session")
def real_data():
    folder = os.environ.get("BACKDOOR_TEST_DATA")
    if not folder:
        pytest.skip("BACKDOOR_TEST_DATA is not set: no real data here")
    return Path(folder)
