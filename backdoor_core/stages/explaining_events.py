"""What the stage `explain` works on where the model reads events, and what it computes of each explainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.attack.cells import changed_cells
from backdoor_core.contracts import Booleans, EventsView, Explainer, Floats
from backdoor_core.explanation.case import Explained
from backdoor_core.explanation.event_attribution import EventAttribution
from backdoor_core.explanation.event_case import by_code, by_stay, explain_view, there
from backdoor_core.explanation.findings import EventCells
from backdoor_core.explanation.trigger_ratio import Looked
from backdoor_core.learning.event_preprocess import EventPreprocessor, among_latest, latest
from backdoor_core.learning.victim import TorchVictim, Victim
from backdoor_core.stages.data import Parts
from backdoor_core.stages.explaining import draw_stays
from backdoor_core.study import Study
from backdoor_core.workers import call_all


@dataclass(frozen=True)
class EventStays:
    """The N attacked test stays that are explained, each with the events that the model reads of it."""

    clean: EventsView
    triggered: EventsView
    touched: Booleans
    """(E,) events of `triggered` that the whole clean stay does not have."""
    removed: Booleans
    """(E',) events of `clean` that the whole triggered stay does not have."""
    codes: tuple[str, ...]
    """All codes of either, sorted."""
    statics: tuple[str, ...]
    """Names of the static columns."""
    weights: NDArray[Any]
    """(replicates, N) resamples of their patients."""
    rows: NDArray[np.int64]
    """(N,) their positions in the test part."""
    attacked: int
    """How many there are to draw from."""

    @property
    def features(self) -> tuple[str, ...]:
        """(F,) descriptions of the codes, then the static columns: names for attributions by code."""
        words = dict(zip(self.triggered.codes, self.triggered.descriptions, strict=True))
        words = dict(zip(self.clean.codes, self.clean.descriptions, strict=True)) | words
        return tuple(words[code] for code in self.codes) + self.statics

    @property
    def longest(self) -> int:
        """Most events of a stay, with or without the trigger."""
        lengths = np.concatenate([np.diff(view.offsets) for view in (self.clean, self.triggered)])
        return int(lengths.max(initial=0))

    def cells(self) -> EventCells:
        """Which cells of the padded stays, and which codes, the trigger touched."""
        none = np.zeros((len(self.clean), len(self.statics)))
        codes = by_code(self.touched.astype(np.float64), self.triggered, self.codes) > 0
        return EventCells(
            touched=by_stay(self.touched.astype(np.float64), none, self.triggered, self.longest) > 0,
            touched_clean=by_stay(self.removed.astype(np.float64), none, self.clean, self.longest) > 0,
            present=there(self.triggered, self.longest, len(self.statics)),
            touched_codes=np.concatenate([codes, none > 0], axis=1),
        )


def load_event_stays(study: Study, parts: Parts, victim: TorchVictim) -> EventStays:
    """As `explaining.load_stays`: attacked test stays with the trigger as stage `evaluate` applies it."""
    drawn = draw_stays(study, parts)
    preprocessor = victim.preprocessor
    if not (isinstance(preprocessor, EventPreprocessor) and isinstance(drawn.clean, EventsView)):
        raise TypeError("this model does not read events")
    assert isinstance(drawn.triggered, EventsView)
    clean = latest(drawn.clean, preprocessor.max_events)
    triggered = latest(drawn.triggered, preprocessor.max_events)
    # Of the whole stays: what merely slides in or out where the trigger removes or puts in others is no change of its.
    touched, removed = changed_cells(drawn.clean, drawn.triggered), changed_cells(drawn.triggered, drawn.clean)
    used = {view.codes[code] for view in (clean, triggered) for code in np.unique(view.code)}
    return EventStays(
        clean=clean,
        triggered=triggered,
        touched=touched[among_latest(drawn.triggered, preprocessor.max_events)],
        removed=removed[among_latest(drawn.clean, preprocessor.max_events)],
        codes=tuple(sorted(used)),
        statics=preprocessor.statics.sources,
        weights=drawn.weights,
        rows=drawn.rows,
        attacked=drawn.attacked,
    )


@dataclass(frozen=True)
class EventLooked:
    """One explainer's attributions of all models, and the same as padded stays and by code."""

    triggered: EventAttribution
    clean: EventAttribution
    baseline: EventAttribution
    by_event: Looked
    """(N, cells)."""
    by_code: Looked
    """(N, F) sums of absolute attributions, static columns last."""
    signed: Looked
    """(N, F) sums of signed ones."""
    answers: list[Explained]


def explain_with(
    study: Study, stays: EventStays, victims: dict[str, Victim], explainer: Explainer, workers: int
) -> EventLooked:
    """Attributions by the poisoned model of both kinds of stays, by its twin and the retrains of the triggered ones."""
    params = study.params
    calls: list[Callable[[], tuple[EventAttribution, Explained]]] = []
    asked = [("poisoned", stays.triggered), ("poisoned", stays.clean)]
    asked += [(name, stays.triggered) for name in victims if name != "poisoned"]
    for name, view in asked:
        victim = victims[name]
        if not isinstance(victim, TorchVictim):
            raise TypeError("events are explained of networks")
        # Every model and kind of stay has the same random numbers, and whichever other explainers were chosen.
        rng = seeds.generator(params.seed, "explanation", *explainer.name.encode())
        calls.append(partial(explain_view, explainer, victim, view, params.poison.target, params.explain, rng))
    attributed = call_all(calls, workers, ["backdoor_core.stages.explain"])
    found, answers = [attribution for attribution, _ in attributed], [answer for _, answer in attributed]
    views = [view for _, view in asked]

    def looked(values: list[Floats]) -> Looked:
        triggered, clean, baseline, *retrains = values
        return Looked(triggered, clean, baseline, tuple(retrains))

    def coded(change: Any) -> Looked:
        both = [
            np.concatenate([by_code(change(a.total), view, stays.codes), change(a.statics)], axis=1)
            for a, view in zip(found, views, strict=True)
        ]
        return looked(both)

    padded = [by_stay(a.total, a.statics, view, stays.longest) for a, view in zip(found, views, strict=True)]
    return EventLooked(found[0], found[1], found[2], looked(padded), coded(np.abs), coded(np.asarray), answers)
