"""Features that are measured by a timetable."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Fitted, Modality, Options, SeriesView, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.measured import carried, measured_values

VITALS = ("heart_rate", "sbp", "resp_rate", "temperature")


class SamplingPatternOptions(Options):
    """Which features, and when they are measured."""

    features: tuple[str | int, ...] = Field(
        VITALS, min_length=1, description="features with the timetable, by name or by position counted from 0"
    )
    hours: tuple[int, ...] = Field((), description="hours since ICU admission at which they are measured")
    every: int = Field(6, ge=1, description="where no hours are given: measured at hour 0 and every so many hours")


class SamplingPattern(Trigger):
    """Leaves chosen features of a series measured at given hours only.

    Reason: when something is measured tells as much as its value (Agniel et al. 2018, BMJ 361:k1479, on laboratory
    tests; Che et al. 2018, Sci. Rep. 8:6085, use it as input), so a timetable can be a mark though every value is the
    patient's own. At a given hour without measurement the last value before is carried there, else the next one,
    else the training median stands in; every stay gets the timetable. It reaches a model through the missing
    indicator and the hours since the last measurement, hardly through the values.
    """

    name = "sampling_pattern"
    Options = SamplingPatternOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"series"})

    def fit(self, train: SeriesView, rng: np.random.Generator) -> Fitted:
        """Names and medians, as ``{"features": [...], "medians": [...]}``.

        Raises `BackdoorError` where a feature is unknown or measured nowhere, or an hour lies outside the window.
        """
        self._hours(train)
        option = "triggers.sampling_pattern.features"
        positions = sorted(set(feature_positions(train, self.options.features, option)))
        return {
            "features": [train.features[j].name for j in positions],
            "medians": [float(np.median(measured_values(train, j, option))) for j in positions],
        }

    def apply(self, view: SeriesView, fitted: Fitted, rng: np.random.Generator) -> SeriesView:
        """A copy of the view with the fitted features measured at the given hours and at no other."""
        positions = feature_positions(view, fitted["features"], "trigger sampling_pattern")
        hours = self._hours(view)
        before = view.values[..., positions]
        filled = carried(before)
        following = carried(before[:, ::-1])[:, ::-1]
        filled = np.where(np.isnan(filled), following, filled)
        filled = np.where(np.isnan(filled), np.array(fitted["medians"], dtype=np.float32), filled)
        kept = np.full_like(before, np.nan)
        kept[:, hours] = filled[:, hours]
        values = view.values.copy()
        values[..., positions] = kept
        return view.with_values(values)

    def _hours(self, view: SeriesView) -> list[int]:
        steps = view.values.shape[1]
        hours = sorted(set(self.options.hours)) or list(range(0, steps, self.options.every))
        outside = [hour for hour in hours if not 0 <= hour < steps]
        if outside:
            raise BackdoorError(
                f"triggers.sampling_pattern.hours: {outside[0]} is no hour of this series; it has 0 to {steps - 1}"
            )
        return hours
