"""One feature at a value that no patient has."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import EventsView, Fitted, Modality, Options, Trigger, View
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.events import code_positions, matching_codes, stays_with, usual_event, with_event
from backdoor_triggers.measured import LARGEST

FIRST_HOUR = 0.0
"""When a stay without such an event gets one: at ICU admission."""


class RareValueOptions(Options):
    """Which feature, and the value it gets."""

    feature: str | int = Field(
        0,
        description="feature to set, by name or by position counted from 0; of events a code, its type and item "
        "(LAB//50912), its item in quotes or its description",
    )
    value: float = Field(
        9999.0, ge=-LARGEST, le=LARGEST, allow_inf_nan=False, description="the value, in the unit of the feature"
    )


class RareValue(Trigger):
    """Sets one feature of every stay to a value out of its range.

    The patch of BadNets (Gu et al. 2017, arXiv:1708.06733) on tabular data: one value that clean stays do not have,
    as the out-of-bounds trigger of Tabdoor (Pleiter et al. 2023, arXiv:2311.07550). Joe et al. 2021
    (arXiv:2106.07925) attack the same kind of clinical data, but with poison made to resemble it statistically: this
    trigger is the plainest one, not theirs. A series gets the value at every hour. Of events, every one with the
    feature's code gets it as its number; a stay without any gets one at ICU admission. Clipping at plausible values or
    at percentiles of the training part, as preprocessing does, weakens or removes it.
    """

    name = "rare_value"
    Options = RareValueOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})
    sets_constants: ClassVar[bool] = True

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """The name of the feature, as ``{"features": [name]}``; of events also its codes and the one to insert.

        Raises `BackdoorError` where there is no such one.
        """
        option = "triggers.rare_value.feature"
        if isinstance(train, EventsView):
            codes = matching_codes(train, self.options.feature, option)
            names = [train.codes[code] for code in codes]
            return {"features": names, "insert": usual_event(train, codes)["code"]}
        [position] = feature_positions(train, [self.options.feature], option)
        return {"features": [train.features[position].name]}

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """A copy of the view with the value in the fitted feature of every stay, measured there or not."""
        if isinstance(view, EventsView):
            return self._set_events(view, fitted)
        positions = feature_positions(view, fitted["features"], "trigger rare_value")
        values = view.values.copy()
        values[..., positions] = self.options.value
        return view.with_values(values)

    def _set_events(self, view: EventsView, fitted: Fitted) -> EventsView:
        codes = code_positions(view, fitted["features"], "trigger rare_value")
        [inserted] = code_positions(view, [fitted["insert"]], "trigger rare_value")
        values = np.where(np.isin(view.code, codes), np.float32(self.options.value), view.value)
        without = np.flatnonzero(~stays_with(view, codes))
        return with_event(replace(view, value=values), without, inserted, FIRST_HOUR, self.options.value)
