"""From raw hospital tables in the MIMIC-IV layout to a cohort: the one way, for real and synthetic data alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backdoor_cohorts.database import blaming, database, prepare, run_step
from backdoor_cohorts.features import EVENT_TABLES, core30, item_map
from backdoor_cohorts.raw import open_tables, raw_files
from backdoor_cohorts.writing import attrition, card, write_cohort
from backdoor_core.contracts import CohortCard, Inclusion

__all__ = ["SUBGROUPS", "build_hospital", "raw_files"]

SUBGROUPS = (
    "sex",
    "age",
    "race",
    "marital_status",
    "admission_type",
    "admission_location",
    "insurance",
    "first_careunit",
)
"""Columns of `stays.parquet` after stay_id, subject_id and label: all known at admission."""

PAST_DISCHARGE = (
    "Stays shorter than the window are included: their window runs on after ICU discharge, so that what is not "
    "measured there tells of the outcome."
)


def build_hospital(
    raw: Path,
    out: Path,
    inclusion: Inclusion,
    *,
    source: str,
    description: str,
    notes: Sequence[str] = (),
    threads: int = 2,
    memory: str = "2GB",
) -> CohortCard:
    """Write the cohort of the raw tables under `raw` into the existing directory `out`.

    `raw` holds `hosp/` and `icu/`, each table as .parquet, .csv or .csv.gz (see `backdoor_cohorts.raw.TABLES`
    for the columns read). The result, byte for byte, does not depend on the order of the raw rows, their file
    format, `threads` or `memory`. Times are hours since ICU admission; the window is half-open, so an event
    exactly `window_hours` after admission is not seen.

    Raises `BackdoorError` naming file and column where the raw data is not as published.
    """
    features = core30(inclusion.window_hours)
    if inclusion.min_los_hours < inclusion.window_hours:
        notes = (*notes, PAST_DISCHARGE)
    with database(out, threads=threads, memory=memory) as connection:
        paths = open_tables(connection, raw)
        prepare(connection, inclusion, features, item_map())
        run_step(connection, "stays")
        run_step(connection, "inclusion")
        attrition(connection, inclusion)  # before the long part, so that an empty cohort is told at once
        for table in EVENT_TABLES:
            with blaming(paths[table]):
                run_step(connection, table)
        run_step(connection, "measurements")
        with blaming(raw):
            run_step(connection, "table_core30")
            empty = write_cohort(connection, out, features, SUBGROUPS)
        return card(connection, inclusion, features, source=source, description=description, notes=notes, empty=empty)
