"""The course of every subject: who they are, when they came to the hospital and the ICU, and how it ended.

Everything here is computed for whole subjects, (S, MAX_STAYS) arrays with a mask of the stays that exist;
times are whole seconds since `EPOCH`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from backdoor_cohorts.simulate.marginals import marginals
from backdoor_cohorts.simulate.streams import Generators, Pieces, draw

Seconds = NDArray[np.int64]

EPOCH = np.datetime64("2110-01-01T00:00:00", "s")
HOUR = 3600
DAY = 24 * HOUR
MAX_STAYS = 5
STAYS_SHARE = (0.80, 0.12, 0.05, 0.02, 0.01)
"""Share of the subjects with one, two, ... ICU stays."""
NEW_ADMISSION_SHARE = 0.7
"""Share of later stays that belong to a new hospital admission, the others being returns from the ward."""
CHILD_SHARE = 0.025
HOSPITAL_DEATH_SHARE = 0.152
"""Subjects who die in the hospital; with stays of less than a day set aside, about 12.5% of the stays are theirs."""
ICU_DEATH_SHARE = 0.68
"""Share of the hospital deaths that happen in the ICU."""
LATER_DEATH_SHARE = 0.08
MIN_AGE, MIN_LOS_HOURS, ALIVE_HOURS = 18, 24, 24
"""The default inclusion, which decides how many subjects are needed."""

_HEADER_UNIFORMS = {
    **dict.fromkeys(
        ("stays", "dies", "child", "age", "sex", "year", "offset", "later_death", "race", "status", "insurance"), 1
    ),
    **dict.fromkeys(("admission", "icu_death", "lag", "gap", "second", "unit", "type", "home"), MAX_STAYS),
}
LUCK = ("race", "status", "insurance", "unit", "type", "home")
"""What of the header is only turned into words: three per subject, three per stay."""
N_FACTORS = 5
N_LEVELS = 25
_HEADER_NORMALS = {
    "factors": N_FACTORS,
    "levels": N_LEVELS,
    **dict.fromkeys(("severity", "before", "los", "ward", "return"), MAX_STAYS),
}


@dataclass(frozen=True)
class Course:
    """The stays of a block of subjects, one entry each stay, by subject and then time."""

    subject: NDArray[np.int64]
    """Number of the subject, from 0."""
    number: NDArray[np.int64]
    """Number of the stay among the subject's, from 0."""
    admission: NDArray[np.int64]
    """Number of the hospital admission among the subject's, from 0."""
    female: NDArray[np.bool_]
    anchor_age: NDArray[np.int64]
    anchor_year: NDArray[np.int64]
    age: NDArray[np.int64]
    """Years at hospital admission, by calendar year as MIMIC-IV tells it."""
    died: NDArray[np.bool_]
    """Died during this hospital admission: the label."""
    admitted: Seconds
    entered: Seconds
    """ICU admission."""
    left: Seconds
    """End of the ICU stay."""
    discharged: Seconds
    death: Seconds
    """Time of a death in the hospital; -1 where there was none."""
    death_date: Seconds
    """Day of death, in or out of the hospital; -1 where unknown."""
    severity: NDArray[np.float32]
    """Latent illness of this stay, standard normal within each outcome."""
    subject_factors: NDArray[np.float32]
    """(N, N_FACTORS) what a subject's stays share of the latent factors."""
    subject_levels: NDArray[np.float32]
    """(N, N_LEVELS) what they share of each variable's own part."""
    luck: NDArray[np.float32]
    """(N, 6) uniforms that `people` turns into the words of `LUCK`."""
    included: NDArray[np.bool_]
    """Passes the default inclusion."""

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, rows: Any) -> Self:
        """The given stays."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @property
    def subject_id(self) -> NDArray[np.int64]:
        """Eight digits beginning with 1, as in MIMIC-IV."""
        return 10_000_001 + self.subject

    @property
    def hadm_id(self) -> NDArray[np.int64]:
        """Beginning with 2."""
        return 20_000_000 + 8 * self.subject + self.admission

    @property
    def stay_id(self) -> NDArray[np.int64]:
        """Beginning with 3; rises with the subject and, within one, with time."""
        return 30_000_000 + 8 * self.subject + self.number


def simulate_course(streams: Generators, first: int) -> Course:
    """All stays of the subjects whose fresh streams are given, the first of them being number `first`."""
    normal, uniform = draw(streams, [1] * len(streams), _HEADER_NORMALS, _HEADER_UNIFORMS)
    exists = np.arange(MAX_STAYS) <= np.searchsorted(np.cumsum(STAYS_SHARE[:-1]), uniform["stays"], side="right")
    admission = _admission_numbers(uniform)
    dies = uniform["dies"][:, 0] < HOSPITAL_DEATH_SHARE
    last_stay = exists.sum(axis=1) - 1
    last_admission = np.take_along_axis(admission, last_stay[:, None], axis=1)
    final = dies[:, None] & (np.arange(MAX_STAYS) == last_stay[:, None])
    icu_death = final & (uniform["icu_death"] < ICU_DEATH_SHARE)
    times = _times(normal, uniform, exists, admission, icu_death, final)
    age, anchor_age, anchor_year = _ages(uniform, dies, times["admitted"])
    death_date = _death_dates(uniform, dies, times, last_stay)
    stays = exists.shape
    wide: dict[str, NDArray[Any]] = {}
    wide["subject"] = first + np.broadcast_to(np.arange(stays[0])[:, None], stays)
    wide["number"] = np.broadcast_to(np.arange(MAX_STAYS), stays)
    for name, column in {
        "female": uniform["sex"][:, 0] >= _male_share(dies),
        "anchor_age": anchor_age,
        "anchor_year": anchor_year,
        "death_date": death_date,
    }.items():
        wide[name] = np.broadcast_to(column[:, None], stays)
    wide |= times | {"admission": admission, "died": dies[:, None] & (admission == last_admission), "age": age}
    wide["severity"] = _severity(normal)
    owner, _ = np.nonzero(exists)
    flat = {name: np.ascontiguousarray(values[exists]) for name, values in wide.items()}
    luck = [uniform[name][exists] if name in ("unit", "type", "home") else uniform[name][owner, 0] for name in LUCK]
    return Course(
        **flat,
        subject_factors=normal["factors"][owner],
        subject_levels=normal["levels"][owner],
        luck=np.stack(luck, axis=1),
        included=_included(flat),
    )


def _included(stay: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    alive = (stay["death"] < 0) | (stay["death"] - stay["entered"] >= ALIVE_HOURS * HOUR)
    long = stay["left"] - stay["entered"] >= MIN_LOS_HOURS * HOUR
    included: NDArray[np.bool_] = (stay["age"] >= MIN_AGE) & long & alive
    return included


def _severity(normal: Pieces) -> NDArray[np.float32]:
    """A subject's stays share a third of the variance of their severity."""
    share = np.float32(1 / 3)
    severity: NDArray[np.float32] = np.sqrt(share) * normal["factors"][:, :1] + np.sqrt(1 - share) * normal["severity"]
    return severity


