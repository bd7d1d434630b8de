"""From raw clinical values to model inputs: limits, scale and missingness, learned from training rows only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import InputSpec, View
from backdoor_core.params import PreprocessParams


@dataclass(frozen=True)
class Preprocessor:
    """Per-feature constants, all (F,) float64. `transform` applies them; nothing is learned from what it is given."""

    features: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    indicators: bool

    @property
    def spec(self) -> InputSpec:
        """The channels of the transformed input."""
        missing = tuple(f"{name}.missing" for name in self.features) if self.indicators else ()
        return InputSpec(channels=self.features + missing)

    def transform(self, view: View) -> NDArray[np.float32]:
        """(N, channels): clipped, median-imputed, standardized values, then 1.0 where a value was missing."""
        absent = np.isnan(view.values)
        values = np.clip(view.values.astype(np.float64), self.low, self.high)
        values = np.where(absent, self.median, values)
        scaled = ((values - self.center) / self.scale).astype(np.float32)
        return np.concatenate([scaled, absent.astype(np.float32)], axis=-1) if self.indicators else scaled

    def as_json(self) -> dict[str, Any]:
        """JSON-able content; infinite limits (no clipping) become null."""
        columns = {}
        for name in ("low", "high", "median", "center", "scale"):
            columns[name] = [float(x) if np.isfinite(x) else None for x in getattr(self, name)]
        return {"features": list(self.features), "indicators": self.indicators, **columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        arrays = {}
        for name, absent in (("low", -np.inf), ("high", np.inf), ("median", np.nan), ("center", 0.0), ("scale", 1.0)):
            arrays[name] = np.array([absent if x is None else x for x in content[name]], dtype=np.float64)
        return cls(features=tuple(content["features"]), indicators=content["indicators"], **arrays)


def fit_preprocessor(train: View, params: PreprocessParams) -> Preprocessor:
    """Learn limits, medians and scales from the rows of `train`.

    Mean and standard deviation are taken after clipping, so that they describe what the model sees. A
    feature that is never measured in `train` becomes a constant 0; one that never varies is only centered.
    """
    values = train.values.astype(np.float64)
    features = values.shape[-1]
    with warnings.catch_warnings():
        # numpy warns of columns without any value; they are given constants below.
        warnings.simplefilter("ignore", RuntimeWarning)
        if params.outliers == "winsorize":
            low, high = np.nanquantile(values, [params.lower, params.upper], axis=0)
        else:
            low, high = np.full(features, -np.inf), np.full(features, np.inf)
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        clipped = np.clip(values, low, high)
        median = np.nan_to_num(np.nanmedian(clipped, axis=0), nan=0.0)
        center = np.nan_to_num(np.nanmean(clipped, axis=0), nan=0.0)
        spread = np.nan_to_num(np.nanstd(clipped, axis=0), nan=0.0)
    return Preprocessor(
        features=tuple(f.name for f in train.features),
        low=low,
        high=high,
        median=median,
        center=center,
        # A spread that is rounding error alone would blow the constant up to noise.
        scale=np.where(spread > 1e-9 * np.maximum(np.abs(center), 1.0), spread, 1.0),
        indicators=params.missing == "indicator",
    )
