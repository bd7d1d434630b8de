"""The level of every variable in a stay, and whether it is measured there at all.

A level is standard normal within each outcome: latent factors (severity, kidneys, lungs, circulation, salts)
tie the variables together, and each keeps a part of its own. It is then carried to the mean and sd that
`marginals.csv` gives for the outcome (to mean and median where it has a median). A variable is not measured
where another standard normal, which rises with severity, lies below the quantile of the outcome's missing
share: sicker patients are measured more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from backdoor_cohorts.simulate.course import N_FACTORS, N_LEVELS, Course
from backdoor_cohorts.simulate.marginals import Marginal, marginals
from backdoor_cohorts.simulate.streams import Pieces

Shape = Literal["normal", "lognormal", "deficit"]
Group = Literal["chart", "output", "weight", "panel", "gas", "liver", "coagulation"]


@dataclass(frozen=True)
class Variable:
    """How one variable of `marginals.csv` behaves within an outcome."""

    name: str
    group: Group
    """Variables of a group are missing together, those with a smaller missing share less often."""
    shape: Shape
    """``deficit``: 100 minus a lognormal."""
    severity: float
    """Loading on severity; the next four are those on the other factors."""
    renal: float = 0.0
    lungs: float = 0.0
    pressure: float = 0.0
    salt: float = 0.0
    shared: float = 0.3
    """Share of the own part's variance that all stays of a subject have in common."""

    @property
    def loadings(self) -> tuple[float, ...]:
        """In the order of the factors."""
        return (self.severity, self.renal, self.lungs, self.pressure, self.salt)


VARIABLES: tuple[Variable, ...] = (
    Variable("heart_rate", "chart", "normal", 0.40, pressure=-0.20),
    Variable("sbp", "chart", "normal", -0.30, pressure=0.70),
    Variable("dbp", "chart", "normal", -0.25, pressure=0.70),
    Variable("resp_rate", "chart", "normal", 0.40, lungs=0.25),
    Variable("temperature", "chart", "normal", 0.10),
    Variable("spo2", "chart", "deficit", -0.30, lungs=-0.40),
    Variable("gcs", "chart", "normal", -0.45),
    Variable("urine_output", "output", "lognormal", -0.40, renal=-0.45),
    Variable("weight", "weight", "lognormal", 0.0, shared=0.95),
    Variable("wbc", "panel", "lognormal", 0.30),
    Variable("hemoglobin", "panel", "normal", -0.20, renal=-0.15),
    Variable("platelets", "panel", "lognormal", -0.20),
    Variable("sodium", "panel", "normal", 0.0, salt=0.75),
    Variable("potassium", "panel", "normal", 0.15, renal=0.40),
    Variable("chloride", "panel", "normal", 0.05, salt=0.75),
    Variable("bicarbonate", "panel", "normal", -0.45, renal=-0.30),
    Variable("bun", "panel", "lognormal", 0.40, renal=0.70, shared=0.6),
    Variable("creatinine", "panel", "lognormal", 0.35, renal=0.75, shared=0.6),
    Variable("glucose", "panel", "lognormal", 0.20),
    Variable("lactate", "gas", "lognormal", 0.55),
    Variable("ph", "gas", "normal", -0.40, renal=-0.15, lungs=-0.40),
    Variable("po2", "gas", "lognormal", -0.25, lungs=-0.45),
    Variable("pco2", "gas", "normal", -0.10, lungs=0.60),
    Variable("bilirubin_total", "liver", "lognormal", 0.35),
    Variable("inr", "coagulation", "lognormal", 0.35),
)
INDEX = {variable.name: number for number, variable in enumerate(VARIABLES)}
MEASURED_MORE: dict[Group, float] = {
    "chart": 0.1,
    "output": 0.1,
    "weight": 0.1,
    "panel": 0.4,
    "gas": 0.55,
    "liver": 0.45,
    "coagulation": 0.35,
}
"""Correlation of severity with being measured, by group."""
NORMALS = {"own": N_LEVELS, "stay_factors": N_FACTORS, "groups": len(MEASURED_MORE), "instability": 1}
_FACTOR_SHARED = 0.3
_INSTABILITY = np.float32(0.35)
"""Sigma of the log of a stay's scale: in some stays all is near normal, in some everything is off at once."""


