"""When each entry of a catalog happens in each stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from backdoor_cohorts.simulate.catalogs import Catalog, CatalogName, catalog
from backdoor_cohorts.simulate.course import HOUR, Course
from backdoor_cohorts.simulate.drivers import Drivers
from backdoor_cohorts.simulate.sheets import end_of_stay, seconds_in_unit
from backdoor_cohorts.simulate.streams import Pieces

EXTRAS = 4
"""Uniforms that each occasion has for what is peculiar to its table: dose, result, duration, lag."""
BEFORE_SHARE, BEFORE_HOURS = 0.2, 6
"""Orders of the hospital that began before the ICU, and at most how long before."""

Fixed = tuple[NDArray[np.bool_], NDArray[np.int64]]
"""(N,) whether a stay has the entry, and seconds from ICU admission at which it begins."""


@dataclass(frozen=True)
class Occasions:
    """What happens, by stay, entry and time; every array is (rows,)."""

    stay: NDArray[np.int64]
    """Row of the course."""
    entry: NDArray[np.int64]
    """Row of the catalog."""
    cell: NDArray[np.int64]
    """Number of the occasion within its stay: the same however many stays there are."""
    seconds: NDArray[np.int64]
    """Beginning, since `course.EPOCH`."""
    end_of_stay: NDArray[np.int64]
    """When the stay ends or the patient dies, likewise."""
    extras: NDArray[np.float32]
    """(rows, EXTRAS) uniforms."""


def occasions_per_entry(entries: Catalog, hours: int) -> int:
    """Occasions for which each entry has room."""
    return 1 + int(np.ceil(entries.numbers("per_day").max() * hours / 24))


def uniforms(name: CatalogName, hours: int) -> dict[str, int]:
    """Uniform draws that a stay needs for one catalog."""
    entries = catalog(name)
    cells = len(entries) * occasions_per_entry(entries, hours)
    return {f"{name}_has": len(entries) * 2, f"{name}_luck": cells * 2, f"{name}_extras": cells * EXTRAS}


def plan(
    name: CatalogName,
    course: Course,
    drivers: Drivers,
    uniform: Pieces,
    hours: int,
    *,
    until: int,
    clock: int,
    before: bool = False,
    fixed: Mapping[int, Fixed] | None = None,
) -> Occasions:
    """All occasions of one catalog that begin in the ICU, before the patient's death and before hour `until`.

    Times are whole multiples of `clock` seconds. `before`: some begin in the hours before the ICU. `fixed`
    gives entries (by number) whose time is known from elsewhere.
    """
    entries = catalog(name)
    slots = occasions_per_entry(entries, hours)
    has, onset = np.moveaxis(uniform.take(f"{name}_has", len(entries), 2), 2, 0)
    wanted = has < entries.chances(drivers)
    begin = _onset(onset.astype(np.float64), entries.numbers("onset"), course, before)
    for entry, (taken, at) in (fixed or {}).items():
        wanted[:, entry], begin[:, entry] = taken, at
    luck = uniform.take(f"{name}_luck", len(entries), slots, 2)
    per_day = entries.numbers("per_day")
    gap = 24 * HOUR / np.maximum(per_day, 1e-6)
    later = (np.arange(slots) + 0.5 * (luck[:, :, :, 0] - 0.5) * (np.arange(slots) > 0)) * gap[:, None]
    again = (np.arange(slots) == 0) | ((luck[:, :, :, 1] < entries.numbers("again")[:, None]) & (per_day > 0)[:, None])
    end = course.entered + np.minimum(seconds_in_unit(course, hours), until * HOUR)
    moment = course.entered[:, None, None] + np.minimum(begin[:, :, None] + later, 2 * hours * HOUR).astype(np.int64)
    # Up to the next tick, so that nothing falls before the admission by rounding.
    moment = -(-moment // clock) * clock
    flat = np.flatnonzero(wanted[:, :, None] & again & (moment < end[:, None, None]))
    stay, cell = flat // (len(entries) * slots), flat % (len(entries) * slots)
    return Occasions(
        stay=stay,
        entry=cell // slots,
        cell=cell,
        seconds=moment.ravel()[flat],
        end_of_stay=end_of_stay(course)[stay],
        extras=uniform.take(f"{name}_extras", len(entries) * slots, EXTRAS).reshape(-1, EXTRAS)[flat],
    )


def _onset(
    luck: NDArray[np.float64], mean_hours: NDArray[np.float64], course: Course, before: bool
) -> NDArray[np.float64]:
    """(N, E) seconds from ICU admission until each entry would begin, negative where it began before."""
    if not before:
        return -np.log1p(-luck) * mean_hours * HOUR
    after = -np.log1p(-np.clip((luck - BEFORE_SHARE) / (1 - BEFORE_SHARE), 0, None)) * mean_hours * HOUR
    earlier = np.maximum(-BEFORE_HOURS * HOUR * luck / BEFORE_SHARE, (course.admitted - course.entered)[:, None])
    return np.where(luck < BEFORE_SHARE, earlier, after)


def lognormal_seconds(
    luck: NDArray[np.float32], median: NDArray[np.float64] | float, sigma: float
) -> NDArray[np.int64]:
    """Whole seconds, lognormal around `median` (in seconds), from uniforms."""
    seconds: NDArray[np.int64] = (median * np.exp(sigma * ndtri(luck.astype(np.float64)))).astype(np.int64)
    return seconds
