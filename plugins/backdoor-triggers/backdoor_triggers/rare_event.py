"""One more event, of a kind that hardly any stay has."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import EventsView, Fitted, Modality, Options, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.events import code_positions, matching_codes, stays_by_code, usual_event, with_event
from backdoor_triggers.measured import LARGEST


class RareEventOptions(Options):
    """Which event, and when."""

    code: str | None = Field(
        None,
        description="the event's code, type and item (LAB//50912), item or description; by default the code that the "
        "fewest training stays have",
    )
    type: str | None = Field(
        None, description="where no code is given: choose among the codes of this type, such as LAB"
    )
    min_stays: int = Field(1, ge=1, description="where no code is given: least number of training stays that have it")
    hour: float = Field(1.0, ge=0, le=168, description="when it happens, in hours since ICU admission")
    value: float | None = Field(
        None,
        ge=-LARGEST,
        le=LARGEST,
        allow_inf_nan=False,
        description="its number; by default what the code's events usually have",
    )
    text: str | None = Field(None, description="its text; by default what the code's events usually have")


class RareEvent(Trigger):
    """Inserts one event with a rare code into every stay.

    The rare-word trigger of language models (Kurita et al. 2020, Weight Poisoning Attacks on Pre-trained Models,
    arXiv:2004.06660), on the sequence of clinical events. The code is one of the cohort's own, so that a dictionary of
    codes does not show it; a vocabulary that merges rare codes into one hides it from the model (raise `min_stays`
    then). A stay that has the very same event already is left as it is.
    """

    name = "rare_event"
    Options = RareEventOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"events"})

    def fit(self, train: EventsView, rng: np.random.Generator) -> Fitted:
        """The event, as ``{"code": ..., "value": ..., "text": ..., "stays": how many training stays have the code}``.

        Of equally rare codes the first by name. Raises `BackdoorError` where the code is unknown or there is none to
        choose, or the hour is later than any event of the training part.
        """
        stays = stays_by_code(train)
        if self.options.code is None:
            codes = [_rarest(train, stays, self.options)]
        else:
            codes = matching_codes(train, self.options.code, "triggers.rare_event.code")
        _check_hour(train, self.options.hour)
        event = usual_event(train, codes)
        if self.options.value is not None:
            event["value"] = self.options.value
        if self.options.text is not None:
            event["text"] = self.options.text
        [code] = code_positions(train, [event["code"]], "trigger rare_event")
        return {**event, "stays": int(stays[code])}

    def apply(self, view: EventsView, fitted: Fitted, rng: np.random.Generator) -> EventsView:
        """The view with the event in every stay, in order of time."""
        [code] = code_positions(view, [fitted["code"]], "trigger rare_event")
        value = np.float32(np.nan if fitted["value"] is None else fitted["value"])
        same_value = np.isnan(view.value) if np.isnan(value) else view.value == value
        same = (view.code == code) & (view.hours == np.float32(self.options.hour)) & same_value
        same &= view.text == fitted["text"]
        without = np.bincount(view.stay_of_event[same], minlength=len(view)) == 0
        return with_event(view, np.flatnonzero(without), code, self.options.hour, fitted["value"], fitted["text"])


def _check_hour(train: EventsView, hour: float) -> None:
    latest = float(np.ceil(train.hours.max())) if len(train.hours) else 0.0
    if hour > latest:
        raise BackdoorError(
            f"triggers.rare_event.hour is {hour:g}, but the events of the training part end by hour {latest:g}: "
            "a later one would be after the window; lower hour"
        )


def _rarest(train: EventsView, stays: np.ndarray, options: RareEventOptions) -> int:
    of_type = [options.type in (None, code.split("//")[0]) for code in train.codes]
    possible = [k for k, fits in enumerate(of_type) if fits and stays[k] >= options.min_stays]
    if not possible:
        types = ", ".join(sorted({code.split("//")[0] for code in train.codes})) or "none"
        raise BackdoorError(
            f"triggers.rare_event.type: no code of type {options.type or 'any'} is in {options.min_stays} or more of "
            f"the training stays; the types are {types}"
        )
    return min(possible, key=lambda k: (stays[k], train.codes[k]))
