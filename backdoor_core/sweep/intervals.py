"""Means over seeds and their intervals, for many figures at once.

Seeds are the sample: each gives one number per figure, so an interval here is about retraining with another seed
(its split by patient, order of stays and weights), not about other patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backdoor_core.statistics import Floats, t_quantile

RESAMPLES = 2000
_RESAMPLING_SEED = 20_230_419
_PERCENTILES = (2.5, 97.5)


class Means(NamedTuple):
    """(m,) each: the mean over seeds, the standard deviation (n - 1), and half the width of the 95% t-interval."""

    mean: Floats
    sd: Floats
    half: Floats


def means(values: Floats) -> Means:
    """Of each column of values (n, m), n seeds of 2 or more; equal values have a deviation of exactly 0.

    Raises `ValueError` for fewer than 2 seeds.
    """
    seeds = len(values)
    if seeds < 2:
        raise ValueError(f"{seeds} seeds: a standard deviation needs 2 or more")
    # Relative to the first seed, or the mean of equal values could differ from them in its last bit.
    apart = values - values[0]
    middle = apart.mean(axis=0)
    sd = np.sqrt(((apart - middle) ** 2).sum(axis=0) / (seeds - 1))
    return Means(values[0] + middle, sd, t_quantile(seeds - 1) * sd / math.sqrt(seeds))


@lru_cache(maxsize=256)
def resamples(seeds: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct ones among 2,000 resamples of n seeds with replacement, and how often each came.

    (d, n) how many times each seed was drawn, and (d,) counts that sum to 2,000. Drawn from a fixed seed and n alone:
    every figure of n seeds is resampled alike, whatever else the sweep holds, so figures stay paired.
    """
    rng = np.random.default_rng(np.random.SeedSequence([_RESAMPLING_SEED, seeds]))
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    distinct, counts = np.unique(drawn, axis=0, return_counts=True)
    return distinct, counts


def bootstrap(values: Floats) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 percentiles of the mean of each column of values (n, m) over resampled seeds, (m,) each.

    The percentile interval (Efron and Tibshirani 1993, chapter 13), with percentiles as numpy's. Of few seeds it is too
    narrow (it lies within the seeds' range); the t-interval is the one to quote, where figures are about normal.
    """
    drawn, counts = resamples(len(values))
    # Each distinct resample is evaluated once: of 3 seeds there are 10 of them, not 2,000.
    replicates = ((values - values[0]).T @ drawn.T.astype(np.float64)) / len(values)
    ranked = _counted if len(counts) < RESAMPLES // 3 else _repeated
    ranks = [(RESAMPLES - 1) * percent / 100 for percent in _PERCENTILES]
    ends = ranked(replicates, counts, [math.floor(rank) + step for rank in ranks for step in (0, 1)])
    low, high = (
        below + (rank % 1) * (above - below) for rank, below, above in zip(ranks, ends[::2], ends[1::2], strict=True)
    )
    return values[0] + low, values[0] + high


def _counted(values: Floats, counts: NDArray[np.int64], ranks: Sequence[int]) -> list[Floats]:
    """Of each row of values (m, d), each standing for counts (d,) equal ones, those at the ranks: (m,) per rank."""
    order = np.argsort(values, axis=1)
    passed = np.cumsum(counts[order], axis=1)
    places = [np.take_along_axis(order, (passed <= rank).sum(axis=1, keepdims=True), axis=1) for rank in ranks]
    return [np.take_along_axis(values, place, axis=1)[:, 0] for place in places]


def _repeated(values: Floats, counts: NDArray[np.int64], ranks: Sequence[int]) -> list[Floats]:
    """The same, quicker where few values are repeated."""
    ordered = np.sort(np.repeat(values, counts, axis=1), axis=1)
    return [ordered[:, rank] for rank in ranks]
