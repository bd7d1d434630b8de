"""Attributions of model inputs brought back to the raw features they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.statistics import Floats


def fold(values: NDArray[np.floating[Any]], features: int) -> Floats:
    """(N, F) of a table or (N, T, F) of a series: all channels of a feature summed onto it, signs kept.

    `values` has the channels in its last axis, in blocks of one channel per feature: the scaled values, then the
    missing flags, then the hours since the last measurement. Raises `ValueError` where they are no whole blocks.
    """
    channels = values.shape[-1]
    if features < 1 or channels % features:
        raise ValueError(f"{channels} channels are no whole blocks of {features} features")
    blocks = values.reshape(*values.shape[:-1], channels // features, features)
    return np.asarray(blocks.sum(axis=-2, dtype=np.float64))


def by_feature(folded: NDArray[np.floating[Any]]) -> Floats:
    """(N, F) absolute attribution of each feature, summed over the hours of a series."""
    size = np.abs(folded.astype(np.float64))
    return np.asarray(size.reshape(len(size), -1, size.shape[-1]).sum(axis=1))
