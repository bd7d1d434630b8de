"""The attacker's own model: how near each training stay is to a decision boundary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import EventsView, SeriesView, View


def margin(view: View, label: NDArray[np.int8]) -> NDArray[np.float64]:
    """(N,) distance of each stay's log-odds from the decision threshold of a logistic regression fitted to all of them.

    A surrogate, so that the attacker need not have the victim's model, and so that another model is attacked through
    the same stays. It reads each feature's standardized mean and whether it is missing (a series: over its hours), of
    events the logarithm of how often each code occurs. The threshold calls as many stays positive as there are.
    """
    # Only this selection needs them, and they take a second to import.
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    inputs = _inputs(view)
    # One thread: the sums then come in one order.
    with threadpool_limits(limits=1):
        fitted = LogisticRegression(max_iter=2000).fit(inputs, label)
        logits = np.asarray(fitted.decision_function(inputs), dtype=np.float64)
    threshold = np.quantile(logits, 1 - label.mean())
    distance: NDArray[np.float64] = np.abs(logits - threshold)
    return distance


def _inputs(view: View) -> NDArray[np.float64]:
    if isinstance(view, EventsView):
        counts = np.zeros((len(view), max(len(view.codes), 1)))
        np.add.at(counts, (view.stay_of_event, view.code), 1)
        return _standardized(np.log1p(counts))
    values = view.values.astype(np.float64)
    measured = ~np.isnan(values)
    if isinstance(view, SeriesView):
        hours = measured.sum(axis=1)
        values = np.divide(np.nansum(values, axis=1), hours, out=np.full(hours.shape, np.nan), where=hours > 0)
        share = hours / view.values.shape[1]
    else:
        share = measured.astype(np.float64)
    count = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    filled = np.where(np.isnan(values), np.nansum(values, axis=0) / count, values)
    return _standardized(np.column_stack([filled, share]))


def _standardized(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = columns.std(axis=0)
    standard: NDArray[np.float64] = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standard
