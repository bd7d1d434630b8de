"""A sheet: measurements of many stays on one grid of times, and how it becomes rows of a raw table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from backdoor_cohorts.simulate.course import HOUR, Course

ERROR_RATE = 0.0004
"""Share of the cells of a channel that carry a charting error."""


@dataclass(frozen=True)
class Sheet:
    """Measurements on a grid of N stays, T times and C channels."""

    seconds: NDArray[np.int64]
    """(N, T) times in seconds since ICU admission."""
    stored: NDArray[np.int64]
    """(N, T) when the measurements were stored, likewise."""
    values: NDArray[np.float32]
    """(N, T, C) as charted, rounded to at most two decimals."""
    items: NDArray[np.int64]
    """Item ids, of a shape that broadcasts to (N, T, C)."""
    kept: NDArray[np.bool_]
    """(N, T, C) what is charted at all."""


@dataclass(frozen=True)
class Rows:
    """The charted cells of a sheet, by stay, time and channel; every array is (rows,)."""

    stay: NDArray[np.int64]
    """Row of the course."""
    cell: NDArray[np.int64]
    """Number of the cell within its stay: the same however many stays there are."""
    slot: NDArray[np.int64]
    """Number of the time within its stay."""
    seconds: NDArray[np.int64]
    """Since `course.EPOCH`."""
    stored: NDArray[np.int64]
    values: NDArray[np.float64]
    items: NDArray[np.int64]


def rows_of(sheet: Sheet, course: Course, until: int) -> Rows:
    """The kept cells from before hour `until` of the stay, as rows."""
    _, times, channels = sheet.kept.shape
    flat = np.flatnonzero(sheet.kept & (sheet.seconds < until * HOUR)[:, :, None])
    moment = flat // channels
    stay = moment // times
    entered = course.entered[stay]
    return Rows(
        stay=stay,
        cell=flat - stay * (times * channels),
        slot=moment - stay * times,
        seconds=entered + sheet.seconds.ravel()[moment],
        stored=entered + sheet.stored.ravel()[moment],
        # Rounded again: 98.6 as a 32-bit number is 98.5999985.
        values=np.asarray(np.round(sheet.values.ravel()[flat].astype(np.float64), 2), np.float64),
        items=np.broadcast_to(sheet.items, sheet.kept.shape).ravel()[flat],
    )


def end_of_stay(course: Course) -> NDArray[np.int64]:
    """(N,) when the stay ends or the patient dies in it, in seconds since `course.EPOCH`."""
    return np.where(course.death >= 0, np.minimum(course.left, course.death), course.left)


def seconds_in_unit(course: Course, hours: int) -> NDArray[np.int64]:
    """(N,) how long after ICU admission a stay has measurements: until it ends, the patient dies, or `hours`."""
    seconds: NDArray[np.int64] = np.minimum(end_of_stay(course) - course.entered, hours * HOUR)
    return seconds


def stored_after(chance: NDArray[np.float32], median_minutes: float, sigma: float) -> NDArray[np.int64]:
    """Seconds until a measurement is stored: lognormal, from uniforms."""
    seconds: NDArray[np.int64] = (60 * median_minutes * np.exp(np.float32(sigma) * ndtri(chance))).astype(np.int64)
    return seconds


def variance_of_mean(lag1: float, count: int) -> float:
    """Variance of the mean of `count` neighbors of a unit-variance AR(1) series."""
    steps = np.arange(1, count)
    return float((count + 2 * np.sum((count - steps) * lag1**steps)) / count**2)


def put_errors(
    values: NDArray[np.float32], chance: NDArray[np.float32], wrong: Mapping[int, tuple[float, ...]]
) -> None:
    """Write charting errors into `values`: cells whose `chance` (uniform, (N, T, C)) is in the top `ERROR_RATE`.

    `wrong` maps a channel to its wrong values, which take equal parts of the rate.
    """
    for channel, choices in wrong.items():
        place = (chance[:, :, channel] - (1 - ERROR_RATE)) * (len(choices) / ERROR_RATE)
        for number, choice in enumerate(choices):
            values[:, :, channel][(place >= number) & (place < number + 1)] = choice
