from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector

from .activations import Directions, Floats, finite_activations, one_thread, principal_directions
from .budget import BudgetOptions, budget_needs, budgeted_share, removed_rows
from .filtering import filtered_moments, inverse_root

_TRIED = 10
_ROWS_PER_DIMENSION = 4


class SpectreOptions(BudgetOptions):
    """Options of SPECTRE. Directions and alpha are the paper's."""

    dimensions: int = Field(100, ge=1, description="most principal directions to use; up to ten numbers are tried")
    alpha: float = Field(4.0, ge=0, description="0 weighs all directions alike, more the widest alone")
    reference: int = Field(
        5000, ge=100, description="rows of each label that the robust covariance is estimated from, at most; random"
    )


class Spectre(Detector):
    """Quantum entropy score of activations whitened by a robust covariance, per training label (Hayase et al. 2021).

    "SPECTRE: Defending Against Backdoor Attacks Using Robust Statistics", ICML 2021, algorithms 1 to 3. The first k
    principal components of a label are whitened by mean and covariance of its clean rows, as a filter finds them
    (`filtering.filtered_moments`, a simplification of the paper's). In what is left the poison is wide, and row h
    scores ``h' Q h``, Q = exp(alpha (S - I) / (|S| - 1)) of trace 1, S the covariance of all whitened rows. k is one
    of ten squared steps from 1 to 100, the one whose removal leaves the rows that make the others look widest (for
    k = 1 the score is that of spectral signatures). At most one dimension for every four rows is used.

    As in spectral signatures, ``ceil(1.5 * budget * N)`` rows are flagged in *each* label, at most half of it, poison
    or none, ties going to the earlier rows: the paper knows the poisoned label, and its code has no test for it. With
    `oracle` the budget is the true share; where that is 0 nothing is flagged, and `budget` is what scores are made
    with. Of a label of more rows than `reference`, the covariance is that of random ones. A label of equal rows, or
    of one, is left out (score 0, no flag).
    """

    name = "spectre"
    Options = SpectreOptions

    def __init__(self, options: SpectreOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = self.requires | budget_needs(options)

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` tells for each label the dimensions tried and taken, or what was not."""
        options: SpectreOptions = self.options
        activations, labels = finite_activations(case, self.name), case.labels
        share = budgeted_share(case, options)
        budget = removed_rows(share, len(labels))
        # Told that nothing is poisoned, as in null runs, it scores by the budget: a filter that expects no planted row
        # is another method, whose scores say nothing about those of a poisoned run.
        assumed = share or options.budget
        seed = int(case.rng.integers(2**63 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            facts: dict[str, Any] = {"rows": len(rows)}
            details[str(label)] = facts
            with one_thread():
                components = _components(principal_directions(activations, rows), options.dimensions)
                if components.shape[1] == 0:
                    facts["skipped"] = "all activations are equal"
                    continue
                reference = _reference(len(rows), options.reference, seed)
                removed = min(budget, len(rows) // 2)
                suspected = min(removed_rows(assumed, len(labels)), len(rows) // 2)
                planted = assumed * len(labels) / len(rows)
                scores[rows], found = _label_scores(components, reference, suspected, planted, options.alpha)
            flagged[rows[np.argsort(-scores[rows], kind="stable")[:removed]]] = True
            facts |= {"flagged": removed, "reference": len(reference)} | found
        return Detection(scores, flagged, {"budget_rows": budget, "labels": details})


def _components(directions: Directions, most: int) -> Floats:
    """(n, K) principal components of n rows, scaled to unit variance; K is 0 where all rows are equal."""
    width = min(most, directions.rank, max(1, len(directions.rows) // _ROWS_PER_DIMENSION))
    components = directions.project(width)
    components /= np.sqrt(directions.variances[:width])
    return components


def _reference(rows: int, most: int, seed: int) -> NDArray[np.intp]:
    """Positions of the rows that the covariance is estimated from."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _label_scores(
    components: Floats, reference: NDArray[np.intp], removed: int, planted: float, alpha: float
) -> tuple[Floats, dict[str, Any]]:
    """(n,) scores of components (n, K) with the best number of dimensions, and the facts about it."""
    best, best_excess, facts = np.zeros(len(components)), -np.inf, dict[str, Any]()
    tried = sorted({min(round(step**2), components.shape[1]) for step in np.linspace(1, 10, _TRIED)})
    for width in tried:
        used = components[:, :width]
        if width == 1:
            scores, dropped = used[:, 0] ** 2, 0
        else:
            mean, covariance, dropped = filtered_moments(used[reference], planted) if planted else _moments(used)
            white = (used - mean) @ inverse_root(covariance)
            scores = ((white @ entropy_weights(_moments(white)[1], alpha)) * white).sum(axis=1)
        excess = _excess(components, scores, removed, alpha)
        if excess > best_excess:
            best, best_excess = scores, excess
            facts = {"dimensions": width, "dropped_by_the_filter": dropped, "excess": excess}
    return best, facts | {"tried": tried}


def entropy_weights(covariance: Floats, alpha: float) -> Floats:
    """(k, k) the weights Q of the quantum entropy score, of trace 1, for the covariance of the whitened rows."""
    values, vectors = np.linalg.eigh(covariance)
    width = values[-1] - 1
    # Nowhere wider than the clean rows: no direction stands out, all weigh the same.
    exponents = alpha * (values - values[-1]) / width if width > 1e-9 else np.zeros_like(values)
    weights = np.exp(exponents)
    entropy: Floats = (vectors * (weights / weights.sum())) @ vectors.T
    return entropy


def _excess(components: Floats, scores: Floats, removed: int, alpha: float) -> float:
    """How wide all rows (n, K) look to those that are left after removing the highest scores; 1 if no wider.

    The components have the identity as covariance. The covariance of what is left is floored, since a direction
    that only the removed rows have is infinitely wide.
    """
    kept = components[np.argsort(-scores, kind="stable")[removed:]]
    root = inverse_root(_moments(kept)[1])
    seen: Floats = root @ root
    return float((seen * entropy_weights(seen, alpha)).sum())


def _moments(points: Floats) -> tuple[Floats, Floats, int]:
    """Mean (k,) and covariance (k, k) of points (n, k), none of them dropped."""
    mean = points.mean(axis=0)
    return mean, (points - mean).T @ (points - mean) / len(points), 0
