from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options

from .activations import Floats, finite_activations, one_thread, principal_directions
from .robust import concentrate
from .scan_model import decompose, posterior_mean
from .two_means import two_means
from .unimodality import CRITICAL, LEAST_GROUP, dip, window

_LEAST_ROWS = 10
_STARTS = 5


class ScanOptions(Options):
    """Options of SCAn."""

    trusted: bool = Field(False, description="learn the shared variation from the trusted stays, as the paper does")
    support: float = Field(
        0.75, ge=0.5, le=1, description="without trusted stays: the central share of each label to learn it from"
    )


@dataclass(frozen=True)
class _Split:
    """One label's rows parted in two, in units of the shared variation."""

    minority: NDArray[np.bool_]
    """(n,)"""
    scores: Floats
    """(n,) log likelihood ratio of the minority group to a single group."""
    ratio: float
    """Twice the log likelihood ratio of two groups to one, over the number of rows."""
    statistic: float
    """sqrt of rows times the dip beside the minority; 0 where it is too small to test."""


class Scan(Detector):
    """Whether a training label is two groups rather than one, given the variation that labels share (Tang et al. 2021).

    "Demon in the Variant: Statistical Analysis of DNNs for Robust Backdoor Contamination Detection", USENIX Security
    2021, section 5. Activations are a label's mean plus variation that is the same in all labels; its covariance is
    found by expectation and maximization. In units of it each label is split in two groups of least variance
    (2-means, which is the paper's discriminant for equal covariances). The score of a row is its log likelihood ratio
    of the label's minority group to a single group, so it is high for the minority of the label whose split
    explains most. ``likelihood_ratio`` in the details is the paper's statistic of the label, per row.

    Two departures. The paper learns the shared variation from clean stays; here, unless `trusted` is set, the
    central 75% of each label stand in for them (`robust.concentrate`), scaled to a chi-squared median. And the
    paper's rule for a label, the deviation of its statistic from the median over labels, is 0.67 for each of two labels
    whatever they hold. Here a label is contaminated where the null "its rows are one group" falls: along the line
    between the groups (each row's own part in it left out), the rows of the minority and as many next to them must
    have a density of one peak (dip test at level 0.01, `unimodality`). Skewed and long-tailed groups have one peak.
    Then the minority is flagged: the smaller group, or with `trusted` the one to which fewer of them belong.

    A label of fewer than 10 rows, or of equal rows, is left out, and a minority of fewer than 8 is never flagged
    (score 0, no flag).
    """

    name = "scan"
    Options = ScanOptions

    def __init__(self, options: ScanOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.trusted:
            self.requires = self.requires | {"trusted"}

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds each label's statistics or why it was left out."""
        options: ScanOptions = self.options
        activations, labels = finite_activations(case, self.name).astype(np.float64), case.labels
        clean: tuple[Floats, NDArray[np.integer[Any]]] | None = None
        if options.trusted:
            clean = case.embed(case.trusted.view).astype(np.float64), case.trusted.labels
        seed = int(case.rng.integers(2**31 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        with one_thread():
            model = _Model.of(activations, labels, clean, options.support)
            for label in np.unique(labels):
                rows = np.flatnonzero(labels == label)
                facts: dict[str, Any] = {"rows": len(rows)}
                details[str(label)] = facts
                if len(rows) < _LEAST_ROWS or not np.ptp(activations[rows], axis=0).any():
                    few = len(rows) < _LEAST_ROWS
                    facts["skipped"] = f"fewer than {_LEAST_ROWS} rows" if few else "all activations are equal"
                    continue
                split = model.split(activations[rows], clean[0][clean[1] == label] if clean else None, seed)
                scores[rows] = split.scores
                contaminated = split.statistic > CRITICAL
                flagged[rows] = split.minority & contaminated
                facts |= {"minority": int(split.minority.sum()), "likelihood_ratio": split.ratio}
                facts |= {"dip_statistic": split.statistic, "critical": CRITICAL, "flagged": int(flagged[rows].sum())}
        return Detection(scores, flagged, {"labels": details})


@dataclass(frozen=True)
class _Model:
    """Activations in units of the shared variation."""

    center: Floats
    """(D,)"""
    whitening: Floats
    """(D, r)"""
    between: Floats
    """(r, r) covariance of the labels' means; that of the variation is the identity."""

    @classmethod
    def of(
        cls,
        activations: Floats,
        labels: NDArray[np.integer[Any]],
        clean: tuple[Floats, NDArray[np.integer[Any]]] | None,
        support: float,
    ) -> "_Model":
        """Learn the variation from the clean rows, or from the central rows of each label."""
        axes = principal_directions(activations).axes
        if axes.shape[1] == 0:
            return cls(activations.mean(axis=0), axes, np.zeros((0, 0)))
        known, known_labels = clean or _central(activations, labels, support)
        model = decompose(known @ axes, known_labels)
        values, vectors = np.linalg.eigh(model.within)
        if values.max(initial=0) <= 0:  # one clean row a label, or equal ones: no variation to measure by
            return cls(axes @ model.center, axes, model.between)
        root = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-9))
        return cls(axes @ model.center, axes @ root, root.T @ model.between @ root)

    def split(self, activations: Floats, clean: Floats | None, seed: int) -> _Split:
        """Part the rows (n, D) of one label in two and compare with a single group."""
        points = (activations - self.center) @ self.whitening
        groups = two_means(points, _widest(points), seed, random_starts=0).astype(np.bool_)
        if groups.all() or not groups.any():  # the label does not vary where the labels do: it is one group
            return _Split(np.zeros(len(points), dtype=np.bool_), np.zeros(len(points)), 0.0, 0.0)
        sides = np.stack([points[~groups].mean(axis=0), points[groups].mean(axis=0)])
        minority = groups if 2 * int(groups.sum()) <= len(groups) else ~groups
        if clean is not None and len(clean):
            trusted = (clean - self.center) @ self.whitening
            nearer = ((trusted[:, np.newaxis] - sides) ** 2).sum(axis=2).argmin(axis=1).astype(np.bool_)
            shares = nearer.sum() / groups.sum(), (~nearer).sum() / (~groups).sum()
            minority = minority if shares[0] == shares[1] else groups if shares[0] < shares[1] else ~groups
        own, other = points[minority].mean(axis=0), points[~minority].mean(axis=0)
        single = posterior_mean(points.mean(axis=0), len(points), self.between, np.eye(points.shape[1]))
        one, small, large = (((points - mean) ** 2).sum(axis=1) for mean in (single, own, other))
        ratio = float((one - np.where(minority, small, large)).mean())
        return _Split(minority, (one - small) / 2, ratio, _statistic(points, minority))


def _central(
    activations: Floats, labels: NDArray[np.integer[Any]], support: float
) -> tuple[Floats, NDArray[np.integer[Any]]]:
    """The central rows of each label, spread about their mean as all of its rows would be, and their labels."""
    found: list[Floats] = []
    names: list[NDArray[np.integer[Any]]] = []
    for label in np.unique(labels):
        own = activations[labels == label]
        if len(own) < 2:
            continue
        center = concentrate(own, support)
        central = own[center.rows]
        mean = central.mean(axis=0)
        found.append(mean + (central - mean) * center.widening)
        names.append(np.full(len(central), label))
    if not found:
        return activations, labels
    return np.concatenate(found), np.concatenate(names)


def _widest(points: Floats) -> Floats:
    """(n, m) the rows along the directions in which they vary most, of which some cut starts 2-means."""
    return principal_directions(points).project(_STARTS)


def _statistic(points: Floats, minority: NDArray[np.bool_]) -> float:
    """sqrt of rows times the dip of the points (n, r) beside the minority group."""
    smaller = int(min(minority.sum(), (~minority).sum()))
    if smaller < LEAST_GROUP:
        return 0.0
    small = minority if int(minority.sum()) == smaller else ~minority
    means, counts = (points[small].mean(axis=0), points[~small].mean(axis=0)), (smaller, len(points) - smaller)
    # With as many dimensions as rows, any two groups lie apart along the line between their means, since each row
    # draws the mean of its group towards itself. So every row is placed by the means without it.
    lengths = (points**2).sum(axis=1)
    sides = []
    for group, mean, count in zip((small, ~small), means, counts, strict=True):
        along, squared = points @ mean, float(mean @ mean)
        without = (count * along - lengths) / (count - 1)
        apart = (count**2 * squared - 2 * count * along + lengths) / (count - 1) ** 2
        sides.append(np.where(group, without - apart / 2, along - squared / 2))
    beside = window(sides[0] - sides[1], smaller)
    return float(np.sqrt(len(beside)) * dip(beside))
