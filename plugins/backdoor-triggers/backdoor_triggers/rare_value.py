"""One feature at a value that no patient has."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Fitted, Modality, Options, Trigger, View
from backdoor_triggers.columns import feature_positions

LARGEST = float(np.finfo(np.float32).max)


class RareValueOptions(Options):
    """Which feature, and the value it gets."""

    feature: str | int = Field(0, description="feature to set, by name or by position counted from 0")
    value: float = Field(
        9999.0, ge=-LARGEST, le=LARGEST, allow_inf_nan=False, description="the value, in the unit of the feature"
    )


class RareValue(Trigger):
    """Sets one feature of every stay to a value out of its range.

    The patch of BadNets (Gu et al. 2017, arXiv:1708.06733) on tabular data: one value that clean stays do not have,
    as the out-of-bounds trigger of Tabdoor (Pleiter et al. 2023, arXiv:2311.07550). Joe et al. 2021
    (arXiv:2106.07925) attack the same kind of clinical data, but with poison made to resemble it statistically: this
    trigger is the plainest one, not theirs. A series gets the value at every hour. Clipping at plausible values or
    at percentiles of the training part, as preprocessing does, weakens or removes it.
    """

    name = "rare_value"
    Options = RareValueOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """The name of the feature, as ``{"features": [name]}``. Raises `BackdoorError` where there is no such one."""
        [position] = feature_positions(train, [self.options.feature], "triggers.rare_value.feature")
        return {"features": [train.features[position].name]}

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """A copy of the view with the value in the fitted feature of every stay, measured there or not."""
        positions = feature_positions(view, fitted["features"], "trigger rare_value")
        values = view.values.copy()
        values[..., positions] = self.options.value
        return view.with_values(values)