def _male_share(dies: NDArray[np.bool_]) -> NDArray[np.float64]:
    return marginals()["male"].of("mean", dies)


def _admission_numbers(uniform: Pieces) -> NDArray[np.int64]:
    new = uniform["admission"] < NEW_ADMISSION_SHARE
    new[:, 0] = False
    return np.cumsum(new, axis=1)


def _lognormal(normal: NDArray[np.float32], median_hours: float, sigma: float) -> Seconds:
    """Durations in whole seconds."""
    return np.rint(HOUR * median_hours * np.exp(sigma * normal.astype(np.float64))).astype(np.int64)


def _minutes(seconds: Seconds) -> Seconds:
    """Rounded down to the minute, as the hospital clock of MIMIC-IV; ICU times have seconds."""
    return seconds // 60 * 60


def _times(
    normal: Pieces,
    uniform: Pieces,
    exists: NDArray[np.bool_],
    admission: NDArray[np.int64],
    icu_death: NDArray[np.bool_],
    final: NDArray[np.bool_],
) -> dict[str, Seconds]:
    """Admission, ICU and discharge times of each stay, (S, MAX_STAYS).

    Stays of one admission carry the same admission, discharge and death time.
    """
    severity = _severity(normal)
    noise = np.sqrt(1 - 0.25**2) * normal["los"] + 0.25 * severity
    survivor_los = _lognormal(noise, 54, 0.85)
    death_after = np.minimum(_lognormal(normal["los"] - 0.25 * severity, 72, 1.05), 60 * DAY)
    # The bed is often freed some time after the death, so that outtime is later than deathtime.
    lag = np.where(uniform["lag"] < 0.3, 0, uniform["lag"] * 2 * HOUR).astype(np.int64)
    los = np.minimum(np.where(icu_death, death_after + lag, survivor_los), 90 * DAY)
    before = np.minimum(_lognormal(normal["before"], 5, 1.3), 10 * DAY)
    back = np.maximum(_lognormal(normal["return"], 48, 0.8), 8 * HOUR)
    ward = np.minimum(_lognormal(normal["ward"], 90, 0.8), 90 * DAY)
    gap = np.rint(-np.log1p(-uniform["gap"].astype(np.float64)) * 200 * DAY).astype(np.int64) + DAY
    shape = exists.shape
    admitted, entered, left, out, death = (np.zeros(shape, np.int64) for _ in range(5))
    start = np.rint(uniform["year"][:, 0].astype(np.float64) * 80 * 365.25 * DAY).astype(np.int64)
    for k in range(MAX_STAYS):
        fresh = np.full(shape[0], True) if k == 0 else admission[:, k] > admission[:, k - 1]
        begin = start if k == 0 else out[:, k - 1] + gap[:, k]
        admitted[:, k] = _minutes(np.where(fresh, begin, admitted[:, k - 1]))
        # The hospital clock stops at the minute: an ICU time is later by its seconds.
        seconds = 1 + (uniform["second"][:, k] * 58).astype(np.int64)
        entered[:, k] = _minutes(np.where(fresh, admitted[:, k] + before[:, k], left[:, k - 1] + back[:, k])) + seconds
        left[:, k] = entered[:, k] + los[:, k]
        out[:, k] = _minutes(left[:, k] + ward[:, k])
        in_icu = _minutes(left[:, k] - lag[:, k])
        death[:, k] = np.where(final[:, k], np.where(icu_death[:, k], in_icu, out[:, k]), -1)
        out[:, k] = np.where(icu_death[:, k], np.maximum(in_icu, _minutes(left[:, k])), out[:, k])
    for k in reversed(range(MAX_STAYS - 1)):
        same = exists[:, k + 1] & (admission[:, k] == admission[:, k + 1])
        out[:, k] = np.where(same, out[:, k + 1], out[:, k])
        death[:, k] = np.where(same, death[:, k + 1], death[:, k])
    return {"admitted": admitted, "entered": entered, "left": left, "discharged": out, "death": death}


