"""From raw clinical values to model inputs: limits, scale and missingness, learned from training rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.scaling import center_and_scale, to_normal, training_quantiles
from backdoor_core.contracts import Feature, GridView, InputSpec, SeriesView
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
    """With `center`, the unit of `standard` and `robust` scaling; under `quantile` mean and standard deviation."""
    indicators: bool
    outside: Literal["clip", "null"] = "clip"
    """What becomes of a value beyond `low` or `high`: that limit, or missing."""
    sentinel: float | None = None
    """What stands for a missing value, in scaled units; None for the median."""
    quantiles: NDArray[np.float64] | None = None
    """(Q, F) training quantiles where the scaling is `quantile`, lowest first."""

    @property
    def spec(self) -> InputSpec:
        """The shape of the transformed input."""
        blocks = 1 + self.indicators + (self.steps is not None)
        return InputSpec(features=self.features, blocks=blocks, steps=self.steps)

    def transform(self, view: GridView) -> NDArray[np.float32]:
        """(N, channels) of a table, (N, T, channels) of a series; see `InputSpec` for the order of the channels.

        First the outlier rule (`limited`): what it makes missing counts as missing everywhere. Then a missing value
        becomes the median; in a series, the last value before it, and the median where there is none (Che et al.
        2018, GRU-D, arXiv 1606.01865, section 2.2). Values are then scaled. With a sentinel nothing is carried
        forward: each hour without a value holds the sentinel. Indicators are 1.0 where a value was missing. Hours
        since the last measurement are divided by T.
        """
        # In float32 throughout: a series of a large cohort would not fit twice in double precision.
        view = self.limited(view)
        absent = np.isnan(view.values)
        if self.sentinel is None:
            scaled = self._scaled(self._filled(view))
        else:
            scaled = self._scaled(view.values)
            scaled[absent] = self.sentinel
        blocks: list[NDArray[Any]] = [scaled]
        if self.indicators:
            blocks.append(absent.astype(np.float32))
        if isinstance(view, SeriesView):
            blocks.append(view.hours_since_measured() / np.float32(view.values.shape[1]))
        return np.concatenate(blocks, axis=-1)

    def limited(self, view: GridView) -> GridView:
        """The view after the outlier rule alone: clipped to the limits, or what lies beyond them removed."""
        low, high = self.low.astype(np.float32), self.high.astype(np.float32)
        if self.outside == "null":
            beyond = (view.values < low) | (view.values > high)
            return view.with_values(np.where(beyond, np.float32(np.nan), view.values))
        return replace(view, values=np.clip(view.values, low, high))

    def unscaled(self, view: GridView) -> NDArray[np.float32]:
        """Clinical units after the outlier rule: the input of models that need no scaling.

        NaN where missing if the preprocessing shows what is missing (`indicators`), else filled as `transform` does.
        A sentinel is in scaled units and has no place here: `study.check_compatible` refuses it.
        """
        view = self.limited(view)
        return view.values if self.indicators else self._filled(view)

    def _filled(self, view: GridView) -> NDArray[np.float32]:
        """The values with the median for a missing one; in a series the last value before it, if there is one."""
        values = _carried_forward(view.values) if isinstance(view, SeriesView) else view.values
        return np.where(np.isnan(values), self.median.astype(np.float32), values)

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A new array of the same shape in scaled units; NaN stays NaN."""
        if self.quantiles is None:
            centered = values - self.center.astype(np.float32)
            return np.asarray(centered / self.scale.astype(np.float32), dtype=np.float32)
        scaled = np.empty_like(values)
        for j in range(values.shape[-1]):
            scaled[..., j] = to_normal(values[..., j], self.quantiles[:, j])
        return scaled

    def as_json(self) -> dict[str, Any]:
        """JSON-able content; infinite limits (no clipping) become null."""
        columns = {}
        for name in ("low", "high", "median", "center", "scale"):
            columns[name] = [float(x) if np.isfinite(x) else None for x in getattr(self, name)]
        return {
            "features": list(self.features),
            "steps": self.steps,
            "indicators": self.indicators,
            "outside": self.outside,
            "sentinel": self.sentinel,
            **columns,
            # One list a feature, as the other columns have one entry a feature.
            "quantiles": None if self.quantiles is None else self.quantiles.T.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`. Content without `outside`, `sentinel` or `quantiles` has their defaults."""
        arrays = {}
        for name, absent in (("low", -np.inf), ("high", np.inf), ("median", np.nan), ("center", 0.0), ("scale", 1.0)):
            arrays[name] = np.array([absent if x is None else x for x in content[name]], dtype=np.float64)
        quantiles = content.get("quantiles")
        return cls(
            features=tuple(content["features"]),
            steps=content["steps"],
            indicators=content["indicators"],
            outside=content.get("outside", "clip"),
            sentinel=content.get("sentinel"),
            quantiles=None if quantiles is None else np.array(quantiles, dtype=np.float64).T,
            **arrays,
        )


def fit_preprocessor(train: GridView, params: PreprocessParams) -> Preprocessor:
    """Learn limits, medians and scales from the rows of `train`; of a series, from all its hours together.

    The limits are the training quantiles (`winsorize`), the plausible range of each feature (`clip`, `null`), or
    none (`keep`). All else is taken after the outlier rule, so that it describes what the model sees. A feature
    that is never measured in `train` becomes a constant 0; one that never varies is only centered.
    """
    values = train.values.reshape(-1, train.values.shape[-1])
    constants, quantiles = [], []
    for j, feature in enumerate(train.features):
        measured, low, high = _seen(values[:, j], feature, params)
        median = float(np.median(measured)) if len(measured) else 0.0
        constants.append((low, high, median, *center_and_scale(measured, params.scaling)))
        if params.scaling == "quantile":
            quantiles.append(training_quantiles(measured, len(values)))
    low_, high_, median_, center, scale = np.array(constants, dtype=np.float64).reshape(-1, 5).T
    return Preprocessor(
        features=tuple(f.name for f in train.features),
        steps=train.values.shape[1] if isinstance(train, SeriesView) else None,
        low=low_,
        high=high_,
        median=median_,
        center=center,
        scale=scale,
        indicators=params.missing == "indicator",
        outside="null" if params.outliers == "null" else "clip",
        sentinel=params.sentinel if params.missing == "sentinel" else None,
        quantiles=np.array(quantiles).T if quantiles else None,
    )


def _seen(
    column: NDArray[np.float32], feature: Feature, params: PreprocessParams
) -> tuple[NDArray[np.float64], float, float]:
    """The measured values (M,) of one feature after the outlier rule, and the rule's limits."""
    low, high = -np.inf, np.inf
    if params.outliers in ("clip", "null"):
        low, high = feature.low, feature.high
    if params.outliers == "null":
        # In float32, as `limited` compares: 0.1 in float32 is not below a limit of 0.1.
        column = column[(column >= np.float32(low)) & (column <= np.float32(high))]
    measured = column[~np.isnan(column)].astype(np.float64)
    if params.outliers == "winsorize" and len(measured):
        low, high = np.quantile(measured, [params.lower, params.upper])
    return np.clip(measured, low, high), float(low), float(high)


def _carried_forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T, F) with each missing hour given the last value before it; NaN before the first one."""
    hour = np.arange(values.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, hour), axis=1)
    return np.take_along_axis(values, last, axis=1)
