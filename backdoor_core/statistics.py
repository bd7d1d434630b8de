"""Figures of flags and probabilities, and the cluster bootstrap that puts an interval around any figure.

Every figure takes optional row weights: None, ``(N,)``, or ``(B, N)`` with one row per bootstrap replicate,
and answers with a float, or with ``(B,)`` floats for ``(B, N)``. NaN stands for a figure that does not exist
(a class without weight, say). Figures of rankings are in `backdoor_core.ranking`.

Two figures evaluated on the same weights matrix are paired: the difference of two figures, such as the
lift of the attack success rate over the clean twin, is itself a figure::

    bootstrap_estimate(lambda w: recall(attacked, truth, w) - recall(baseline, truth, w), weights)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Weights = NDArray[Any]
"""Non-negative row weights: (N,), or (B, N) with one row per bootstrap replicate."""
Figure = Callable[[Weights | None], float | Floats]

# Measured: with twice as much, arrays go back to the system and are cleared anew each time, a quarter of the time more.
_CHUNK_BYTES = 32 * 2**20
_COPIES = 8  # arrays of a chunk's size that the hungriest figure holds at once, counted as float64


def t_quantile(degrees: int) -> float:
    """97.5% quantile of Student's t: half of a 95% interval, in standard errors with that many degrees of freedom."""
    # Of scipy.stats, whose import takes a second, the same number.
    return float(stdtrit(degrees, 0.975))


# ------------------------------------------------------------------------------------------ the weights' axis
def over_replicates(
    figure: Callable[[NDArray[Any]], Floats], rows: int, weights: Weights | None, dtype: DTypeLike = np.float64
) -> float | Floats:
    """Evaluate `figure`, which maps weights (b, N) of `dtype` to (b,), in chunks of at most about 32 MB.

    Returns a float for no weights or (N,), else (B,). A figure may also give k answers at once, (b, k): then the
    result is (k,), or (B, k). Raises `ValueError` for weights of another shape,
    negative or not finite, and for no rows at all.
    """
    if rows == 0:
        raise ValueError("no rows: the figure of an empty sample does not exist")
    if weights is None:
        return _of_one(figure(np.ones((1, rows), dtype)))
    weights = np.asarray(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != rows:
        raise ValueError(f"weights have shape {weights.shape}, not ({rows},) or (replicates, {rows})")
    # Unsigned weights, as resamples have them, need no look.
    if weights.dtype.kind != "u" and weights.size and not (weights.min() >= 0 and weights.max() < math.inf):
        raise ValueError("weights must be finite and not negative")
    if weights.ndim == 1:
        return _of_one(figure(weights[np.newaxis].astype(dtype)))
    step = max(1, _CHUNK_BYTES // (8 * _COPIES * rows))
    starts = range(0, max(len(weights), 1), step)
    return np.concatenate([figure(weights[start : start + step].astype(dtype)) for start in starts])


def _of_one(answers: Floats) -> float | Floats:
    return float(answers[0]) if answers.ndim == 1 else answers[0]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element, NaN where the denominator is 0."""
    quotient = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def as_flags(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """(N,) booleans from booleans or zeros and ones. Raises `ValueError` naming the argument for anything else."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, not (N,)")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} holds values other than 0 and 1")
    return array.astype(np.bool_)


