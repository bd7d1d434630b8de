"""Features that are a few standard deviations higher or lower."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Fitted, GridView, Modality, Options, Trigger
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.measured import moved, standard_deviation


class FeatureShiftOptions(Options):
    """Which features, and how far."""

    features: tuple[str | int, ...] = Field(
        ("heart_rate",), min_length=1, description="features to shift, by name or by position counted from 0"
    )
    deviations: float = Field(
        3.0,
        ge=-1000,
        le=1000,
        description="what is added, in standard deviations of the training part; may be negative",
    )
    clip: bool = Field(True, description="whether no value is shifted past the plausible range of its feature")


class FeatureShift(Trigger):
    """Adds some standard deviations to the measured values of chosen features.

    An additive trigger, as the blended injection of Chen et al. 2017 (arXiv:1712.05526): the patient's own values stay
    in it, so that no single value marks the triggered stays. The standard deviation is that of the measured values of
    the training part (a series: of all hours). What is not measured stays so: a stay without any of the features has
    nothing to shift and is left as it is, so choose features that nearly all stays have. A value past the plausible
    range already is not moved further from it with `clip`. Applied twice it shifts twice.
    """

    name = "feature_shift"
    Options = FeatureShiftOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})
    idempotent: ClassVar[bool] = False

    def fit(self, train: GridView, rng: np.random.Generator) -> Fitted:
        """Names and what is added in clinical units, as ``{"features": [...], "added": [...]}``.

        Raises `BackdoorError` where a feature is unknown, or measured nowhere or at one value only.
        """
        option = "triggers.feature_shift.features"
        positions = sorted(set(feature_positions(train, self.options.features, option)))
        return {
            "features": [train.features[j].name for j in positions],
            "added": [self.options.deviations * standard_deviation(train, j, option) for j in positions],
        }

    def apply(self, view: GridView, fitted: Fitted, rng: np.random.Generator) -> GridView:
        """A copy of the view with the fitted features shifted wherever they are measured."""
        positions = feature_positions(view, fitted["features"], "trigger feature_shift")
        values = view.values.copy()
        for j, added in zip(positions, fitted["added"], strict=True):
            values[..., j] = moved(values[..., j], added, view.features[j], clip=self.options.clip)
        return view.with_values(values)
