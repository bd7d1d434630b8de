"""What an explainer is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.views import Floats, Integers

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ExplainCase:
    """Rows whose logit is to be attributed to their inputs, and the model that gives it.

    Inputs are preprocessed: (N, channels) of a table, (N, T, channels) of a series. The channels are blocks of one
    channel per feature, in the order of the features.
    """

    inputs: NDArray[np.float32]
    baselines: NDArray[np.float32]
    """(B, ...) of the shape of a row: one reference input, or a sample of the clean distribution."""
    predict: Callable[[NDArray[np.float32]], Floats]
    """(M,) log-odds of the explained label for any inputs; for every model."""
    network: nn.Module | None
    """The network in evaluation mode, whose ``forward`` gives the log-odds of label 1; None for other models."""
    sign: float
    """1 where the explained label is 1, else -1: the explained output is ``sign * network(x)``."""
    features: int
    """F: channel c belongs to feature c % F."""
    steps: int
    """Points along the path from the baseline, for methods that integrate."""
    rows_at_once: int
    """How many expanded rows (row x step, row x ablated group) may be in memory at a time."""
    rng: np.random.Generator

    @property
    def feature_of_channel(self) -> Integers:
        """(channels,) the feature that each channel belongs to."""
        return np.arange(self.inputs.shape[-1]) % self.features


@dataclass(frozen=True)
class Attribution:
    """An explainer's answer."""

    values: NDArray[np.float32]
    """The shape of the inputs; summed over a row they are the output less the baseline's, where the method says so."""
    delta: Floats | None = None
    """(N,) how far the sum of each row is from that difference, for methods that promise it; else None."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able facts worth reading."""
