"""Differential privacy checked, not believed: a lower bound on epsilon from one training run.

Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv 2305.08846. Each of m canaries
is put into the training data by a coin flip of its own (`coin_flips`); the model is trained once; the auditor guesses
of the r canaries that it is surest of whether they were in. The more of the guesses are right, the less private the
training can have been. The flips must be independent with probability 1/2: a split of fixed sizes, such as training
and test part, is none and proves nothing, and `audit_one_run` refuses what is plainly one. A canary is what the claim
protects: a patient's every record together where the claim is by patient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, binomtest

from backdoor_core.errors import BackdoorError
from backdoor_core.statistics import as_flags, as_numbers

_NO_COIN = 1e-6
"""Honest coins give a count of heads this unlikely once in a million audits."""
_STEP = 0.1
_SHARES = (4, 10)
"""A quarter and a tenth of the canaries are guessed on each side: two tries, fixed before any score is seen."""


def coin_flips(canaries: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(m,) which canaries go into the training data, each with probability 1/2 and independently."""
    return rng.integers(2, size=canaries).astype(np.bool_)


def guesses(scores: ArrayLike, included: int, excluded: int) -> NDArray[np.int8]:
    """(m,) 1 for the `included` highest scores, -1 for the `excluded` lowest, 0 (no guess) for the rest.

    Among equal scores the later canary ranks higher: any rule that does not look at the coins will do. Raises
    `ValueError` for more guesses than canaries or NaN scores.
    """
    values = as_numbers(scores, "scores", np.size(scores))
    if included < 0 or excluded < 0 or included + excluded > len(values):
        raise ValueError(f"{included} and {excluded} guesses do not fit {len(values)} canaries")
    order = np.argsort(values, kind="stable")
    answer = np.zeros(len(values), dtype=np.int8)
    answer[order[:excluded]] = -1
    answer[order[len(values) - included :]] = 1
    return answer


def p_value(canaries: int, guessed: int, right: int, epsilon: float, delta: float) -> float:
    """Upper bound on the probability that (epsilon, delta)-private training lets `right` or more guesses be right.

    Of `canaries` (m), `guessed` (r) were guessed: P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i with B binomial
    of r trials and probability e^epsilon / (1 + e^epsilon) (the code in the paper's appendix D). Raises `ValueError`
    for counts or parameters out of range.
    """
    if not 0 <= right <= guessed <= canaries or canaries < 1:
        raise ValueError(f"{right} right of {guessed} guesses of {canaries} canaries is impossible")
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"epsilon {epsilon} must be 0 or more and delta {delta} from 0 to 1")
    rate = 1 / (1 + math.exp(-epsilon))
    at_least = float(binom.sf(right - 1, guessed, rate))
    if delta == 0 or right == 0:
        return min(1.0, at_least)
    just_below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guessed, rate))
    steepest = float((just_below / np.arange(1, right + 1)).max())
    return min(1.0, at_least + 2 * canaries * delta * steepest)


def epsilon_lower_bound(canaries: int, guessed: int, right: int, delta: float, confidence: float = 0.95) -> float:
    """The smallest epsilon that the guesses do not refute at that confidence: the training is not more private.

    It exceeds the true epsilon with probability 1 - `confidence` at most, where the numbers of guesses were fixed in
    advance. Every smaller epsilon is refuted, since the search goes up from 0: the p-value need not be monotone where
    delta is large. Raises `ValueError` for a confidence outside 0 to 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, must lie between 0 and 1")

    def refuted(epsilon: float) -> bool:
        return p_value(canaries, guessed, right, epsilon, delta) <= 1 - confidence

    if not refuted(0.0):
        return 0.0
    steps = 1
    while refuted(steps * _STEP):
        steps += 1
    low, high = (steps - 1) * _STEP, steps * _STEP
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Trial:
    """One choice of how many canaries to guess."""

    included: int
    excluded: int
    right: int
    epsilon: float
    """The bound that it alone gives, at the corrected confidence."""


@dataclass(frozen=True)
class OneRun:
    """A lower bound on epsilon at a stated delta and confidence."""

    canaries: int
    in_training: int
    delta: float
    confidence: float
    """Of `epsilon`, over all trials together."""
    trials: tuple[Trial, ...]
    epsilon: float
    ceiling: float
    """The bound that right guesses throughout would have given: what this audit could show at most."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "trials": [vars(trial) for trial in self.trials]}


def audit_one_run(
    scores: ArrayLike,
    in_training: ArrayLike,
    numbers: Sequence[tuple[int, int]],
    delta: float,
    confidence: float = 0.95,
) -> OneRun:
    """The bound from scores (m,), higher = more likely in, and the coins (m,) that put canaries into the training.

    `numbers` holds the numbers of guesses (in, out) to try, fixed before the scores are seen; the best bound counts,
    and each is taken at a confidence of 1 - (1 - confidence) / len(numbers) (Bonferroni), since the best of many
    tries at 95% is no bound at 95%. `delta` has no default: a bound at delta 0 refutes no claim made at a larger one.

    Raises `BackdoorError` for no numbers, numbers that do not fit, or coins that no honest flips give.
    """
    coins = as_flags(in_training, "in_training")
    values = as_numbers(scores, "scores", len(coins))
    m, heads = len(coins), int(coins.sum())
    if not numbers or any(i < 0 or o < 0 or not 1 <= i + o <= m for i, o in numbers):
        raise BackdoorError(f"one-run audit: numbers of guesses {list(numbers)} must be pairs with a sum from 1 to {m}")
    if binomtest(heads, m).pvalue < _NO_COIN:
        raise BackdoorError(
            f"one-run audit: {heads} of {m} canaries in the training data are no fair coin flips; "
            "put each in with probability 1/2 on its own"
        )
    each = 1 - (1 - confidence) / len(numbers)
    trials = tuple(_trial(values, coins, pair, delta, each) for pair in numbers)
    return OneRun(
        canaries=m,
        in_training=heads,
        delta=delta,
        confidence=confidence,
        trials=trials,
        epsilon=max(trial.epsilon for trial in trials),
        ceiling=max(epsilon_lower_bound(m, i + o, i + o, delta, each) for i, o in numbers),
    )


def judge_canaries(scores: ArrayLike, coins: NDArray[np.bool_], delta: float) -> OneRun:
    """The lower bound on epsilon at `delta` that scores (m,) give; higher = more likely in."""
    count = len(coins)
    numbers = [(max(1, count // share), max(1, count // share)) for share in _SHARES]
    return audit_one_run(scores, coins, numbers, delta)


def _trial(
    scores: NDArray[np.float64], coins: NDArray[np.bool_], pair: tuple[int, int], delta: float, confidence: float
) -> Trial:
    included, excluded = pair
    answer = guesses(scores, included, excluded)
    right = int(((answer == 1) & coins).sum() + ((answer == -1) & ~coins).sum())
    bound = epsilon_lower_bound(len(coins), included + excluded, right, delta, confidence)
    return Trial(included, excluded, right, bound)
