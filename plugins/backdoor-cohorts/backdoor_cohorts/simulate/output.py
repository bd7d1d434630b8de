"""Urine output: hourly from a catheter, a few times a day without, irrigant in a few."""

from __future__ import annotations

import numpy as np

from backdoor_cohorts.simulate.course import HOUR, Course
from backdoor_cohorts.simulate.levels import INDEX, Levels
from backdoor_cohorts.simulate.marginals import marginals
from backdoor_cohorts.simulate.sheets import Sheet, put_errors, seconds_in_unit, stored_after
from backdoor_cohorts.simulate.streams import Pieces, autoregressive

FOLEY_ITEM, VOID_ITEM, IRRIGANT_ITEM = 226559, 226560, 227488
CATHETER_SHARE, IRRIGATED_SHARE = 0.9, 0.01
# Records an hour; 17.2 a day in PhysioNet 2012.
FOLEY_RATE, VOID_RATE = 0.76, 0.28
LAG1 = 0.21
RECORDS_PER_DAY = 17.2
POLYURIA_SHARE, POLYURIA_FACTOR = 0.01, 4
"""A few stays with far more urine, which the published sd is largely made of."""


def normals(hours: int) -> dict[str, int]:
    """Normal draws that a stay needs."""
    return {"urine": hours}


def uniforms(hours: int) -> dict[str, int]:
    """Uniform draws that a stay needs."""
    return {"urine_cells": hours * 2, "urine_habits": 3}


def output_sheet(course: Course, levels: Levels, normal: Pieces, uniform: Pieces, hours: int) -> Sheet:
    """Milliliters an hour, lognormal around the stay's rate; irrigant in (227488) comes out again in the urine."""
    marginal = marginals()["urine_output"]
    second_moment = marginal.mean[0] ** 2 + marginal.sd[0] ** 2
    scatter = marginal.within_sd**2 * RECORDS_PER_DAY**2 / second_moment
    sigma = np.float32(np.sqrt(np.log1p(scatter)))
    # What the scatter of the records and their number add to the variance of the day's sum.
    extra = second_moment * (scatter * (1 + LAG1) / (1 - LAG1) + 1 - FOLEY_RATE) / RECORDS_PER_DAY
    habit, chance = uniform["urine_habits"], uniform.take("urine_cells", hours, 2)
    catheter = (habit[:, 0] < CATHETER_SHARE)[:, None]
    rate = np.where(catheter, FOLEY_RATE, VOID_RATE).astype(np.float32)
    flood = np.where(habit[:, 2] < POLYURIA_SHARE, POLYURIA_FACTOR, 1) / (1 + POLYURIA_SHARE * (POLYURIA_FACTOR - 1))
    level = (levels.of("urine_output", extra) * flood)[:, None].astype(np.float32)
    volume = (level / (24 * rate)) * np.exp(sigma * autoregressive(normal["urine"], LAG1) - sigma * sigma / 2)
    irrigated = (habit[:, 1] < IRRIGATED_SHARE)[:, None] & catheter
    irrigant = np.full_like(volume, 100)
    step = np.where(catheter, 5, 25).astype(np.float32)
    volume = np.rint(np.minimum(volume, 3000) / step) * step + np.where(irrigated, irrigant, 0)
    values = np.stack([volume, irrigant], axis=2).astype(np.float32)
    put_errors(values, chance, {0: (-50.0, 60000.0)})
    seconds = (-course.entered % HOUR)[:, None] + HOUR * np.arange(hours)
    inside = seconds < seconds_in_unit(course, hours)[:, None]
    recorded = (chance[:, :, 0] > 1 - rate) & inside & levels.measured[:, INDEX["urine_output"], None]
    kept = np.stack([recorded, recorded & irrigated], axis=2)
    items = np.empty((len(course), 1, 2), np.int64)
    items[:, :, 0], items[:, :, 1] = np.where(catheter, FOLEY_ITEM, VOID_ITEM), IRRIGANT_ITEM
    stored = seconds + stored_after(chance[:, :, 1], 12, 1.0)
    return Sheet(seconds, stored, values, items, kept)
