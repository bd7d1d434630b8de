"""Which raw MIMIC-IV tables and columns a cohort needs, in the layout of the versions 2.0 to 3.1.

Diagnoses, discharge columns and `patients.dod` are not among them, so that nothing from after the prediction time can
slip in.
"""

from __future__ import annotations

from backdoor_core.contracts import Inclusion

TABLES: dict[str, dict[str, str]] = {
    "hosp/patients": {
        "subject_id": "BIGINT",
        "gender": "VARCHAR",
        "anchor_age": "BIGINT",
        "anchor_year": "BIGINT",
    },
    "hosp/admissions": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "admittime": "TIMESTAMP",
        "deathtime": "TIMESTAMP",
        "admission_type": "VARCHAR",
        "admission_location": "VARCHAR",
        "insurance": "VARCHAR",
        "marital_status": "VARCHAR",
        "race": "VARCHAR",
        "hospital_expire_flag": "INTEGER",
    },
    "hosp/labevents": {
        "subject_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "valuenum": "DOUBLE",
    },
    "icu/icustays": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "stay_id": "BIGINT",
        "first_careunit": "VARCHAR",
        "intime": "TIMESTAMP",
        "outtime": "TIMESTAMP",
    },
    "icu/chartevents": {
        "stay_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
    },
    "icu/outputevents": {
        "stay_id": "BIGINT",
        "itemid": "BIGINT",
        "charttime": "TIMESTAMP",
        "value": "DOUBLE",
    },
}
"""Table -> column -> DuckDB type of what is read for every view."""

FILED: dict[str, dict[str, str]] = {
    table: {"storetime": "TIMESTAMP"} for table in ("hosp/labevents", "icu/chartevents", "icu/outputevents")
}
"""What is read too where visibility is by storetime."""

_COURSE = {
    "stay_id": "BIGINT",
    "itemid": "BIGINT",
    "starttime": "TIMESTAMP",
    "endtime": "TIMESTAMP",
    "storetime": "TIMESTAMP",
}
EVENTS: dict[str, dict[str, str]] = {
    "hosp/labevents": {"value": "VARCHAR", "valueuom": "VARCHAR"},
    "hosp/prescriptions": {
        "subject_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "drug": "VARCHAR",
        "route": "VARCHAR",
        "dose_val_rx": "VARCHAR",
        "dose_unit_rx": "VARCHAR",
    },
    "hosp/microbiologyevents": {
        "subject_id": "BIGINT",
        "micro_specimen_id": "BIGINT",
        "chartdate": "DATE",
        "charttime": "TIMESTAMP",
        "storedate": "DATE",
        "storetime": "TIMESTAMP",
        "test_itemid": "BIGINT",
        "test_name": "VARCHAR",
        "org_itemid": "BIGINT",
        "org_name": "VARCHAR",
        "ab_itemid": "BIGINT",
        "ab_name": "VARCHAR",
        "interpretation": "VARCHAR",
        "comments": "VARCHAR",
    },
    "icu/procedureevents": {**_COURSE, "value": "DOUBLE", "valueuom": "VARCHAR"},
    "icu/ingredientevents": {**_COURSE, "amount": "DOUBLE", "amountuom": "VARCHAR"},
    "hosp/d_labitems": {"itemid": "BIGINT", "label": "VARCHAR", "fluid": "VARCHAR"},
    "icu/d_items": {"itemid": "BIGINT", "label": "VARCHAR"},
}
"""What is read too for the events view."""

INSTEAD = {"icu/ingredientevents": "icu/inputevents"}
"""A table that is read where another is not published; it has the same columns."""

CHARTED = ("icu/chartevents", "icu/outputevents")
"""What only table and series need."""


def columns_read(inclusion: Inclusion) -> dict[str, dict[str, str]]:
    """Table -> column -> DuckDB type of what a cohort of this inclusion needs."""
    events = "events" in inclusion.views
    charted = set(inclusion.views) != {"events"}
    tables = {table: dict(columns) for table, columns in TABLES.items() if charted or table not in CHARTED}
    for more, asked in ((FILED, inclusion.visibility == "storetime"), (EVENTS, events)):
        for table, columns in more.items():
            if asked and (table in tables or more is EVENTS):
                tables.setdefault(table, {}).update(columns)
    return tables


def all_columns() -> dict[str, dict[str, str]]:
    """The same for any inclusion."""
    tables = {table: dict(columns) for table, columns in TABLES.items()}
    for more in (FILED, EVENTS):
        for table, columns in more.items():
            tables.setdefault(table, {}).update(columns)
    return tables
