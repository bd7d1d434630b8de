"""Bedside charting: hourly vital signs, four-hourly temperature and coma scale, weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor_cohorts.simulate.course import DAY, HOUR, Course
from backdoor_cohorts.simulate.levels import INDEX, Levels
from backdoor_cohorts.simulate.marginals import marginals
from backdoor_cohorts.simulate.sheets import Sheet, put_errors, seconds_in_unit, stored_after, variance_of_mean
from backdoor_cohorts.simulate.streams import Pieces, autoregressive

HOURLY = ("heart_rate", "sbp", "dbp", "mbp", "resp_rate", "spo2")
# Correlation of neighboring hours. Around a stay's own mean of a day, with hours left out, it comes out lower: as the
# 0.69 (heart rate), 0.42 (pressures) and 0.22 (respiratory rate) of PhysioNet 2012. MBP's is of what the other two
# pressures leave; SpO2's is chosen.
HOURLY_LAG1 = np.array([0.80, 0.53, 0.53, 0.3, 0.31, 0.4], np.float32)
TEMPERATURE_LAG1, COMA_LAG1 = 0.37, 0.48
CUFF_ITEMS = np.array([220045, 220179, 220180, 220181, 220210, 220277])
ARTERIAL_ITEMS = np.array([220045, 220050, 220051, 220052, 220210, 220277])
TOTAL_RATE_ITEM = 224690
FAHRENHEIT_ITEM, CELSIUS_ITEM = 223761, 223762
EYE_ITEM, VERBAL_ITEM, MOTOR_ITEM = 220739, 223900, 223901
WEIGHT_ITEMS = np.array([226512, 226531, 224639])
"""Admission weight in kg, the same in lb, daily weight in kg."""
POUNDS = 1 / 0.45359237
WRONG_VITALS = {0: (0.0, 9999.0), 1: (0.0, 999.0), 2: (0.0, 999.0), 3: (0.0, -5.0), 4: (0.0, 199.0), 5: (0.0, 700.0)}
LOWEST = np.array([20, 40, 15, 20, 4, 50], np.float32)
HIGHEST = np.array([220, 260, 150, 190, 60, 100], np.float32)

# Where the latent consciousness passes to the next score of the coma scale.
EYE_STEPS = (-1.15, -0.65, -0.1)
VERBAL_STEPS = (-1.5, -1.0, -0.55, 0.05)
MOTOR_STEPS = (-1.75, -1.6, -1.4, -1.05, -0.45)
AWAKE, SPREAD, SCATTER = (0.73, 0.43), (0.89, 1.15), 0.75
"""Mean and spread of the latent consciousness by outcome, and its scatter within a stay.

Fitted by simulation to the published mean, sd and within-stay sd of the total."""
SEDATION = 1.42
"""How much lower it is under ventilation."""


def charted_after(chance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Seconds until a measurement is stored: minutes, at times hours."""
    return stored_after(chance, 12, 1.0)


def normals(hours: int) -> dict[str, int]:
    """Normal draws that a stay needs."""
    return {"hourly": hours * len(HOURLY), "four_hourly": four_hourly(hours) * 2, "weights": days(hours)}


def uniforms(hours: int) -> dict[str, int]:
    """Uniform draws that a stay needs."""
    return {
        "support": 4,
        "hourly_cells": hours * len(HOURLY),
        "hourly_times": hours * 2,
        "four_hourly_cells": four_hourly(hours) * 4,
        "four_hourly_times": four_hourly(hours),
        "habits": 4,
        "weight_cells": days(hours) * 3,
    }


