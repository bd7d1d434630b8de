"""The plausibility card of a trigger: how odd triggered stays look beside the same stays as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.correlation import correlation_change
from backdoor_core.attack.missing_mixture import fit_missing_mixture
from backdoor_core.attack.row_distance import NEIGHBORS, Reference, flat_rows
from backdoor_core.attack.telling_apart import telling_apart
from backdoor_core.contracts import Booleans, GridView, Integers
from backdoor_core.statistics import (
    Estimate,
    bootstrap_estimate,
    cluster_bootstrap_weights,
    mean,
    over_replicates,
    ratio,
)

Numbers = NDArray[np.float64]
Json = dict[str, Any]
MOST_STAYS = 2000
"""More stays than this are drawn from: the intervals are narrow enough, and distances grow with the square."""
_NOTHING = Estimate(None, None, None).as_dict()


def plausibility_card(
    clean: GridView,
    triggered: GridView,
    train: GridView,
    patients: Integers,
    rng: np.random.Generator,
    replicates: int,
) -> Json:
    """How plausible triggered stays are, JSON-able; every interval is a bootstrap over patients.

    `clean` and `triggered` are the same N stays, `patients` (N,) whose they are, `train` the clean training part
    that they are held against. At most `MOST_STAYS` stays and, but for percentiles, as many training stays are
    used, drawn by `rng`; the card says how many. The figures, each null with a note where it does not exist:

    - ``touched``: cells that differ; the shares of them that were removed or newly filled, and the share outside
      the plausible range among those that hold a value (a removed value is not outside)
    - ``percentiles``: of the touched values among the feature's training values, ties at their middle
    - ``mahalanobis``, ``knn``: distance to the training rows in standard units, missing at the median, so that these
      two are blind to what is removed (`row_distance.Reference`); a series as means over its hours and shares of
      hours measured
    - ``missingness``: log-likelihood of the pattern of missing values (`missing_mixture`), hour by hour of a series
    - ``correlation``: change of the correlations between features, of a series between values of the same hour
    - ``classifier``: AUROC of trees told to tell triggered from clean (`telling_apart`); 0.5 is invisible
    """
    kept, known = _drawn(len(clean), rng), _drawn(len(train), rng)
    stays = len(clean)
    clean, triggered, patients, reference = clean.take(kept), triggered.take(kept), patients[kept], train.take(known)
    touched = changed_cells(clean, triggered)
    weights = _weights(patients, replicates, rng)
    names = [feature.name for feature in clean.features]
    flat = (-1, len(names))
    # One thread: the figures are then the same wherever they are made.
    with threadpool_limits(limits=1):
        return {
            "modality": clean.modality,
            "stays": len(clean),
            "stays_given": stays,
            "patients": len(np.unique(patients)),
            "reference_stays": len(reference),
            "touched": touched_figures(clean, triggered, touched, weights),
            "percentiles": touched_percentiles(triggered, touched, train),
            **distances(clean, triggered, reference, weights),
            "missingness": pattern_likelihood(clean, triggered, reference, weights, rng),
            "correlation": correlation_change(clean.values.reshape(flat), triggered.values.reshape(flat), names),
            "classifier": telling_apart(clean, triggered, touched, patients, weights, rng),
        }


def touched_figures(clean: GridView, triggered: GridView, touched: Booleans, weights: NDArray[Any]) -> Json:
    """How many cells differ, and the shares of them that were removed, newly filled or set to something implausible.

    `touched` has the shape of the values. Limits are compared in float32, as the values are.
    """
    low, high = (np.array([getattr(f, side) for f in clean.features], dtype=np.float32) for side in ("low", "high"))
    removed = touched & np.isnan(triggered.values)
    filled = touched & np.isnan(clean.values)
    outside = touched & ((triggered.values < low) | (triggered.values > high))
    cells, gone, new, odd = (_per_stay(mask) for mask in (touched, removed, filled, outside))
    return {
        "cells": int(cells.sum()),
        "stays": _share((cells > 0).astype(np.float64), np.ones(len(cells)), weights),
        "removed": _share(gone, cells, weights),
        "filled": _share(new, cells, weights),
        "outside": _share(odd, cells - gone, weights),
        "note": None if cells.any() else "the trigger changed nothing in these stays",
    }


def touched_percentiles(triggered: GridView, touched: Booleans, train: GridView) -> list[Json]:
    """Of each feature with touched values: the median and central 95% of their percentiles among training values.

    Removed values have none. A value equal to training values stands in the middle of them (0 to 100).
    """
    rows = []
    for j, feature in enumerate(triggered.features):
        values = triggered.values[..., j][touched[..., j]]
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        known = np.sort(train.values[..., j], axis=None)
        known = known[~np.isnan(known)]
        row: Json = {"feature": feature.name, "cells": len(values), "median": None, "p2_5": None, "p97_5": None}
        if len(known):
            below = np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
            spread = np.percentile(50 * below / len(known), [50, 2.5, 97.5])
            row |= dict(zip(("median", "p2_5", "p97_5"), spread.tolist(), strict=True))
        rows.append({**row, "note": None if len(known) else "never measured in the training part"})
    return rows


def distances(clean: GridView, triggered: GridView, reference: GridView, weights: NDArray[Any]) -> Json:
    """``mahalanobis`` and ``knn``: mean distance of the stays to the reference, as they were and triggered."""
    if not len(clean) or len(reference) < 2:
        note = f"{len(clean)} stays and {len(reference)} training stays: it takes 1 and 2"
        nothing = {**_contrast(np.zeros(0), np.zeros(0), weights), "note": note}
        return {"mahalanobis": nothing, "knn": {**nothing, "k": 0}}
    known = Reference.of(flat_rows(reference))
    before, after = flat_rows(clean), flat_rows(triggered)
    return {
        "mahalanobis": {**_contrast(known.mahalanobis(before), known.mahalanobis(after), weights), "note": None},
        "knn": {
            **_contrast(known.neighbors(before), known.neighbors(after), weights),
            "note": None,
            "k": min(NEIGHBORS, len(reference)),
        },
    }


def pattern_likelihood(
    clean: GridView, triggered: GridView, reference: GridView, weights: NDArray[Any], rng: np.random.Generator
) -> Json:
    """Mean log-likelihood, in nats a stay, of the patterns of missing values as they were and triggered."""
    if not len(clean) or not len(reference):
        note = f"{len(clean)} stays and {len(reference)} training stays: it takes 1 of each"
        return {**_contrast(np.zeros(0), np.zeros(0), weights), "components": 0, "note": note}
    patterns = [np.isnan(view.values).reshape(len(view), -1) for view in (reference, clean, triggered)]
    mixture = fit_missing_mixture(patterns[0], rng)
    before, after = mixture.log_likelihood(patterns[1]), mixture.log_likelihood(patterns[2])
    return {**_contrast(before, after, weights), "components": len(mixture.log_weight), "note": None}


def _drawn(rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if rows <= MOST_STAYS:
        return np.arange(rows)
    return np.sort(rng.choice(rows, size=MOST_STAYS, replace=False))


def _weights(patients: Integers, replicates: int, rng: np.random.Generator) -> NDArray[Any]:
    """(replicates, N); (0, N) where fewer than two patients leave nothing to resample, so no interval is made."""
    if len(np.unique(patients)) < 2:
        return np.ones((0, len(patients)))
    return cluster_bootstrap_weights(patients, replicates, rng)


def _per_stay(cells: Booleans) -> Numbers:
    return cells.reshape(len(cells), -1).sum(axis=1).astype(np.float64) if len(cells) else np.zeros(0)


def _share(part: Numbers, whole: Numbers, weights: NDArray[Any]) -> Json:
    """Weight of `part` (N,) over that of `whole` (N,) with an interval; null where there is none of `whole`."""
    if not len(whole):
        return dict(_NOTHING)
    sides = np.column_stack([part, whole])

    def figure(chunk: Numbers) -> Numbers:
        sums = chunk @ sides
        return ratio(sums[:, 0], sums[:, 1])

    return bootstrap_estimate(lambda w: over_replicates(figure, len(whole), w), weights).as_dict()


def _contrast(before: Numbers, after: Numbers, weights: NDArray[Any]) -> Json:
    """Means of both (N,) and of their difference, paired by stay; null without stays."""
    sides = {"clean": before, "triggered": after, "difference": after - before}
    if not len(before):
        return {name: dict(_NOTHING) for name in sides}

    def estimate(values: Numbers) -> Json:
        return bootstrap_estimate(lambda w: mean(values, w), weights).as_dict()

    return {name: estimate(values) for name, values in sides.items()}
