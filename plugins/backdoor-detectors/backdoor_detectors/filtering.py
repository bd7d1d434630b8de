"""Mean and covariance of mostly Gaussian rows, some of which an adversary chose: the filter of Diakonikolas et al."""

import math

import numpy as np
from numpy.typing import NDArray

from .activations import Floats

_CONSTANT = 10.0
_CONFIDENCE = 0.1
_ROUNDS = 10
_FIRST_STEPS, _LATER_STEPS = 8, 3


def filtered_moments(points: Floats, share: float) -> tuple[Floats, Floats, int]:
    """Mean (k,) and covariance (k, k) of points (n, k) of which a share of up to `share` may be planted.

    "Being Robust (in High Dimensions) Can Be Practical", ICML 2017, section 4.2: whitened Gaussian rows y have a
    fourth moment that no direction exceeds; where one does, the rows farthest out in it, by ``y' V y``, are
    dropped, and so on, until ``2 * share`` of the rows are. The last step may go past that: equal rows go together, and
    so do all rows that lie so far out that hardly any Gaussian row would. Never do more than half go. As in SPECTRE's
    code, with these simplifications: rows go in ten batches of equal size and not beyond a tail bound; V comes from a
    few power iterations; and the fourth moment may also be as large as chance makes it with so many directions. The
    third value is the number of rows dropped. Raises nothing: rows that span no volume give a singular covariance.
    """
    rows, width = points.shape
    share = min(share, 0.5)
    limit = int(min(2 * share, 0.5) * rows)
    batch = max(1, math.ceil(limit / _ROUNDS))
    kept = np.ones(rows, dtype=np.bool_)
    direction: Floats | None = None
    while (dropped := rows - int(kept.sum())) < limit:
        white = whitened(points[kept])
        outliers = _far_out(white)
        if not outliers.any():
            direction, excess = _widest(white, direction)
            if excess <= _allowed(share, len(white), width):
                break
            along = ((white @ direction) * white).sum(axis=1)
            outliers = np.abs(along - np.median(along))
            outliers = outliers >= np.sort(outliers)[-min(batch, limit - dropped)]
        if dropped + int(outliers.sum()) > rows // 2:  # equal rows go together, or not at all
            break
        kept[np.flatnonzero(kept)[outliers]] = False
    mean = points[kept].mean(axis=0)
    centered = points[kept] - mean
    return mean, centered.T @ centered / len(centered), rows - int(kept.sum())


def whitened(points: Floats) -> Floats:
    """(n, k) the points with mean 0 and the identity as covariance."""
    centered = points - points.mean(axis=0)
    white: Floats = centered @ inverse_root(centered.T @ centered / len(centered))
    return white


def inverse_root(covariance: Floats, floor: float = 1e-6) -> Floats:
    """The symmetric inverse square root of a covariance (k, k), eigenvalues below `floor` times the largest raised."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors / np.sqrt(np.maximum(values, floor * max(values[-1], floor)))) @ vectors.T
    return root


def _far_out(white: Floats) -> NDArray[np.bool_]:
    """Rows so far from the mean that hardly any Gaussian row would be (the filter's first step)."""
    rows, width = white.shape
    outliers: NDArray[np.bool_] = (white**2).sum(axis=1) >= _CONSTANT * width * math.log(rows / _CONFIDENCE)
    return outliers


def _widest(white: Floats, start: Floats | None) -> tuple[Floats, float]:
    """The symmetric V (k, k) of norm 1 for which ``y' V y`` varies most about tr V, and that variance; 2 if Gaussian.

    Power iteration, from the V of the round before or from the one that weighs rows by their length.
    """
    quadratic = (white**2).sum(axis=1)
    steps = _FIRST_STEPS
    if start is not None:
        quadratic, steps = ((white @ start) * white).sum(axis=1), _LATER_STEPS
    trace = white.shape[1] if start is None else float(np.trace(start))
    for _ in range(steps):
        moved = (white * quadratic[:, np.newaxis]).T @ white / len(white)
        moved.flat[:: white.shape[1] + 1] -= trace
        size = float(np.linalg.norm(moved))
        if size == 0:
            return np.zeros_like(moved), 0.0
        direction = moved / size
        trace = float(np.trace(direction))
        quadratic = ((white @ direction) * white).sum(axis=1)
    return direction, float((quadratic**2).mean() - trace**2)


def _allowed(share: float, rows: int, width: int) -> float:
    """The largest fourth moment that is no sign of planted rows."""
    bound = 1 + _CONSTANT * share * math.log(1 / share) ** 2
    # The edge of the Marchenko-Pastur law: what the largest of so many directions reaches by chance.
    chance = 2 * (1 + math.sqrt(width * (width + 1) / 2 / rows)) ** 2
    return max(bound, chance)
