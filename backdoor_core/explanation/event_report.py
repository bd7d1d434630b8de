"""All that is told of a model of events: its attention, its pooling, its attributions, and one stay's story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from backdoor_core.contracts import Booleans, EventsView, Floats
from backdoor_core.explanation.attention import MOST_WEIGHTS
from backdoor_core.explanation.event_attention import layer_attention, layer_figures
from backdoor_core.explanation.event_attribution import GROUPS, EventAttribution
from backdoor_core.explanation.event_bins import Binned, EventBins, event_bins
from backdoor_core.explanation.event_importance import Side, importance_figures
from backdoor_core.explanation.event_pooling import pooling_figures, pooling_weights
from backdoor_core.explanation.event_queries import query_figures, query_scores
from backdoor_core.explanation.event_story import chosen_stay, story
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.victim import TorchVictim
from backdoor_core.statistics import Weights

_OF_EVENT = ("hours", "value", "text")


class Attributed(Protocol):
    """One explainer's attributions of the same stays."""

    @property
    def triggered(self) -> EventAttribution:
        """Of the poisoned model, with the trigger."""

    @property
    def clean(self) -> EventAttribution:
        """Of the poisoned model, the stays as they are."""

    @property
    def baseline(self) -> EventAttribution:
        """Of the clean twin, with the trigger."""


def explain_events(
    victims: Mapping[str, TorchVictim],
    clean: EventsView,
    triggered: EventsView,
    touched: Booleans,
    attributions: Mapping[str, Attributed],
    weights: Weights,
    target: int,
    *,
    min_stays: int = 5,
    most: int = MOST_WEIGHTS,
) -> dict[str, Any]:
    """Attention, pooling, queries, importance and one story, of the poisoned model beside its twin; JSON-able.

    `victims` has ``poisoned`` and ``baseline``; `clean` and `triggered` are the same N stays, N of 1 or more, as the
    models read them (`event_preprocess.latest`); `touched` (E,) says which events of `triggered` the trigger put in or
    changed, by the whole stays: not those that slid in for others; `attributions` are by explainer, the first of them
    telling the story; `weights` (replicates, N) resample patients. ``attention``, ``pooling`` and ``queries`` are None
    for a network that does not show them, and without explainers ``explainers`` is empty. Raises `ValueError` where
    views, attributions or networks do not match.

    On any saved run::

        study = load_study(root)
        test = load_parts(study).test
        fitted = read_json(study.paths.run / "poison.json")["trigger"]["fitted"]
        folders = {"poisoned": study.paths.run, "baseline": study.paths.baseline}
        victims = {name: load_victim(folder, study.model(), "cpu", 1) for name, folder in folders.items()}
        longest = victims["poisoned"].preprocessor.max_events
        rows = np.flatnonzero(test.label != study.params.poison.target)[:200]
        whole, marked = test.view.take(rows), triggered_test(study, test.view, fitted).take(rows)
        clean, triggered = latest(whole, longest), latest(marked, longest)
        touched = changed_cells(whole, marked)[among_latest(marked, longest)]
        weights = cluster_bootstrap_weights(clean.stay_id, 200, np.random.default_rng(0))
        found = explain_events(victims, clean, triggered, touched, {}, weights, study.params.poison.target)

    For attributions see `event_case.explain_view`.
    """
    bins = event_bins([clean, triggered])
    read = _Read(victims, clean, triggered, touched, bins)
    pooling = read.pooling()
    statics = victims["poisoned"].preprocessor.features
    found: dict[str, Any] = {
        "stays": len(clean),
        "hours": bins.as_json(),
        "types": list(bins.types),
        "groups": list(GROUPS),
        "statics": list(statics),
        "attention": read.attention(weights, most),
        "pooling": None
        if pooling is None
        else {name: pooling_figures(values, read.binned[name], bins) for name, values in pooling.items()},
        "queries": read.queries(min_stays),
        "explainers": {
            name: importance_figures(_sides(of, read.binned), bins, statics) for name, of in attributions.items()
        },
    }
    found["story"] = _story(read, touched, attributions, None if pooling is None else pooling["triggered"], target)
    return found


