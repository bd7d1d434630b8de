"""From raw clinical values to model inputs: limits, scale and missingness, learned from training rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import InputSpec, SeriesView, View
from backdoor_core.params import PreprocessParams


@dataclass(frozen=True)
class Preprocessor:
    """Per-feature constants, all (F,) float64. `transform` applies them; nothing is learned from what it is given."""

    features: tuple[str, ...]
    steps: int | None
    """Hours of a series; None for a table."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    indicators: bool

    @property
    def spec(self) -> InputSpec:
        """The shape of the transformed input."""
        blocks = 1 + self.indicators + (self.steps is not None)
        return InputSpec(features=self.features, blocks=blocks, steps=self.steps)

    def transform(self, view: View) -> NDArray[np.float32]:
        """(N, channels) of a table, (N, T, channels) of a series; see `InputSpec` for the order of the channels.

        Values are clipped, then standardized. A missing value becomes the median; in a series, the last value
        before it, and the median where there is none (Che et al. 2018, GRU-D, arXiv 1606.01865, section 2.2).
        Indicators are 1.0 where a value was missing. Hours since the last measurement are divided by T.
        """
        absent = np.isnan(view.values)
        # In float32 throughout: a series of a large cohort would not fit twice in double precision.
        values = _carried_forward(view.values) if isinstance(view, SeriesView) else view.values
        values = np.clip(values, self.low.astype(np.float32), self.high.astype(np.float32))
        values = np.where(np.isnan(values), self.median.astype(np.float32), values)
        blocks: list[NDArray[Any]] = [(values - self.center.astype(np.float32)) / self.scale.astype(np.float32)]
        if self.indicators:
            blocks.append(absent.astype(np.float32))
        if isinstance(view, SeriesView):
            blocks.append(view.hours_since_measured() / np.float32(view.values.shape[1]))
        return np.concatenate(blocks, axis=-1)

    def unscaled(self, view: View) -> NDArray[np.float32]:
        """The clipped values in clinical units, NaN where missing: the input of models that need no scaling."""
        return np.clip(view.values, self.low.astype(np.float32), self.high.astype(np.float32))

    def as_json(self) -> dict[str, Any]:
        """JSON-able content; infinite limits (no clipping) become null."""
        columns = {}
        for name in ("low", "high", "median", "center", "scale"):
            columns[name] = [float(x) if np.isfinite(x) else None for x in getattr(self, name)]
        return {"features": list(self.features), "steps": self.steps, "indicators": self.indicators, **columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        arrays = {}
        for name, absent in (("low", -np.inf), ("high", np.inf), ("median", np.nan), ("center", 0.0), ("scale", 1.0)):
            arrays[name] = np.array([absent if x is None else x for x in content[name]], dtype=np.float64)
        names = tuple(content["features"])
        return cls(features=names, steps=content["steps"], indicators=content["indicators"], **arrays)


def fit_preprocessor(train: View, params: PreprocessParams) -> Preprocessor:
    """Learn limits, medians and scales from the rows of `train`; of a series, from all its hours together.

    Mean and standard deviation are taken after clipping, so that they describe what the model sees. A
    feature that is never measured in `train` becomes a constant 0; one that never varies is only centered.
    """
    values = train.values.reshape(-1, train.values.shape[-1])
    constants = [_constants(values[:, j].astype(np.float64), params) for j in range(values.shape[1])]
    low, high, median, center, scale = np.array(constants).reshape(-1, 5).T
    return Preprocessor(
        features=tuple(f.name for f in train.features),
        steps=train.values.shape[1] if isinstance(train, SeriesView) else None,
        low=low,
        high=high,
        median=median,
        center=center,
        scale=scale,
        indicators=params.missing == "indicator",
    )


def _constants(column: NDArray[np.float64], params: PreprocessParams) -> tuple[float, float, float, float, float]:
    """Lower and upper limit, median, mean and standard deviation of the measured values of one feature."""
    measured = column[~np.isnan(column)]
    if not len(measured):
        return -np.inf, np.inf, 0.0, 0.0, 1.0
    low, high = -np.inf, np.inf
    if params.outliers == "winsorize":
        low, high = np.quantile(measured, [params.lower, params.upper])
        measured = np.clip(measured, low, high)
    center, spread = measured.mean(), measured.std()
    # A spread that is rounding error alone would blow the constant up to noise.
    scale = spread if spread > 1e-6 * max(abs(center), 1e-6) else 1.0
    return float(low), float(high), float(np.median(measured)), float(center), float(scale)


def _carried_forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T, F) with each missing hour given the last value before it; NaN before the first one."""
    hour = np.arange(values.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, hour), axis=1)
    return np.take_along_axis(values, last, axis=1)
