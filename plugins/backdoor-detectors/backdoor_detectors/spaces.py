"""Where a general outlier detector looks: at the model's activations or at what the model reads."""

from typing import Literal

import numpy as np

from backdoor_core.contracts import DetectionCase, Need

from .activations import Floats, finite_activations

Space = Literal["latent", "input"]


def space_needs(space: Space) -> frozenset[Need]:
    """What a detector uses of a case that looks at `points_of` and at the labels."""
    return frozenset({"labels", "embedding"}) if space == "latent" else frozenset({"labels", "inputs"})


def points_of(case: DetectionCase, space: Space, detector: str) -> Floats:
    """(N, D) float64, finite: the penultimate activations, or the preprocessed inputs.

    Of a series (N, T, C), the mean, the lowest and the highest of each channel over the hours: (N, 3 C). A missing
    value (a model without scaling reads NaN) takes the median of its column, an infinite one the column's finite
    extreme, and a column without any finite value is 0. Raises `BackdoorError` where activations are not finite.
    """
    if space == "latent":
        return finite_activations(case, detector).astype(np.float64)
    inputs = _filled(case.inputs.astype(np.float64).reshape(-1, case.inputs.shape[-1])).reshape(case.inputs.shape)
    if inputs.ndim == 2:
        return inputs
    return np.concatenate([inputs.mean(axis=1), inputs.min(axis=1), inputs.max(axis=1)], axis=1)


def _filled(values: Floats) -> Floats:
    """The columns of (n, C) without NaN and infinity."""
    for column in values.T:
        finite = np.isfinite(column)
        if finite.all():
            continue
        known = column[finite] if finite.any() else np.zeros(1)
        column[:] = np.nan_to_num(column, nan=float(np.median(known)), posinf=known.max(), neginf=known.min())
    return values