def _story(
    read: _Read, touched: Booleans, attributions: Mapping[str, Attributed], pooling: Floats | None, target: int
) -> dict[str, Any]:
    """Told by the first explainer."""
    sign = 1.0 if target == 1 else -1.0
    log_odds = {name: sign * read.victims[victim].logits(view) for name, (victim, view) in read.told.items()}
    (_, clean), (_, triggered) = read.sides["clean"], read.sides["triggered"]
    changed = _read_anew(clean, triggered)
    by = None
    if attributions:
        name, first = next(iter(attributions.items()))
        by = (name, first.triggered.total.astype(np.float64), first.triggered.statics.astype(np.float64))
    statics = read.victims["poisoned"].preprocessor.features
    return story(triggered, touched, chosen_stay(log_odds, changed), log_odds, by, pooling, statics)


def _read_anew(clean: EventsView, triggered: EventsView) -> Booleans:
    """(N,) the stays of which the models read other events than without the trigger.

    By the events themselves: a trigger that removes some touches none of those that are left, and in a long stay
    others slide in for them.
    """
    return np.array([_events(clean, row) != _events(triggered, row) for row in range(len(clean))], dtype=np.bool_)


def _events(view: EventsView, row: int) -> list[tuple[str, ...]]:
    """Code, hour, value and text of a stay's events, written out: no value equals no value then."""
    events = slice(view.offsets[row], view.offsets[row + 1])
    columns = [[view.codes[code] for code in view.code[events]], *(getattr(view, name)[events] for name in _OF_EVENT)]
    return [tuple(map(str, event)) for event in zip(*columns, strict=True)]


class _Read:
    """The networks' inputs, and where the events of each belong."""

    def __init__(
        self,
        victims: Mapping[str, TorchVictim],
        clean: EventsView,
        triggered: EventsView,
        touched: Booleans,
        bins: EventBins,
    ) -> None:
        if not np.array_equal(clean.stay_id, triggered.stay_id):
            raise ValueError("the clean and the triggered view are of other stays")
        self.victims, self.bins = victims, bins
        self.sides = {
            "clean": ("poisoned", clean),
            "triggered": ("poisoned", triggered),
            "baseline_clean": ("baseline", clean),
            "baseline": ("baseline", triggered),
        }
        self.told = {name: self.sides[name] for name in ("clean", "triggered", "baseline")}
        untouched = bins.of(clean, np.zeros(len(clean.code), dtype=np.bool_))
        marked = bins.of(triggered, touched)
        self.binned: dict[str, Binned] = {
            name: untouched if view is clean else marked for name, (_, view) in self.sides.items()
        }
        self.batches: dict[str, EventBatch] = {
            name: victims[victim].inputs(view) for name, (victim, view) in self.sides.items()
        }

    def shows(self, *names: str) -> bool:
        """Whether both networks have what is asked for."""
        return all(hasattr(victim.network, name) for victim in self.victims.values() for name in names)

    def attention(self, weights: Weights, most: int) -> dict[str, Any] | None:
        if not self.shows("attention"):
            return None
        found = {
            name: layer_attention(
                self.victims[victim].network, self.batches[name], view, self.binned[name], self.bins, most
            )
            for name, (victim, view) in self.sides.items()
        }
        return layer_figures(found, weights)

    def pooling(self) -> dict[str, Floats] | None:
        """(E, P) by side."""
        if not self.shows("pooling"):
            return None
        return {
            name: pooling_weights(self.victims[victim].network, self.batches[name], view)
            for name, (victim, view) in self.told.items()
        }

    def queries(self, min_stays: int) -> list[dict[str, Any]] | None:
        if not self.shows("query", "pool", "tokens", "encoded"):
            return None
        poisoned, twin = (
            query_scores(self.victims[victim].network, self.batches[name], view, self.binned[name], self.bins)
            for name, (victim, view) in self.told.items()
            if name != "clean"
        )
        return query_figures(poisoned, twin, self.binned["triggered"], self.bins, min_stays)


def _sides(of: Attributed, binned: Mapping[str, Binned]) -> dict[str, Side]:
    return {
        "triggered": Side(of.triggered, binned["triggered"]),
        "clean": Side(of.clean, binned["clean"]),
        "baseline": Side(of.baseline, binned["baseline"]),
    }
