"""Simulate a hospital block by block, until it holds the stays asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backdoor_cohorts.simulate.course import Course, simulate_course
from backdoor_cohorts.simulate.events import write_dictionaries, write_events
from backdoor_cohorts.simulate.people import write_people
from backdoor_cohorts.simulate.streams import open_streams
from backdoor_cohorts.simulate.tables import Tables


@dataclass(frozen=True)
class Simulated:
    """What a simulated hospital holds."""

    subjects: int
    stays: int
    included: int
    """Stays that pass the default inclusion."""


def simulate(out: Path, stays: int, seed: int, *, block: int = 2000, hours: int = 48) -> Simulated:
    """Write raw tables ``out/hosp/*.parquet`` and ``out/icu/*.parquet`` with MIMIC-IV's columns and types.

    The hospital ends with the stay number `stays` that passes the default inclusion (adult, at least 24 hours in
    the ICU, alive at hour 24); what else came before it, children and short stays, is there too. So a smaller
    hospital of the same seed is the beginning of a larger one, row by row.

    Measurements cover the first `hours` of each ICU stay. `block` subjects are held in memory at a time and do not
    change the content; equal arguments give equal bytes.
    """
    if stays < 1:
        raise ValueError(f"stays is {stays}, and a hospital needs at least one")
    subjects, written, included = 0, 0, 0
    with Tables(out) as tables:
        write_dictionaries(tables)
        first = 0
        while included < stays:
            streams = open_streams(seed, first, block)
            course = _until(simulate_course(streams, first), stays - included)
            kept = np.unique(course.subject)
            write_people(tables, course)
            write_events(tables, [streams[subject - first] for subject in kept], course, hours)
            subjects, written = subjects + len(kept), written + len(course)
            included += int(course.included.sum())
            first += block
    return Simulated(subjects, written, included)


def _until(course: Course, included: int) -> Course:
    """The course up to the stay that completes the given number of included ones; all of it where there are fewer."""
    reached = np.flatnonzero(course.included)
    return course if len(reached) < included else course.take(slice(reached[included - 1] + 1))