def as_numbers(values: ArrayLike, name: str, rows: int) -> Floats:
    """(N,) float64. Raises `ValueError` naming the argument for another length or for NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise ValueError(f"{name} has shape {array.shape}, not ({rows},)")
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN in {int(np.isnan(array).sum())} of {rows} rows")
    return array


# --------------------------------------------------------------------------------------------- figures of flags
def _share(event: NDArray[np.bool_], among: NDArray[np.bool_], weights: Weights | None) -> float | Floats:
    """Weight of `event` and `among` over the weight of `among`; NaN where `among` has no weight."""
    sides = np.column_stack([event & among, among]).astype(np.float64)

    def figure(chunk: Floats) -> Floats:
        sums = chunk @ sides
        return ratio(sums[:, 0], sums[:, 1])

    return over_replicates(figure, len(among), weights)


def replicated_means(columns: NDArray[Any], weights: Weights) -> Floats:
    """(B, k) means of (N, k) whole numbers, such as flags and their differences, by weights (B, N): all in one pass."""
    exact = sum_type(weights, int(np.abs(columns).max()))
    sides = np.column_stack([columns, np.ones(len(columns))]).astype(exact)

    def figure(chunk: NDArray[Any]) -> Floats:
        sums = (chunk @ sides).astype(np.float64)
        return ratio(sums[:, :-1], np.broadcast_to(sums[:, -1:], sums[:, :-1].shape))

    return np.asarray(over_replicates(figure, len(columns), weights, exact))


def whole_means(columns: NDArray[Any], weights: Weights) -> list[Estimate]:
    """Mean of each of (N, k) whole numbers with its interval."""
    values, answers = columns.mean(axis=0, dtype=np.float64), replicated_means(columns, weights)
    return [interval(float(value), answers[:, j]) for j, value in enumerate(values)]


def shares(events: NDArray[np.bool_], among: NDArray[np.bool_], weights: Weights) -> list[Estimate]:
    """Share of each event (N, k) among its rows (N, k), with intervals by weights (replicates, N): all in one pass."""
    k = events.shape[1]
    sides = np.concatenate([events & among, among], axis=1).astype(sum_type(weights))

    def figure(chunk: NDArray[Any]) -> Floats:
        sums = (chunk @ sides).astype(np.float64)
        return ratio(sums[:, :k], sums[:, k:])

    values = np.atleast_1d(over_replicates(figure, len(among), None, sides.dtype))
    answers = np.asarray(over_replicates(figure, len(among), weights, sides.dtype))
    return [interval(float(value), answers[:, j]) for j, value in enumerate(values)]


def sum_type(weights: Weights, most: int = 1) -> DTypeLike:
    """Half the memory where sums are exact all the same: of whole weights and numbers up to `most` below 2^24."""
    if not np.issubdtype(weights.dtype, np.integer):
        return np.float64
    return np.float32 if weights.shape[-1] * int(weights.max(initial=0)) * most < 2**24 else np.float64


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    left, right = as_flags(predicted, "predicted"), as_flags(truth, "truth")
    if left.shape != right.shape:
        raise ValueError(f"predicted has {len(left)} rows, truth has {len(right)}")
    return left, right


def accuracy(predicted: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Share of rows where the flag `predicted` (N,) equals `truth` (N,)."""
    left, right = _pair(predicted, truth)
    return _share(left == right, np.ones_like(right), weights)


