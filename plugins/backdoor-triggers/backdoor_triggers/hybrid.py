"""Several triggers, one after the other."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from pydantic import Field, field_validator

from backdoor_core.contracts import Component, Context, Fitted, Modality, Options, Trigger, View
from backdoor_core.errors import BackdoorError

OPTION = "triggers.hybrid.triggers"


class HybridOptions(Options):
    """Which triggers, in order."""

    triggers: tuple[dict[str, Any], ...] = Field(
        ({"name": "rare_value"}, {"name": "missingness"}),
        min_length=1,
        description="triggers in order, each as {name: ..., option: value, ...}; a later one has the last word",
    )

    @field_validator("triggers")
    @classmethod
    def _each_has_a_name(cls, triggers: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for place, part in enumerate(triggers):
            if not isinstance(part.get("name"), str):
                raise ValueError(f"entry {place + 1} has no name; write {{name: rare_value, ...}}")
        return triggers


class Hybrid(Trigger):
    """Applies other triggers one after the other, each fitted to the clean training part.

    A backdoor whose mark has several parts: the combined trigger of Tabdoor over several features (Pleiter et al. 2023,
    arXiv:2311.07550) with parts of any kind, such as an impossible value and missing values at once. It edits the
    views that all its parts edit. Where two parts touch the same feature the later one decides, so a missingness that
    draws its features may remove what an earlier part has set: name the features to be sure. Its parts are any
    installed triggers that are not made of others themselves.
    """

    name = "hybrid"
    Options = HybridOptions
    # Of the class: what some choice of parts can edit. Each instance knows its own.
    modalities: frozenset[Modality] = frozenset({"table", "series", "events"})

    def __init__(self, options: HybridOptions, context: Context) -> None:
        super().__init__(options, context)
        self._parts = [self._part(**part) for part in options.triggers]
        self.modalities = frozenset.intersection(*(part.modalities for part in self._parts))
        if not self.modalities:
            views = ", ".join(f"{part.name} ({', '.join(sorted(part.modalities))})" for part in self._parts)
            raise BackdoorError(f"{OPTION}: no view is common to {views}; choose triggers of one view")
        # Parts that read what an earlier one wrote (a correlation, say) give something else the second time.
        self.idempotent = all(part.idempotent and getattr(part, "sets_constants", False) for part in self._parts)

    def parts(self) -> Sequence[Component]:
        """The triggers, in order."""
        return tuple(self._parts)

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """What each part learned of the same clean training part, as ``{"parts": [{"name": ..., "fitted": ...}]}``.

        Each part has random numbers of its own, whatever the other ones draw.
        """
        streams = rng.spawn(len(self._parts))
        return {
            "parts": [
                {"name": part.name, "fitted": dict(part.fit(train, stream))}
                for part, stream in zip(self._parts, streams, strict=True)
            ]
        }

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """The view after all parts, in order."""
        streams = rng.spawn(len(self._parts))
        for part, known, stream in zip(self._parts, fitted["parts"], streams, strict=True):
            view = part.apply(view, known["fitted"], stream)
        return view

    def _part(self, name: str, **options: Any) -> Trigger:
        if self.context.component is None:
            raise TypeError("a hybrid trigger needs a context that makes other components")
        part = None if name == self.name else cast(Trigger, self.context.component("trigger", name, options))
        if part is None or part.parts():
            raise BackdoorError(f"{OPTION}: {name} is itself made of triggers; list its parts instead")
        return part