def four_hourly(hours: int) -> int:
    """Number of four-hourly rounds."""
    return -(-hours // 4)


def days(hours: int) -> int:
    """Number of days begun."""
    return -(-hours // 24)


@dataclass(frozen=True)
class Support:
    """Organ support of each stay."""

    ventilated_until: NDArray[np.int64]
    """(N,) seconds from ICU admission at which the tube comes out; 0 where there was none."""
    arterial: NDArray[np.bool_]
    """(N,) whether blood pressure is taken from an arterial line."""


def simulate_support(course: Course, levels: Levels, uniform: Pieces) -> Support:
    """Ventilation and arterial line; the deeper the coma and the sicker, the likelier."""
    luck = uniform["support"].astype(np.float64)
    share = marginals()["ventilated"].of("mean", course.died)
    lean = 0.25 * np.tanh(course.severity) - 0.15 * np.tanh(levels.standard[:, INDEX["gcs"]])
    ventilated = luck[:, 0] < share + lean * share * (1 - share) * 2
    duration = -np.log1p(-luck[:, 1]) * np.where(course.died, 60, 22) * HOUR + 2 * HOUR
    arterial = luck[:, 2] < np.where(ventilated, 0.85, 0.3)
    return Support(np.where(ventilated, duration, 0).astype(np.int64), arterial)


def hourly_sheet(
    course: Course, levels: Levels, support: Support, normal: Pieces, uniform: Pieces, hours: int
) -> Sheet:
    """Vital signs, charted at the full hour and now and then between."""
    shape = (len(course), hours, len(HOURLY))
    noise = autoregressive(normal.take("hourly", *shape[1:]), HOURLY_LAG1)
    # A change of pressure moves both its values.
    noise[:, :, 2] = 0.6 * noise[:, :, 1] + 0.8 * noise[:, :, 2]
    values = np.empty(shape, np.float32)
    for channel, name in enumerate(HOURLY):
        if name != "mbp":
            values[:, :, channel] = _around(levels, name, noise[:, :, channel], float(HOURLY_LAG1[channel]))
    values[:, :, 2] = np.minimum(values[:, :, 2], values[:, :, 1] - 5)
    values[:, :, 3] = (values[:, :, 1] + 2 * values[:, :, 2]) / 3 - 0.4 + 5.5 * noise[:, :, 3]
    values = np.rint(np.clip(values, LOWEST, HIGHEST))
    chance = uniform.take("hourly_cells", *shape[1:])
    moments = uniform.take("hourly_times", hours, 2)
    put_errors(values, chance, WRONG_VITALS)
    to_full_hour = (-course.entered % HOUR)[:, None]
    between = np.where(moments[:, :, 0] < 0.2, np.floor(moments[:, :, 0] * 5 * 60) * 60, 0).astype(np.int64)
    seconds = to_full_hour + HOUR * np.arange(hours) + between
    measured = levels.measured[:, [INDEX["dbp" if name == "mbp" else name] for name in HOURLY]]
    skipped = moments[:, :, 1] < 0.04
    inside = (seconds < seconds_in_unit(course, hours)[:, None]) & ~skipped
    kept = (chance > 0.06) & inside[:, :, None] & _charted(measured, seconds, support)
    items = np.where(support.arterial[:, None, None], ARTERIAL_ITEMS, CUFF_ITEMS)
    items = np.repeat(items, hours, axis=1)
    total_rate = (seconds < support.ventilated_until[:, None]) & (chance[:, :, 4] > 0.7)
    items[:, :, 4][total_rate] = TOTAL_RATE_ITEM
    return Sheet(seconds, seconds + charted_after(moments[:, :, 1]), values, items, kept)


def _around(levels: Levels, name: str, noise: NDArray[np.float32], lag1: float) -> NDArray[np.float32]:
    """(N, T) measurements around the levels, whose sd within 24 hours and whose daily means' sd are as published."""
    marginal = marginals()[name]
    share = variance_of_mean(lag1, 24)
    scatter = marginal.within_sd / np.sqrt(1 - share)
    level = levels.of(name, scatter**2 * share)[:, None]
    values: NDArray[np.float32]
    if name == "spo2":
        sigma = np.float32(np.sqrt(np.log1p(scatter**2 / (marginal.sd[0] ** 2 + (100 - marginal.mean[0]) ** 2))))
        values = 100 - (100 - level) * np.exp(sigma * noise - sigma * sigma / 2)
    else:
        values = level + np.float32(scatter) * noise
    return values


def _charted(measured: NDArray[np.bool_], seconds: NDArray[np.int64], support: Support) -> NDArray[np.bool_]:
    """(N, T, C) what is not measured on the first day may be on the second, where the line came late."""
    return measured[:, None, :] | ((seconds >= DAY) & support.arterial[:, None])[:, :, None]


def four_hourly_sheet(
    course: Course, levels: Levels, support: Support, normal: Pieces, uniform: Pieces, hours: int
) -> Sheet:
    """Temperature in Fahrenheit or Celsius, and the three parts of the Glasgow coma scale."""
    rounds = four_hourly(hours)
    noise = normal.take("four_hourly", rounds, 2)
    habit = uniform["habits"]
    moments = uniform["four_hourly_times"]
    first = (np.floor(habit[:, 0] * 4) * HOUR).astype(np.int64) + (-course.entered % HOUR)
    seconds = first[:, None] + 4 * HOUR * np.arange(rounds)
    celsius = (habit[:, 1] < 0.15)[:, None]
    values = np.empty((len(course), rounds, 4), np.float32)
    values[:, :, 0] = _temperature(levels, noise[:, :, 0], celsius)
    ventilated = seconds < support.ventilated_until[:, None]
    values[:, :, 1:] = coma_scores(course.died, levels.standard[:, INDEX["gcs"]], ventilated, noise[:, :, 1])
    chance = uniform.take("four_hourly_cells", rounds, 4)
    put_errors(values, chance, {0: (0.0, 986.0)})
    measured = levels.measured[:, [INDEX["temperature"], *[INDEX["gcs"]] * 3]]
    together = np.stack([chance[:, :, 0], *[chance[:, :, 1]] * 3], axis=2)  # the three parts are charted at once
    inside = seconds < seconds_in_unit(course, hours)[:, None]
    kept = (together > 0.05) & inside[:, :, None] & _charted(measured, seconds, support)
    items = np.empty((len(course), 1, 4), np.int64)
    items[:, :, 0] = np.where(celsius, CELSIUS_ITEM, FAHRENHEIT_ITEM)
    items[:, :, 1:] = EYE_ITEM, VERBAL_ITEM, MOTOR_ITEM
    return Sheet(seconds, seconds + charted_after(moments), values, items, kept)


def _temperature(levels: Levels, noise: NDArray[np.float32], celsius: NDArray[np.bool_]) -> NDArray[np.float32]:
    share = variance_of_mean(TEMPERATURE_LAG1, 6)
    scatter = marginals()["temperature"].within_sd / np.sqrt(1 - share)
    level = levels.of("temperature", scatter**2 * share)[:, None]
    degrees = np.clip(level + np.float32(scatter) * autoregressive(noise, TEMPERATURE_LAG1), 32, 42)
    charted: NDArray[np.float32] = np.where(celsius, degrees, degrees * np.float32(1.8) + 32)
    return charted.round(1)


def coma_scores(
    died: NDArray[np.bool_], level: NDArray[np.float32], ventilated: NDArray[np.bool_], noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, T, 3) eye, verbal and motor scores. The verbal score of a ventilated patient is 0: see `VERBAL_TEXTS`."""
    latent = (np.where(died, AWAKE[1], AWAKE[0]) + np.where(died, SPREAD[1], SPREAD[0]) * level)[:, None]
    latent = latent + SCATTER * autoregressive(noise, COMA_LAG1) - SEDATION * ventilated
    steps = (EYE_STEPS, VERBAL_STEPS, MOTOR_STEPS)
    scores = np.stack([1 + np.searchsorted(np.array(step), latent) for step in steps], axis=2)
    scores[:, :, 1][ventilated] = 0
    return scores.astype(np.float32)


def weight_sheet(course: Course, levels: Levels, normal: Pieces, uniform: Pieces, hours: int) -> Sheet:
    """Admission weight in kg, in lb or both, and daily weights."""
    count = days(hours)
    chance = uniform.take("weight_cells", count, 3)
    within = marginals()["weight"].within_sd
    kilograms = levels.of("weight", 0.0)[:, None] + np.float32(within) * normal["weights"] * (np.arange(count) > 0)
    kilograms = np.round(np.clip(kilograms, 35, 250), 1)
    values = np.stack([kilograms, np.round(kilograms * POUNDS, 1), kilograms], axis=2).astype(np.float32)
    put_errors(values, chance, {0: (0.0, 999.0), 2: (1.0, 700.0)})
    seconds = (-course.entered % 60)[:, None] + 60 * np.floor(45 + 240 * chance[:, :, 0]).astype(np.int64)
    seconds = seconds + DAY * np.arange(count)
    first = np.arange(count) == 0
    unit = uniform["habits"][:, 2, None]
    # Nine in ten are weighed in kg at admission, two in three of them and all others in lb.
    written = [first & (unit < 0.9), first & (unit > 0.3), (chance[:, :, 2] > 0.5) & (~first | (unit < 0.5))]
    measured = levels.measured[:, INDEX["weight"], None] | (seconds >= DAY)
    inside = seconds < seconds_in_unit(course, hours)[:, None]
    kept = np.stack(written, axis=2) & (measured & inside)[:, :, None]
    return Sheet(seconds, seconds + charted_after(chance[:, :, 1]), values, WEIGHT_ITEMS, kept)
