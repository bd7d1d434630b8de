"""Patients, admissions and ICU stays as rows: the course of the subjects in MIMIC-IV's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backdoor_cohorts.simulate.course import DAY, HOUR, LUCK, Course
from backdoor_cohorts.simulate.tables import Tables, chosen, dates, moments

CARE_UNITS = (
    "Medical Intensive Care Unit (MICU)",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)",
    "Surgical Intensive Care Unit (SICU)",
    "Cardiac Vascular Intensive Care Unit (CVICU)",
    "Coronary Care Unit (CCU)",
    "Trauma SICU (TSICU)",
    "Neuro Surgical Intensive Care Unit (Neuro SICU)",
)
# By outcome, survived and died: fewer deaths after heart surgery, more in medicine.
UNIT_SHARES = ((0.22, 0.15, 0.16, 0.21, 0.11, 0.10, 0.05), (0.33, 0.19, 0.16, 0.07, 0.12, 0.08, 0.05))
TYPES = ("EW EMER.", "URGENT", "OBSERVATION ADMIT", "SURGICAL SAME DAY ADMISSION", "DIRECT EMER.", "ELECTIVE")
TYPE_SHARES = ((0.50, 0.17, 0.14, 0.12, 0.04, 0.03), (0.60, 0.19, 0.14, 0.02, 0.04, 0.01))
LOCATIONS = (
    "EMERGENCY ROOM",
    "TRANSFER FROM HOSPITAL",
    "EMERGENCY ROOM",
    "PHYSICIAN REFERRAL",
    "CLINIC REFERRAL",
    "PHYSICIAN REFERRAL",
)
"""Where the admissions of each of `TYPES` come from."""
RACES = ("WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO", "ASIAN", "OTHER", "UNKNOWN")
RACE_SHARES = (0.66, 0.11, 0.04, 0.03, 0.05, 0.11)
STATUSES = ("MARRIED", "SINGLE", "WIDOWED", "DIVORCED", None)
STATUS_SHARES = (0.45, 0.28, 0.12, 0.07, 0.08)
INSURANCES = ("Medicare", "Medicaid", "Private", "Other")
HOMES = ("HOME", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHAB", "DIED")
HOME_SHARES = (0.36, 0.28, 0.24, 0.12)
YEAR_GROUPS = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019", "2020 - 2022")


def _pick(luck: NDArray[np.float32], shares: tuple[float, ...]) -> NDArray[np.int64]:
    return np.searchsorted(np.cumsum(shares[:-1]), luck, side="right")


def _pick_by_outcome(
    luck: NDArray[np.float32], shares: tuple[tuple[float, ...], ...], died: NDArray[np.bool_]
) -> NDArray[np.int64]:
    return np.where(died, _pick(luck, shares[1]), _pick(luck, shares[0]))


def write_people(tables: Tables, course: Course) -> None:
    """Append the subjects, admissions and stays of the course, which holds whole subjects but for the very last."""
    new_subject = np.diff(course.subject, prepend=-1) != 0
    new_admission = new_subject | (np.diff(course.admission, prepend=-1) != 0)
    tables.append("hosp/patients", _patients(course.take(new_subject)))
    tables.append("hosp/admissions", _admissions(course.take(new_admission)))
    tables.append("icu/icustays", _stays(course))


def _patients(course: Course) -> dict[str, Any]:
    return {
        "subject_id": course.subject_id,
        "gender": chosen(("M", "F"), course.female.astype(np.int64)),
        "anchor_age": course.anchor_age,
        "anchor_year": course.anchor_year,
        "anchor_year_group": chosen(YEAR_GROUPS, course.subject % len(YEAR_GROUPS)),
        "dod": dates(course.death_date),
    }


def _admissions(course: Course) -> dict[str, Any]:
    luck = dict(zip(LUCK, course.luck.T, strict=True))
    kind = _pick_by_outcome(luck["type"], TYPE_SHARES, course.died)
    emergency = np.isin(kind, [0, 2])
    registered = np.where(emergency, course.admitted - 5 * HOUR, -1)
    home = np.where(course.died, len(HOMES) - 1, _pick(luck["home"], HOME_SHARES))
    insurance = np.where(course.age >= 65, 0, 1 + (luck["insurance"] * 3).astype(np.int64))
    return {
        "subject_id": course.subject_id,
        "hadm_id": course.hadm_id,
        "admittime": moments(course.admitted),
        "dischtime": moments(course.discharged),
        "deathtime": moments(course.death),
        "admission_type": chosen(TYPES, kind),
        "admission_location": chosen(LOCATIONS, kind),
        "discharge_location": chosen(HOMES, home),
        "insurance": chosen(INSURANCES, insurance),
        "language": chosen(("ENGLISH",), np.zeros(len(course), np.int64)),
        "marital_status": chosen(STATUSES, _pick(luck["status"], STATUS_SHARES)),
        "race": chosen(RACES, _pick(luck["race"], RACE_SHARES)),
        "edregtime": moments(registered),
        "edouttime": moments(np.where(emergency, course.admitted + 2 * HOUR, -1)),
        "hospital_expire_flag": pa.array(course.died).cast(pa.int64()),
    }


def care_unit(course: Course) -> NDArray[np.int64]:
    """(N,) the care unit of each stay, by its number in `CARE_UNITS`."""
    return _pick_by_outcome(course.luck[:, LUCK.index("unit")], UNIT_SHARES, course.died)


def _stays(course: Course) -> dict[str, Any]:
    unit = chosen(CARE_UNITS, care_unit(course))
    return {
        "subject_id": course.subject_id,
        "hadm_id": course.hadm_id,
        "stay_id": course.stay_id,
        "first_careunit": unit,
        "last_careunit": unit,
        "intime": moments(course.entered),
        "outtime": moments(course.left),
        "los": (course.left - course.entered) / DAY,
    }