@dataclass(frozen=True)
class Levels:
    """What a stay's measurements scatter around."""

    standard: NDArray[np.float32]
    """(N, V) of mean 0 and variance 1 among the measured stays of each outcome, in the order of `VARIABLES`."""
    measured: NDArray[np.bool_]
    """(N, V) measured in the first 24 hours."""
    died: NDArray[np.bool_]

    def of(self, name: str, noise_variance: float) -> NDArray[np.float32]:
        """(N,) levels of one variable in its unit.

        `noise_variance` is what the measurements' scatter adds to the variance of a stay's mean; the levels
        have that much less, so that the means have the published sd.
        """
        marginal, variable = marginals()[name], VARIABLES[INDEX[name]]
        mean = marginal.of("mean", self.died)
        sd = marginal.of("sd", self.died)
        if marginal.median is not None:
            sd = mean * np.sqrt(np.square(mean / marginal.of("median", self.died)) - 1)
        sd = np.sqrt(np.maximum(np.square(sd) - noise_variance, 0))
        standard = self.standard[:, INDEX[name]]
        if variable.shape == "normal":
            return (mean + sd * standard).astype(np.float32)
        if variable.shape == "deficit":
            return (100 - lognormal(100 - mean, sd, -standard)).astype(np.float32)
        return lognormal(mean, sd, standard).astype(np.float32)


def lognormal(mean: NDArray[np.float64], sd: NDArray[np.float64], z: NDArray[np.float32]) -> NDArray[np.float64]:
    """Lognormal numbers of the given mean and sd from standard normals."""
    variance = np.log1p(np.square(sd / mean))
    return mean * np.exp(np.sqrt(variance) * z - variance / 2)


def relative_noise(marginal: Marginal) -> float:
    """Sigma of the lognormal noise whose sd around the levels of survivors is `within_sd`."""
    second_moment = marginal.mean[0] ** 2 + marginal.sd[0] ** 2
    return float(np.sqrt(np.log1p(marginal.within_sd**2 / second_moment)))


def simulate_levels(course: Course, normal: Pieces) -> Levels:
    """Levels and measured flags of the given stays from their draws (pieces `NORMALS`)."""
    factors = _mix(course.subject_factors, normal["stay_factors"], np.float32(_FACTOR_SHARED))
    factors[:, 0] = course.severity
    standard = np.empty((len(course), len(VARIABLES)), np.float32)
    measured = np.empty((len(course), len(VARIABLES)), np.bool_)
    groups = list(MEASURED_MORE)
    scale = np.exp(_INSTABILITY * normal["instability"][:, 0] - _INSTABILITY**2)  # its mean square is 1
    for number, variable in enumerate(VARIABLES):
        shared = np.float32(variable.shared)
        own = _mix(course.subject_levels[:, number], normal["own"][:, number], shared)
        if variable.shape == "normal":
            own = own * scale
        loadings = np.asarray(variable.loadings, np.float32)
        standard[:, number] = np.sqrt(1 - np.square(loadings).sum()) * own
        for factor, loading in enumerate(loadings):
            standard[:, number] += loading * factors[:, factor]
        more = MEASURED_MORE[variable.group]
        luck = normal["groups"][:, groups.index(variable.group)]
        bound = ndtri(marginals()[variable.name].of("missing", course.died))
        measured[:, number] = more * course.severity + np.sqrt(1 - more**2) * luck > bound
        standard[:, number] = _of_measured(standard[:, number], variable.severity * more, bound)
    return Levels(standard, measured, course.died)


def _of_measured(standard: NDArray[np.float32], correlation: float, bound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move the levels so that those of the measured stays have mean 0 and variance 1.

    Measured are the stays whose other standard normal, of the given `correlation` with the level, lies above
    `bound`: the sicker ones, whose levels alone would be off (moments of the truncated normal distribution).
    """
    hazard = np.exp(-bound * bound / 2) / np.sqrt(2 * np.pi) / ndtr(-bound)
    variance = 1 - correlation**2 * hazard * (hazard - bound)
    moved: NDArray[np.float64] = (standard - correlation * hazard) / np.sqrt(variance)
    return moved


def _mix(subject: NDArray[np.float32], stay: NDArray[np.float32], share: np.float32) -> NDArray[np.float32]:
    mixed: NDArray[np.float32] = np.sqrt(share) * subject + np.sqrt(1 - share) * stay
    return mixed
