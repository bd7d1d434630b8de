"""Can a classifier that is told which rows are triggered tell them from clean ones?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from backdoor_core.attack.row_distance import flat_rows
from backdoor_core.contracts import Booleans, GridView, Integers, SeriesView
from backdoor_core.ranking import auroc
from backdoor_core.statistics import Estimate, bootstrap_estimate

Numbers = NDArray[np.float64]
FOLDS = 5
FEWEST_STAYS = 20
HOURLY = 4
"""Of how many features of a series, the most often touched ones, the classifier sees each hour."""


def telling_apart(
    clean: GridView,
    triggered: GridView,
    touched: Booleans,
    patients: Integers,
    weights: NDArray[Any],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUROC of gradient-boosted trees told to tell triggered from clean copies of the same N stays; JSON-able.

    A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): 0.5 means that no trace was found, 1
    that every triggered stay stands out. Scores are out of fold, all copies of a patient's stays in one of 5 folds.
    `control` is the same classifier on the clean copies alone, half of them called triggered by lot: what chance
    gives. `weights` (replicates, N) resample patients. `touched` has the shape of the values; see `trace_inputs`.
    Of fewer than 20 stays or 2 patients the figures are null.
    """
    distinct, patient = np.unique(patients, return_inverse=True)
    if len(clean) < FEWEST_STAYS or len(distinct) < 2:
        nothing = Estimate(None, None, None).as_dict()
        note = f"{len(clean)} stays of {len(distinct)} patients: it takes {FEWEST_STAYS} stays and 2 patients"
        return {"auroc": nothing, "control": nothing, "folds": 0, "note": note}
    folds = min(FOLDS, len(distinct))
    fold = (rng.permutation(len(distinct)) % folds)[patient]
    seed = int(rng.integers(2**31))
    by_lot = _half_by_lot(fold, rng)
    hourly = most_touched(touched)
    before, after = trace_inputs(clean, hourly), trace_inputs(triggered, hourly)
    truth = np.repeat([False, True], len(clean))
    scores = out_of_fold(np.concatenate([before, after]), truth, np.tile(fold, 2), seed)
    lot_scores = out_of_fold(before, by_lot, fold, seed)
    doubled = np.tile(weights, (1, 2))
    return {
        "auroc": bootstrap_estimate(lambda w: auroc(scores, truth, w), doubled).as_dict(),
        "control": bootstrap_estimate(lambda w: auroc(lot_scores, by_lot, w), weights).as_dict(),
        "folds": folds,
        "note": None,
    }


def trace_inputs(view: GridView, hourly: Integers) -> Numbers:
    """(N, D) what the classifier sees, NaN for missing.

    Of a table the raw values: the trees can split on missingness itself, so it needs no column. Of a series, per
    feature: mean, lowest and highest hour, the share of hours with a measurement and the mean of those hours; and
    every hour of the features `hourly`, so that a shape in time or a fixed set of hours can be found where it is put.
    """
    if not isinstance(view, SeriesView):
        return flat_rows(view)
    measured = ~np.isnan(view.values)
    hours = measured.sum(axis=1)
    lowest = np.where(measured, view.values, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(measured, view.values, -np.inf).max(axis=1, initial=-np.inf)
    when = np.einsum("ntf,t->nf", measured, np.arange(view.values.shape[1]))
    each_hour = view.values[:, :, hourly].reshape(len(view), view.values.shape[1] * len(hourly))
    extremes = [np.where(hours > 0, values, np.nan) for values in (lowest, highest, when / np.maximum(hours, 1))]
    return np.concatenate([flat_rows(view), *extremes, each_hour], axis=1).astype(np.float64)


def most_touched(touched: Booleans, most: int = HOURLY) -> NDArray[np.intp]:
    """Positions, in order, of the features with the most touched cells, at most `most`; the first of equal ones."""
    cells = touched.reshape(-1, touched.shape[-1]).sum(axis=0)
    ranked = np.argsort(-cells, kind="stable")[:most]
    return np.sort(ranked[cells[ranked] > 0])


def _half_by_lot(fold: Integers, rng: np.random.Generator) -> Booleans:
    """(N,) half of each fold, so that no fold's share gives away that of the others."""
    order = rng.permutation(len(fold))
    chosen = np.zeros(len(fold), dtype=np.bool_)
    for held in np.unique(fold):
        chosen[order[fold[order] == held][::2]] = True
    return chosen


def out_of_fold(inputs: Numbers, truth: Booleans, fold: Integers, seed: int) -> Numbers:
    """(N,) log-odds of each row by trees fitted to the rows of the other folds; 0 where those are of one class."""
    scores = np.zeros(len(inputs))
    for held in np.unique(fold):
        rest, rows = fold != held, fold == held
        if len(np.unique(truth[rest])) < 2:
            continue
        # scikit-learn fails on a feature without any value; a constant one is never asked for.
        kept = ~np.isnan(inputs[rest]).all(axis=0)
        if not kept.any():
            continue
        trees = HistGradientBoostingClassifier(
            learning_rate=0.2,
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            early_stopping=False,
            random_state=seed,
        )
        trees.fit(inputs[np.ix_(rest, kept)], truth[rest])
        scores[rows] = trees.decision_function(inputs[np.ix_(rows, kept)])
    return scores
