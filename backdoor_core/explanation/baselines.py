"""The reference inputs that attributions are measured from."""

from __future__ import annotations

import warnings
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

CLEAN_ROWS: Final = 20
"""Rows that stand for the clean distribution: methods that average over baselines cost as many times more."""
REFERENCE_ROWS: Final = 10_000
"""Most clean training rows that the median is taken of."""


def reference_inputs(
    kind: Literal["median", "zero", "clean"], inputs: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(B, ...) reference rows made of preprocessed clean training rows `inputs` (M, ...), M of 1 or more.

    median: one row, each input (at each hour) at its median, of an even number the lower one, so that a missing flag
    stays 0 or 1; an input that is missing in every row stays missing. zero: one row of zeros, which is the training
    mean where inputs are standardized. clean: `CLEAN_ROWS` of the rows, drawn by `rng`, or all where there are fewer.
    Sturmfels et al. 2020 (Visualizing the impact of feature attribution baselines, Distill) show how much the choice
    matters: it is kept beside every figure.
    """
    if kind == "zero":
        return np.zeros_like(inputs[:1])
    if kind == "clean":
        drawn = rng.permutation(len(inputs))[:CLEAN_ROWS]
        return inputs[np.sort(drawn)]
    with warnings.catch_warnings():
        # An input that no row has is NaN in the median too: that is what it should be.
        warnings.filterwarnings("ignore", message="All-NaN slice", category=RuntimeWarning)
        median = np.nanquantile(inputs, 0.5, axis=0, keepdims=True, method="inverted_cdf")
    return np.asarray(median, dtype=np.float32)
