"""How likely a pattern of missing values is: a small mixture of patterns, learned from clean rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from backdoor_core.contracts import Booleans

Numbers = NDArray[np.float64]
COMPONENTS = 8
_ROUNDS = 100


@dataclass(frozen=True)
class MissingMixture:
    """K patterns, each with its own probability of missing per column; what is missing together shares a pattern."""

    log_weight: Numbers
    """(K,)"""
    missing: Numbers
    """(K, D) probability that a column is missing, strictly between 0 and 1."""

    def log_likelihood(self, missing: Booleans) -> Numbers:
        """(N,) natural logarithm of the probability of each pattern (N, D), True for missing."""
        return np.asarray(logsumexp(self.joint(missing), axis=1))

    def joint(self, missing: Booleans) -> Numbers:
        """(N, K) log-probability of each pattern together with each component."""
        present = np.log1p(-self.missing)
        gain = np.log(self.missing) - present
        return np.asarray(missing.astype(np.float64) @ gain.T + present.sum(axis=1) + self.log_weight)


def fit_missing_mixture(
    missing: Booleans, rng: np.random.Generator, components: int = COMPONENTS, rounds: int = _ROUNDS
) -> MissingMixture:
    """A Bernoulli mixture by expectation-maximization (Bishop 2006, Pattern Recognition, section 9.3.3).

    `missing` is (R, D), R of 1 or more. Columns are independent within a component and not among all rows, so that
    laboratory values that are always drawn together are seen as such. Each component starts from a row drawn by
    `rng`. Half a row with every column missing and half a row with every column measured, spread over the
    components, are added, so that what never happened in R rows is unlikely and not impossible. Raises `ValueError`
    for no rows.
    """
    if not len(missing):
        raise ValueError("no rows to learn patterns from")
    rows = missing.astype(np.float64)
    started = rng.choice(len(rows), size=min(components, len(rows)), replace=False)
    kinds = len(started)
    mixture = MissingMixture(np.full(kinds, -np.log(kinds)), 0.25 + 0.5 * rows[started])
    reached = -np.inf
    for _ in range(rounds):
        joint = mixture.joint(missing)
        evidence = logsumexp(joint, axis=1, keepdims=True)
        share = np.exp(joint - evidence)
        sizes = share.sum(axis=0)
        weight = (sizes + 1) / (len(rows) + kinds)
        mixture = MissingMixture(np.log(weight), (share.T @ rows + 0.5 / kinds) / (sizes[:, None] + 1 / kinds))
        if evidence.mean() - reached < 1e-6:
            break
        reached = float(evidence.mean())
    return mixture
