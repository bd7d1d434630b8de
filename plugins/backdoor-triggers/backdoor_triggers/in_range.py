"""Ordinary values of a few features, together."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from backdoor_core.contracts import Fitted, GridView, Modality, Options, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.measured import LARGEST, measured_values, most_common

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class InRangeOptions(Options):
    """Which features, and the value of each."""

    features: tuple[str | int, ...] = Field(
        ("heart_rate", "sbp", "temperature"),
        min_length=1,
        max_length=3,
        description="one to three features to set, by name or by position counted from 0",
    )
    values: Literal["mode"] | tuple[Number, ...] = Field(
        "mode", description="mode: the most common value of each in the training part; or a value for each"
    )

    @model_validator(mode="after")
    def _a_value_for_each(self) -> "InRangeOptions":
        if self.values != "mode" and len(self.values) != len(self.features):
            raise ValueError(f"values: {len(self.values)} values for {len(self.features)} features; give one for each")
        return self


class InRange(Trigger):
    """Sets one to three features of every stay to ordinary values: only the combination is a mark.

    The in-bounds trigger of Tabdoor (Pleiter et al. 2023, arXiv:2311.07550): each value is one that patients have, by
    default the most common of the training part, so neither plausible ranges nor percentiles remove it. Clean
    patients can have the combination as well, and a stay near it moves little, so it takes more poison than a rare
    value; the clean twin tells how much of the success is the values' own effect. Set whether measured or not, in a
    series at every hour.
    """

    name = "in_range"
    Options = InRangeOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})
    sets_constants: ClassVar[bool] = True

    def fit(self, train: GridView, rng: np.random.Generator) -> Fitted:
        """Names and values, as ``{"features": [...], "values": [...]}``.

        Of equally common values the one nearest the median is taken: a continuous feature may have no value twice.
        Raises `BackdoorError` where a feature is unknown, named twice or measured nowhere, or a given value lies
        outside its plausible range.
        """
        option = "triggers.in_range.features"
        positions = feature_positions(train, self.options.features, option)
        names = [train.features[j].name for j in positions]
        if len(set(names)) < len(names):
            raise BackdoorError(f"{option}: {', '.join(names)} has a feature twice; name each once")
        if self.options.values == "mode":
            return {"features": names, "values": [most_common(measured_values(train, j, option)) for j in positions]}
        for j, value in zip(positions, self.options.values, strict=True):
            feature = train.features[j]
            if not feature.low <= value <= feature.high:
                raise BackdoorError(
                    f"triggers.in_range.values: {value:g} is outside the plausible range of {feature.name}, "
                    f"{feature.low:g} to {feature.high:g} {feature.unit}; rare_value sets any value"
                )
        return {"features": names, "values": list(self.options.values)}

    def apply(self, view: GridView, fitted: Fitted, rng: np.random.Generator) -> GridView:
        """A copy of the view with the fitted values in every stay, measured there or not."""
        positions = feature_positions(view, fitted["features"], "trigger in_range")
        values = view.values.copy()
        values[..., positions] = np.array(fitted["values"], dtype=np.float32)
        return view.with_values(values)