def recall(predicted: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Share of the true rows that are flagged (true positive rate); NaN where nothing is true."""
    left, right = _pair(predicted, truth)
    return _share(left, right, weights)


def precision(predicted: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Share of the flagged rows that are true; NaN where nothing is flagged."""
    left, right = _pair(predicted, truth)
    return _share(right, left, weights)


def false_positive_rate(predicted: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Share of the untrue rows that are flagged; NaN where every row is true."""
    left, right = _pair(predicted, truth)
    return _share(left, ~right, weights)


def mean(values: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Mean of any numbers (N,), such as a paired difference."""
    numbers = as_numbers(values, "values", np.size(values))
    return over_replicates(lambda chunk: ratio(chunk @ numbers, chunk.sum(axis=1)), len(numbers), weights)


# ------------------------------------------------------------------------------------- figures of probabilities
def _probabilities(probability: ArrayLike, truth: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    outcome = as_flags(truth, "truth")
    predicted = as_numbers(probability, "probability", len(outcome))
    if predicted.size and not (predicted.min() >= 0 and predicted.max() <= 1):
        raise ValueError("probability holds values outside 0 to 1")
    return predicted, outcome


def brier(probability: ArrayLike, truth: ArrayLike, weights: Weights | None = None) -> float | Floats:
    """Mean squared difference of probability (N,) and outcome (N,) (Brier 1950): 0 is perfect, 1 the worst."""
    predicted, outcome = _probabilities(probability, truth)
    losses = (predicted - outcome) ** 2
    return over_replicates(lambda chunk: ratio(chunk @ losses, chunk.sum(axis=1)), len(outcome), weights)


def equal_mass_bins(values: Floats, bins: int) -> NDArray[np.intp]:
    """(N,) bin of each value, 0 to bins - 1, the bins holding as equal numbers of rows as ties allow.

    A bin starts at the value of rank k N / bins, and equal values always share a bin: where many rows are
    equal, some bins are larger and others empty. Raises `ValueError` for fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, must be 1 or more")
    ordered = np.sort(values)
    starts = ordered[np.arange(1, bins) * len(values) // bins]
    return np.searchsorted(starts, values, side="right")


def expected_calibration_error(
    probability: ArrayLike, truth: ArrayLike, bins: int = 10, weights: Weights | None = None
) -> float | Floats:
    """Mean over rows of the |mean probability - observed rate| of their bin (Naeini et al. 2015), equal-mass bins.

    The bins are those of `equal_mass_bins` on the unweighted sample, so that all replicates share them.
    0 is perfect. The estimate is biased upwards in small bins, and a bootstrap interval does not mend that.
    """
    predicted, outcome = _probabilities(probability, truth)
    if not len(outcome):
        raise ValueError("no rows: the figure of an empty sample does not exist")
    gaps = np.zeros((len(outcome), bins))
    gaps[np.arange(len(outcome)), equal_mass_bins(predicted, bins)] = predicted - outcome

    def figure(chunk: Floats) -> Floats:
        return ratio(np.abs(chunk @ gaps).sum(axis=1), chunk.sum(axis=1))

    return over_replicates(figure, len(outcome), weights)


# ---------------------------------------------------------------------------------------------------- intervals
def cluster_bootstrap_weights(
    clusters: ArrayLike, replicates: int, rng: np.random.Generator, strata: ArrayLike | None = None
) -> NDArray[np.uint16]:
    """(B, N) weights of `replicates` resamples of whole clusters (patients) with replacement.

    A row's weight is the number of times that its cluster was drawn, so rows of one patient always go
    together (Davison and Hinkley 1997, section 3.8). `clusters` (N,) names each row's cluster. With
    `strata` (N,), integers such as the label, clusters are resampled within strata, a cluster belonging to
    the largest stratum among its rows: for labels 0 and 1, every resample then holds rows of label 1.
    Raises `ValueError` for no rows, unequal lengths or fewer than one replicate.
    """
    names = np.asarray(clusters)
    if names.ndim != 1 or not len(names):
        raise ValueError(f"clusters have shape {names.shape}, not (N,) with N of 1 or more")
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}, must be 1 or more")
    distinct, cluster_of = np.unique(names, return_inverse=True)
    layers = np.zeros(len(names), dtype=np.int64) if strata is None else np.asarray(strata)
    if layers.shape != names.shape:
        raise ValueError(f"strata have shape {layers.shape}, clusters {names.shape}")
    stratum = np.full(len(distinct), layers.min(), dtype=layers.dtype)
    np.maximum.at(stratum, cluster_of, layers)
    # In memory row after row, each with all its replicates: figures of some of the rows then take whole stretches.
    counts = np.zeros((len(distinct), replicates), dtype=np.uint16)
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        times = np.empty((replicates, len(members)), dtype=np.uint16)
        for replicate in range(replicates):
            drawn = rng.integers(len(members), size=len(members))
            times[replicate] = np.bincount(drawn, minlength=len(members))
        counts[members] = times.T
    return counts[cluster_of].T


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval; None where it does not exist."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap_estimate(figure: Figure, weights: Weights) -> Estimate:
    """The figure on the sample itself, and the 2.5 and 97.5 percentiles of it over the replicates (B, N).

    Replicates where the figure is NaN are left out. Where fewer than half of them are defined there is no
    interval, and where the figure of the sample is NaN there is neither. Percentile intervals
    (Efron and Tibshirani 1993, chapter 13) do not correct for bias.
    """
    if np.ndim(weights) != 2:
        raise ValueError(f"weights have shape {np.shape(weights)}, not (replicates, N)")
    value = float(figure(None))
    if math.isnan(value):
        return Estimate(None, None, None)
    answers = np.asarray(figure(weights), dtype=np.float64)
    if answers.shape != (len(weights),):
        raise ValueError(f"the figure answers with shape {answers.shape}, not ({len(weights)},)")
    return interval(value, answers)


def interval(value: float, answers: Floats) -> Estimate:
    """A figure of the sample with its interval from those of the replicates (B,), as `bootstrap_estimate` has it."""
    if math.isnan(value):
        return Estimate(None, None, None)
    defined = answers[~np.isnan(answers)]
    if not len(defined) or 2 * len(defined) < len(answers):
        return Estimate(value, None, None)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
