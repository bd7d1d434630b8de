"""Laboratory tests: panels about twice a day, blood gases about five times, sicker patients more often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_cohorts.simulate.course import DAY, HOUR, Course
from backdoor_cohorts.simulate.levels import INDEX, VARIABLES, Levels, relative_noise
from backdoor_cohorts.simulate.marginals import marginals
from backdoor_cohorts.simulate.sheets import Sheet, put_errors, seconds_in_unit, stored_after
from backdoor_cohorts.simulate.streams import Pieces


@dataclass(frozen=True)
class Assay:
    """One laboratory test."""

    name: str
    item: int
    decimals: int
    low: float
    high: float
    part: float
    """Share of the draws, after the first, in which it is ordered."""
    wrong: tuple[float, ...] = ()


@dataclass(frozen=True)
class Order:
    """Tests that are drawn together."""

    name: str
    tests: tuple[Assay, ...]
    per_day: float
    """Draws per 24 hours of a stay that has any, at mean severity."""
    gain: float
    """Growth of the log rate with severity."""
    most_per_day: int
    inverse_count: float
    """Mean of 1 / (draws in 24 hours), which the scatter adds to the variance of a stay's mean."""
    before: bool
    """Whether some patients had a draw in the hours before the ICU."""

    @property
    def items(self) -> NDArray[np.int64]:
        """(C,) item ids."""
        return np.array([test.item for test in self.tests])

    def slots(self, hours: int) -> int:
        """Draws that a stay can have, the one before the ICU included."""
        return 1 + -(-hours * self.most_per_day // 24)


PANEL = Order(
    "panel",
    (
        Assay("wbc", 51301, 1, 0.1, 300, 0.95),
        Assay("hemoglobin", 51222, 1, 3, 22, 0.98, (0.0,)),
        Assay("platelets", 51265, 0, 5, 1500, 0.96),
        Assay("sodium", 50983, 0, 105, 180, 0.96, (0.0, 1393.0)),
        Assay("potassium", 50971, 1, 1.8, 9.5, 0.96, (0.0, 42.0)),
        Assay("chloride", 50902, 0, 70, 145, 0.96),
        Assay("bicarbonate", 50882, 0, 4, 50, 0.96),
        Assay("bun", 51006, 0, 2, 250, 0.96),
        Assay("creatinine", 50912, 1, 0.1, 25, 0.96),
        Assay("glucose", 50931, 0, 25, 1200, 0.94, (0.0, 999999.0)),
        Assay("bilirubin_total", 50885, 1, 0.1, 60, 0.25),
        Assay("inr", 51237, 1, 0.8, 15, 0.6),
    ),
    per_day=1.8,
    gain=0.2,
    most_per_day=4,
    inverse_count=0.62,
    before=True,
)
GAS = Order(
    "gas",
    (
        Assay("ph", 50820, 2, 6.7, 7.8, 1.0, (0.0,)),
        Assay("po2", 50821, 0, 20, 600, 1.0),
        Assay("pco2", 50818, 0, 10, 150, 1.0),
        Assay("lactate", 50813, 1, 0.3, 30, 0.6),
    ),
    per_day=5.0,
    gain=0.25,
    most_per_day=10,
    inverse_count=0.2,
    before=False,
)
ORDERS = (PANEL, GAS)
LATE_SHARE = 0.15
"""Stays without a test on the first day that have it on a later one."""
BEFORE_SHARE = 0.4


def normals(hours: int) -> dict[str, int]:
    """Normal draws that a stay needs."""
    return {f"{order.name}_values": order.slots(hours) * len(order.tests) for order in ORDERS}


def uniforms(hours: int) -> dict[str, int]:
    """Uniform draws that a stay needs."""
    sizes = {}
    for order in ORDERS:
        sizes[f"{order.name}_cells"] = order.slots(hours) * len(order.tests)
        sizes[f"{order.name}_times"] = order.slots(hours) * 2
        sizes[f"{order.name}_habits"] = 3
    return sizes


def lab_sheet(order: Order, course: Course, levels: Levels, normal: Pieces, uniform: Pieces, hours: int) -> Sheet:
    """All draws of one kind of order."""
    slots, width = order.slots(hours), len(order.tests)
    noise = normal.take(f"{order.name}_values", slots, width)
    chance = uniform.take(f"{order.name}_cells", slots, width)
    moments = uniform.take(f"{order.name}_times", slots, 2)
    habit = uniform[f"{order.name}_habits"]
    values = np.empty((len(course), slots, width), np.float32)
    for channel, test in enumerate(order.tests):
        around = _around(order, levels, test.name, noise[:, :, channel])
        values[:, :, channel] = np.clip(np.round(around, test.decimals), test.low, test.high)
    put_errors(values, chance, {channel: test.wrong for channel, test in enumerate(order.tests) if test.wrong})
    seconds = _draw_times(order, course, moments[:, :, 0], habit)
    end = seconds_in_unit(course, hours)[:, None]
    earlier = course.admitted - course.entered
    before = (seconds < 0) & (seconds > earlier[:, None]) & order.before & (habit[:, :1] < BEFORE_SHARE)
    inside = (seconds < end) & ((seconds >= 0) | before)
    measured = levels.measured[:, [INDEX[test.name] for test in order.tests]]
    late = (seconds >= DAY) & (habit[:, 1:2] < LATE_SHARE)
    part = np.array([test.part for test in order.tests], np.float32)
    ordered = chance >= 1 - part
    ordered[:, 1] = True  # the first draw in the ICU has every test
    kept = inside[:, :, None] & ordered & (measured[:, None, :] | late[:, :, None])
    lag = stored_after(moments[:, :, 1], 55, 0.5)
    return Sheet(seconds, seconds + lag // 60 * 60, values, order.items, kept)


def _around(order: Order, levels: Levels, name: str, noise: NDArray[np.float32]) -> NDArray[np.float32]:
    marginal = marginals()[name]
    level = levels.of(name, marginal.within_sd**2 * order.inverse_count)[:, None]
    if VARIABLES[INDEX[name]].shape == "normal":
        return level + np.float32(marginal.within_sd) * noise
    sigma = np.float32(relative_noise(marginal))
    around: NDArray[np.float32] = level * np.exp(sigma * noise - sigma * sigma / 2)
    return around


def _draw_times(
    order: Order, course: Course, luck: NDArray[np.float32], habit: NDArray[np.float32]
) -> NDArray[np.int64]:
    """(N, T) seconds since ICU admission, on full minutes of the clock; the first slot lies before the ICU."""
    rate = np.clip(order.per_day * np.exp(order.gain * course.severity), 1.02, order.most_per_day)
    gap = (24 * HOUR / rate)[:, None].astype(np.float64)
    later = (np.arange(luck.shape[1] - 1) + habit[:, 2:3] * 0.999) * gap
    # Up to a quarter of a gap off the schedule, except for the first.
    later[:, 1:] += (luck[:, 2:] - 0.5) * 0.5 * gap
    earlier = -(0.3 + 5 * luck[:, :1]) * HOUR
    clock = course.entered[:, None] + np.concatenate([earlier, later], axis=1).astype(np.int64)
    # Up to the next minute, so that the first draw cannot fall before the admission to the ICU.
    return -(-clock // 60) * 60 - course.entered[:, None]
