"""Simulate a hospital block by block, until it holds the stays asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from backdoor_cohorts.simulate.course import Course, simulate_course
from backdoor_cohorts.simulate.csv_copies import write_csv_copies
from backdoor_cohorts.simulate.events import write_dictionaries, write_events
from backdoor_cohorts.simulate.orders import write_orders
from backdoor_cohorts.simulate.people import write_people
from backdoor_cohorts.simulate.streams import open_streams
from backdoor_cohorts.simulate.tables import Tables

Format = Literal["parquet", "csv.gz"]
ORDERS_BRANCH = 1


@dataclass(frozen=True)
class Simulated:
    """What a simulated hospital holds."""

    subjects: int
    stays: int
    included: int
    """Stays that pass the default inclusion."""
    rows: Mapping[str, int]
    """Rows of each table, such as ``icu/chartevents``."""


def simulate(
    out: Path,
    stays: int,
    seed: int,
    *,
    block: int = 2000,
    hours: int = 48,
    until: int | None = None,
    events: bool = True,
    format: Format = "parquet",
) -> Simulated:
    """Write raw tables ``out/hosp/*`` and ``out/icu/*`` with MIMIC-IV's columns and types.

    The hospital ends with the stay number `stays` that passes the default inclusion (adult, at least 24 hours in
    the ICU, alive at hour 24); what else came before it, children and short stays, is there too. So a smaller
    hospital of the same seed is the beginning of a larger one, row by row.

    Measurements and orders cover the first `hours` of each ICU stay. Rows from hour `until` on are left out, and
    without `events` so are the tables of orders (`schemas.EVENT_SCHEMAS`) and their items; neither changes what
    is left. `block` subjects are held in memory at a time and do not change the content; equal arguments give
    equal bytes. Files of the `format` csv.gz are made from Parquet files, which are removed.

    Raises `ValueError` where `stays` is less than one.
    """
    if stays < 1:
        raise ValueError(f"stays is {stays}, and a hospital needs at least one")
    until = hours if until is None else until
    if format == "csv.gz":
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".parquet-", dir=out) as folder:
            simulated = _simulate(Path(folder), stays, seed, block, hours, until, events)
            write_csv_copies(Path(folder), out)
        return simulated
    return _simulate(out, stays, seed, block, hours, until, events)


def _simulate(out: Path, stays: int, seed: int, block: int, hours: int, until: int, events: bool) -> Simulated:
    subjects, written, included = 0, 0, 0
    with Tables(out, events=events) as tables:
        write_dictionaries(tables, events=events)
        first = 0
        while included < stays:
            streams = open_streams(seed, range(first, first + block))
            course = _until(simulate_course(streams, first), stays - included)
            kept = np.unique(course.subject).tolist()
            write_people(tables, course)
            levels, support = write_events(tables, [streams[s - first] for s in kept], course, hours, until)
            if events:
                second = open_streams(seed, kept, ORDERS_BRANCH)
                write_orders(tables, second, course, levels, support, hours, until)
            subjects, written = subjects + len(kept), written + len(course)
            included += int(course.included.sum())
            first += block
        return Simulated(subjects, written, included, tables.rows)


def _until(course: Course, included: int) -> Course:
    """The course up to the stay that completes the given number of included ones; all of it where there are fewer."""
    reached = np.flatnonzero(course.included)
    return course if len(reached) < included else course.take(slice(reached[included - 1] + 1))
