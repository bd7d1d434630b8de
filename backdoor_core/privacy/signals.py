"""The signals of models of stays: what audits are given."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import EventsView, Floats, Integers, SeriesView, View


def label_loss(logits: Floats, labels: Integers) -> NDArray[np.float64]:
    """Binary cross-entropy of each record's label in nats, from log-odds of label 1 (..., N) and labels (N,)."""
    margin = np.where(labels == 1, 1.0, -1.0) * np.asarray(logits, dtype=np.float64)
    return np.asarray(np.logaddexp(0.0, -margin))


def raw_features(view: View) -> NDArray[np.float64]:
    """(N, C) what the blind control reads of stays: no model and no preprocessing has a part in it.

    A table's values, NaN where missing. Of a series each feature's mean over its hours and in how many it was
    measured. Of events the logarithm of one more than how often each code occurs.
    """
    if isinstance(view, EventsView):
        counts = np.zeros((len(view), max(len(view.codes), 1)))
        np.add.at(counts, (view.stay_of_event, view.code), 1)
        return np.asarray(np.log1p(counts))
    if isinstance(view, SeriesView):
        measured = (~np.isnan(view.values)).sum(axis=1)
        with warnings.catch_warnings():
            # A feature that was never measured has no mean: it is missing.
            warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
            means = np.nanmean(view.values.astype(np.float64), axis=1)
        return np.concatenate([means, measured], axis=1)
    return view.values.astype(np.float64)