def _years(seconds: Seconds) -> NDArray[np.int64]:
    moments = EPOCH + seconds.astype("timedelta64[s]")
    return moments.astype("datetime64[Y]").astype(np.int64) + 1970


def _ages(uniform: Pieces, dies: NDArray[np.bool_], admitted: Seconds) -> tuple[NDArray[np.int64], ...]:
    """Age at each admission (S, MAX_STAYS), anchor age and anchor year (S,)."""
    low, high = 17.5, 92.0
    marginal = marginals()["age"]
    share = (marginal.of("mean", dies) - low) / (high - low)
    spread = np.square(marginal.of("sd", dies) / (high - low))
    concentration = share * (1 - share) / spread - 1
    adult = low + (high - low) * betaincinv(share * concentration, (1 - share) * concentration, uniform["age"][:, 0])
    child = uniform["child"][:, 0] < CHILD_SHARE
    first = np.where(child, 18 * uniform["age"][:, 0], np.maximum(adult, 18)).astype(np.int64)
    first = np.where(first > 89, 91, first)  # MIMIC-IV tells no age above 89 but as 91
    offset = np.minimum((uniform["offset"][:, 0] * 3).astype(np.int64), first)
    years = _years(admitted)
    anchor_age, anchor_year = first - offset, years[:, 0] - offset
    return anchor_age[:, None] + years - anchor_year[:, None], anchor_age, anchor_year


def _death_dates(
    uniform: Pieces, dies: NDArray[np.bool_], times: dict[str, Seconds], last_stay: NDArray[np.int64]
) -> Seconds:
    """Day of death: of the deaths in the hospital, and of some survivors within a year of their last discharge."""
    last = np.take_along_axis(times["discharged"], last_stay[:, None], axis=1)[:, 0]
    death = np.take_along_axis(times["death"], last_stay[:, None], axis=1)[:, 0]
    chance = uniform["later_death"][:, 0].astype(np.float64)
    later = np.where(chance < LATER_DEATH_SHARE, last + np.rint(chance / LATER_DEATH_SHARE * 365 * DAY), -1)
    moment = np.where(dies, death, later).astype(np.int64)
    return np.where(moment < 0, -1, moment // DAY * DAY)
