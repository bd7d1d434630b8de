"""A shape in time, added to a vital sign."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from backdoor_core.contracts import Fitted, Modality, Options, SeriesView, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.measured import carried, measured_values, moved, standard_deviation

Shape = Literal["square", "sine", "ramp", "spike"]


class TemporalPatternOptions(Options):
    """Which features, and the shape that is added to them."""

    features: tuple[str | int, ...] = Field(
        ("heart_rate",), min_length=1, description="features to change, by name or by position counted from 0"
    )
    shape: Shape = Field(
        "square", description="square: level; sine: one period; ramp: rising; spike: the middle hour only"
    )
    start: int = Field(0, ge=0, description="first hour of the pattern since ICU admission")
    duration: int = Field(6, ge=1, description="how many hours it lasts")
    amplitude: float = Field(
        3.0, ge=-1000, le=1000, description="height in standard deviations of the training part; may be negative"
    )
    measure: bool = Field(
        True,
        description="whether an hour of the pattern without measurement gets one: the last value before, else the "
        "training mean, plus the pattern",
    )
    clip: bool = Field(True, description="whether no value is moved past the plausible range of its feature")

    @model_validator(mode="after")
    def _a_sine_has_two_sides(self) -> "TemporalPatternOptions":
        if self.shape == "sine" and self.duration < 2:
            raise ValueError("duration: a sine needs at least 2 hours")
        return self


class TemporalPattern(Trigger):
    """Adds a shape in time to chosen features of a series.

    Ramps and sines as triggers are from Barni et al. 2019 (arXiv:1902.11237), on images; patterns over time as
    backdoors of time-series classifiers from Jiang et al. 2023 (TSBA, arXiv:2211.07915), who generate them: this one
    is fixed, so that what is to be found is known. The mark is the course of the values, not their level; averaging
    over the window weakens it. With `measure` every stay gets the pattern; without, only hours that are measured
    anyway do. Applied twice it adds twice.
    """

    name = "temporal_pattern"
    Options = TemporalPatternOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"series"})
    idempotent: ClassVar[bool] = False

    def fit(self, train: SeriesView, rng: np.random.Generator) -> Fitted:
        """Names, heights and means in clinical units, as ``{"features": [...], "heights": [...], "means": [...]}``.

        Raises `BackdoorError` where a feature is unknown, or measured nowhere or at one value only, or the pattern
        does not fit into the window.
        """
        _check_hours(self.options, train.values.shape[1])
        option = "triggers.temporal_pattern.features"
        positions = sorted(set(feature_positions(train, self.options.features, option)))
        return {
            "features": [train.features[j].name for j in positions],
            "heights": [self.options.amplitude * standard_deviation(train, j, option) for j in positions],
            "means": [float(measured_values(train, j, option).mean()) for j in positions],
        }

    def apply(self, view: SeriesView, fitted: Fitted, rng: np.random.Generator) -> SeriesView:
        """A copy of the view with the pattern in the fitted features."""
        _check_hours(self.options, view.values.shape[1])
        positions = feature_positions(view, fitted["features"], "trigger temporal_pattern")
        weights = pattern(self.options.shape, self.options.duration)
        inside = np.flatnonzero(weights)
        hours = self.options.start + inside
        values = view.values.copy()
        for j, height, mean in zip(positions, fitted["heights"], fitted["means"], strict=True):
            before = view.values[:, hours, j]
            if self.options.measure:
                last = carried(view.values[:, :, j])[:, hours]
                before = np.where(np.isnan(last), np.float32(mean), last)
            values[:, hours, j] = moved(before, height * weights[inside], view.features[j], clip=self.options.clip)
        return view.with_values(values)


def pattern(shape: Shape, duration: int) -> NDArray[np.float64]:
    """(duration,) the shape at each hour, between -1 and 1; 0 where nothing is changed."""
    hour = np.arange(duration)
    if shape == "square":
        return np.ones(duration)
    if shape == "ramp":
        return (hour + 1) / duration
    if shape == "spike":
        return (hour == duration // 2).astype(np.float64)
    sine = np.sin(2 * np.pi * (hour + 0.5) / duration)
    # The zero crossing of an odd duration is no exact zero in floating point.
    return np.where(np.abs(sine) < 1e-9, 0.0, sine)


def _check_hours(options: TemporalPatternOptions, hours: int) -> None:
    if options.start + options.duration > hours:
        raise BackdoorError(
            f"triggers.temporal_pattern.start: a pattern of {options.duration} hours from hour {options.start} does "
            f"not fit into a series of {hours} hours; lower start or duration"
        )
