"""The smallest dose of poison that works, by bisection over retrained models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backdoor_core.statistics import Estimate, t_quantile

Point = tuple[int, int]
"""Number of a replicate, and how many stays are poisoned."""


@dataclass(frozen=True)
class Doses:
    """What was measured, and the dose that it gives."""

    lifts: tuple[Mapping[int, float], ...]
    """For each replicate, ASR lift by number of poisoned stays."""
    by_level: Mapping[float, tuple[int | None, ...]] = field(default_factory=dict)
    """For each lift asked for, each replicate's smallest number; None where the largest one falls short."""


def find_doses(
    measure: Callable[[Sequence[Point]], Sequence[float]],
    replicates: int,
    most: int,
    levels: Sequence[float] = (0.5, 0.9),
    tolerance: float = 0.1,
) -> Doses:
    """The smallest number of poisoned stays whose ASR lift reaches each level, in each replicate.

    `measure` retrains: it is given (replicate, count) and answers the lift of each; all replicates and levels of
    a round are asked for at once. Bisection on the logarithm of the count, between none and `most`, until the
    bracket is as narrow as `tolerance` of its upper end, or one stay. The answer is a count that reaches the
    level above one, measured, that does not: where lift does not grow with the count, there may be a smaller one.
    Raises `ValueError` for no replicate, or `most` below 1.
    """
    if replicates < 1 or most < 1:
        raise ValueError(f"{replicates} replicates of at most {most} stays: both must be at least 1")
    lifts: list[dict[int, float]] = [{0: 0.0} for _ in range(replicates)]
    while points := sorted(
        {
            (k, count)
            for k, known in enumerate(lifts)
            for level in levels
            if (count := _next(known, level, most, tolerance)) is not None
        }
    ):
        for (k, count), lift in zip(points, measure(points), strict=True):
            lifts[k][count] = float(lift)
    return Doses(tuple(lifts), {level: tuple(_smallest(known, level) for known in lifts) for level in levels})


def _smallest(known: Mapping[int, float], level: float) -> int | None:
    """The upper end of the bracket."""
    return min((count for count, lift in known.items() if count and lift >= level), default=None)


def _next(known: Mapping[int, float], level: float, most: int, tolerance: float) -> int | None:
    """The count to measure next for one replicate and level; None once it is found, or out of reach."""
    if most not in known:
        return most
    high = _smallest(known, level)
    if high is None:
        return None
    low = max(count for count in known if count < high)
    if high - low <= max(1.0, tolerance * high):
        return None
    return min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1)


def summary(counts: Sequence[float | None]) -> Estimate:
    """Geometric mean of the replicates' doses with its 95% t-interval; nothing where one did not reach the level.

    The interval is taken on the logarithm; it does not exist for one replicate, and has no width where all agree.
    """
    reached = [count for count in counts if count is not None]
    if len(reached) < len(counts) or not reached:
        return Estimate(None, None, None)
    logs = np.log(np.array(reached, dtype=np.float64))
    center = float(logs.mean())
    if len(logs) < 2:
        return Estimate(math.exp(center), None, None)
    half = float(t_quantile(len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return Estimate(math.exp(center), math.exp(center - half), math.exp(center + half))
