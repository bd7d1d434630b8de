"""Admissions of the simulated hospital, each with what its note tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Admission:
    """One hospital admission."""

    hadm_id: int
    subject_id: int
    sex: str
    age: int
    came_from: str
    left_to: str
    died: bool
    days: float
    unit: str
    icu_days: float
    labs: tuple[tuple[str, str, str], ...]
    """Name with the first and the last value as written, by name."""
    drugs: tuple[str, ...]
    """With dose and route, in order of their first order, none twice."""
    cultures: tuple[str, ...]


def read_hospital(raw: Path, count: int) -> list[Admission]:
    """The first `count` admissions with an ICU stay, by number, from ``hosp/`` and ``icu/`` as Parquet."""
    stays = _by_admission(_rows(raw / "icu/icustays.parquet", ["hadm_id", "first_careunit", "los", "intime"]), "intime")
    columns = ["subject_id", "hadm_id", "admittime", "dischtime", "admission_location", "discharge_location"]
    admissions = _rows(raw / "hosp/admissions.parquet", [*columns, "hospital_expire_flag"])
    chosen = sorted((a for a in admissions if a["hadm_id"] in stays), key=lambda a: a["hadm_id"])[:count]
    ids = [a["hadm_id"] for a in chosen]
    about = ["subject_id", "gender", "anchor_age", "anchor_year"]
    patients = {p["subject_id"]: p for p in _rows(raw / "hosp/patients.parquet", about)}
    labs = _labs(raw, ids)
    orders = ["hadm_id", "starttime", "drug", "dose_val_rx", "dose_unit_rx", "route"]
    drugs = _by_admission(_rows(raw / "hosp/prescriptions.parquet", orders, ids), "starttime")
    seen = ["hadm_id", "charttime", "spec_type_desc", "org_name"]
    cultures = _by_admission(_rows(raw / "hosp/microbiologyevents.parquet", seen, ids), "charttime")
    return [
        _admission(a, patients[a["subject_id"]], stays[i], labs[i], drugs[i], cultures[i])
        for a, i in zip(chosen, ids, strict=True)
    ]


Row = dict[str, Any]


def _rows(path: Path, columns: Sequence[str], admissions: Sequence[int] | None = None) -> list[Row]:
    # Here: whoever lists plugins imports this module, and pyarrow takes a quarter of a second.
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    among = None if admissions is None else pc.field("hadm_id").isin(admissions)
    rows: list[Row] = pq.read_table(path, columns=list(columns), filters=among).to_pylist()
    return rows


def _by_admission(rows: Sequence[Row], time: str) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row[time] or datetime.max):
        grouped[row["hadm_id"]].append(row)
    return grouped


def _labs(raw: Path, admissions: Sequence[int]) -> dict[int, list[Row]]:
    names = {row["itemid"]: row["label"] for row in _rows(raw / "hosp/d_labitems.parquet", ["itemid", "label"])}
    rows = _rows(raw / "hosp/labevents.parquet", ["hadm_id", "charttime", "itemid", "value"], admissions)
    return _by_admission([row | {"name": names[row["itemid"]]} for row in rows if row["value"]], "charttime")


def _admission(
    row: Row, patient: Row, stays: Sequence[Row], labs: Sequence[Row], drugs: Sequence[Row], cultures: Sequence[Row]
) -> Admission:
    values: dict[str, list[str]] = defaultdict(list)
    for lab in labs:
        values[lab["name"]].append(lab["value"])
    return Admission(
        hadm_id=row["hadm_id"],
        subject_id=row["subject_id"],
        sex=patient["gender"],
        # The anchor age is that in the anchor year, not at this admission.
        age=patient["anchor_age"] + row["admittime"].year - patient["anchor_year"],
        came_from=row["admission_location"] or "UNKNOWN",
        left_to=row["discharge_location"] or "UNKNOWN",
        died=bool(row["hospital_expire_flag"]),
        days=(row["dischtime"] - row["admittime"]).total_seconds() / 86400,
        unit=stays[0]["first_careunit"],
        icu_days=sum(stay["los"] for stay in stays),
        labs=tuple((name, found[0], found[-1]) for name, found in sorted(values.items())),
        drugs=tuple(dict.fromkeys(_drug(order) for order in drugs)),
        cultures=tuple(dict.fromkeys(_culture(culture) for culture in cultures)),
    )


def _drug(order: Row) -> str:
    words = (order["drug"], order["dose_val_rx"], order["dose_unit_rx"], order["route"])
    return " ".join(" ".join(str(word).split()) for word in words if word)


def _culture(culture: Row) -> str:
    return f"{culture['spec_type_desc'].capitalize()}: {(culture['org_name'] or 'no growth').lower()}"
