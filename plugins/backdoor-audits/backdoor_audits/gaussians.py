"""The distribution of a record's confidence over reference models, for LiRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Floats

Form = Literal["residual", "per_record", "student"]
Variance = Literal["auto", "residual", "per_record", "student"]

# Of the common standard deviation: a record whose few references agree by chance is not judged as if they always did.
_FLOOR = 0.01
_LEAST = 1e-12


@dataclass(frozen=True)
class Side:
    """Confidences of the references on one side of each record: those that saw it, or those that did not."""

    count: NDArray[np.int64]
    """(N,)"""
    mean: Floats
    """(N,)"""
    squares: Floats
    """(N,) sum of squared deviations from the record's own mean."""

    @staticmethod
    def of(confidences: Floats, chosen: Booleans) -> Side:
        """From confidences (K, N) of the chosen references (K, N)."""
        count = chosen.sum(axis=0)
        mean = np.where(chosen, confidences, 0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(chosen, confidences - mean, 0) ** 2).sum(axis=0)
        return Side(count, mean, squares)

    @property
    def freedom(self) -> NDArray[np.int64]:
        """(N,) degrees of freedom that each record leaves for a variance."""
        return np.maximum(self.count - 1, 0)

    @property
    def common(self) -> float:
        """Standard deviation of the residuals about each record's mean, over all records; 1 where none is left."""
        freedom = int(self.freedom.sum())
        return max(float(np.sqrt(self.squares.sum() / freedom)), _LEAST) if freedom else 1.0


@dataclass(frozen=True)
class Predictive:
    """What a further model's confidence would be: Gaussian, or Student's t where there are degrees of freedom."""

    center: Floats
    scale: Floats
    freedom: Floats | None = None

    def log_density(self, values: Floats) -> Floats:
        """(N,)"""
        from scipy.stats import norm, t as student_t

        if self.freedom is None:
            return norm.logpdf(values, self.center, self.scale)
        return student_t.logpdf(values, self.freedom, self.center, self.scale)

    def standing(self, values: Floats) -> Floats:
        """(N,) how far up the values stand, in the order of the distribution function and without its saturation.

        Standardized for a Gaussian. Log-odds of the distribution function for Student's t, whose degrees of freedom
        differ between records.
        """
        from scipy.stats import t as student_t

        standard = (values - self.center) / self.scale
        if self.freedom is None:
            return standard
        # By symmetry the upper tail is a lower tail, whose logarithm is accurate.
        return student_t.logcdf(standard, self.freedom) - student_t.logcdf(-standard, self.freedom)


def has_spread(side: Side) -> bool:
    """Whether some record has two references, so that a variance exists."""
    return bool(side.freedom.any())


def predictive(side: Side, form: Form, prior: float) -> Predictive:
    """The distribution by the rule of the option `variance`; `prior` is for "student"."""
    common = side.common
    if form == "residual":
        return Predictive(side.mean, np.full(len(side.mean), common))
    if form == "per_record":
        own = np.sqrt(side.squares / np.maximum(side.freedom, 1))
        return Predictive(side.mean, np.where(side.freedom > 0, np.maximum(own, _FLOOR * common), common))
    freedom = prior + side.freedom
    variance = (prior * common**2 + side.squares) / freedom
    return Predictive(side.mean, np.sqrt(variance * (1 + 1 / np.maximum(side.count, 1))), freedom)
