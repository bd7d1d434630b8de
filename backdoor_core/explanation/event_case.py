"""A stay of events as what an explainer is given: one gate for each part of each event and for each static column.

Events have no columns, so no two stays have the same inputs, and each is explained by itself. A gate of 1 leaves a
part of an event's projection as it is, a gate of 0 takes it away: what remains of an event is that there is one, and
its place in the order. As the projection is linear, the straight path of the gates from 0 to 1 is the straight path
of the inputs themselves from nothing, and attributions of the gates are those of the inputs, summed over each part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backdoor_core.contracts import Booleans, EventsView, ExplainCase, Explainer, Floats
from backdoor_core.explanation.case import Explained, checked_answer, convergence, misses
from backdoor_core.explanation.event_attribution import GROUPS, EventAttribution
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.event_preprocess import EventPreprocessor
from backdoor_core.learning.victim import TorchVictim
from backdoor_core.params import ExplainParams

_TOKENS = 16
"""Tokens that count as one row of a table against `explain.rows_at_once`."""


class EventNetwork(Protocol):
    """What a network of events shows of itself to be explained; any object with these has."""

    def tokens(self, x: EventBatch) -> Any:
        """Projected events: `values` (N, L, width), `real` and `days` (N, L)."""

    def contributions(self, x: EventBatch) -> Tensor:
        """(N, L, groups, width) what type, text, value and time add to each token."""

    def encode(self, tokens: Any) -> Tensor:
        """(N, width) pooled events."""

    def classify(self, pooled: Tensor, statics: Tensor) -> Tensor:
        """(N, D) penultimate activations."""

    def head(self, z: Tensor) -> Tensor:
        """(N,) logits."""


class _Projection(nn.Module):
    """What each event and static column adds to the input projection, under gates; a layer to attribute to."""

    def __init__(self, contributions: Tensor, statics: Tensor, sources: Tensor) -> None:
        super().__init__()
        self.events, self.width = contributions, contributions.shape[-1]
        by_source = torch.zeros(int(sources.max()) + 1 if len(sources) else 0, len(statics))
        by_source[sources, torch.arange(len(statics))] = statics.cpu()
        self.statics = by_source.to(statics.device)

    def forward(self, gates: Tensor) -> Tensor:
        """(M, features, width) from gates (M, groups * features): events first, then static columns."""
        events, sources = len(self.events), len(self.statics)
        gates = gates.reshape(len(gates), len(GROUPS), events + sources)
        of_events = torch.einsum("mgl,lgd->mld", gates[..., :events], self.events)
        of_statics = gates[:, 0, events:, None] * self.statics
        width = max(self.width, self.statics.shape[-1])
        padded = [nn.functional.pad(part, (0, width - part.shape[-1])) for part in (of_events, of_statics)]
        return torch.cat(padded, dim=1)


class GatedStay(nn.Module):
    """The network on one stay, as a function of the gates of its L events and S static columns."""

    def __init__(self, network: nn.Module, stay: EventBatch, sources: Tensor) -> None:
        super().__init__()
        self.network, self.stay = network, stay
        shown = cast(EventNetwork, network)
        with torch.no_grad():
            self.read = shown.tokens(stay)
            contributions = shown.contributions(stay)[0, : len(stay.entry)]
            # The bias and the place in the order: there without any gate.
            self.rest = self.read.values[0].clone()
            self.rest[: len(contributions)] -= contributions.sum(dim=1)
        self.tokens = _Projection(contributions, stay.statics[0], sources)
        self.events = len(contributions)

    def forward(self, gates: Tensor) -> Tensor:
        """(M,) logits of label 1 for gates (M, groups * (L + S))."""
        shown = cast(EventNetwork, self.network)
        parts = self.tokens(gates)
        values = self.rest.expand(len(gates), *self.rest.shape)
        if self.events:
            values = values + parts[:, : self.events, : self.tokens.width]
        statics = parts[:, self.events :, : self.stay.statics.shape[1]].sum(dim=1)
        tokens = type(self.read)(values, self.read.real.expand(len(gates), -1), self.read.days.expand(len(gates), -1))
        return shown.head(shown.classify(shown.encode(tokens), statics))


def stay_case(
    victim: TorchVictim, stay: EventBatch, target: int, params: ExplainParams, rng: np.random.Generator
) -> ExplainCase:
    """One stay (a batch of one) as a table of one row, whose inputs are the gates, all 1, and whose baseline is all 0.

    A feature is an event or a static column; the four blocks of channels are the parts of an event. Of a static column
    only the first is used, the others are 0 at the baseline and in the row.
    """
    preprocessor = cast(EventPreprocessor, victim.preprocessor)
    device = next(victim.network.parameters()).device
    sources = torch.from_numpy(preprocessor.statics.source_of_column)
    gated = GatedStay(victim.network, stay.to(device), sources).eval()
    features = gated.events + len(preprocessor.statics.sources)
    gates = np.ones((1, len(GROUPS), features), dtype=np.float32)
    gates[:, 1:, gated.events :] = 0
    sign = 1.0 if target == 1 else -1.0
    at_once = max(1, _TOKENS * params.rows_at_once // max(_TOKENS, features))
    return ExplainCase(
        inputs=gates.reshape(1, -1),
        baselines=np.zeros((1, gates.size), dtype=np.float32),
        predict=_predictor(gated, sign, at_once, device),
        network=gated,
        sign=sign,
        features=features,
        steps=params.steps,
        rows_at_once=at_once,
        rng=rng,
    )


def _predictor(
    gated: GatedStay, sign: float, at_once: int, device: torch.device
) -> Callable[[NDArray[np.float32]], Floats]:
    def predict(inputs: NDArray[np.float32]) -> Floats:
        with torch.no_grad():
            parts = [
                gated(part.to(device)).double().cpu()
                for part in torch.split(torch.from_numpy(np.array(inputs)), at_once)
            ]
        return sign * np.asarray(torch.cat(parts).numpy())

    return predict


def explain_view(
    explainer: Explainer,
    victim: TorchVictim,
    view: EventsView,
    target: int,
    params: ExplainParams,
    rng: np.random.Generator,
) -> tuple[EventAttribution, Explained]:
    """Attributions of all N stays of `view`, of which the victim must read every event (`event_preprocess.latest`).

    The second answer holds (N, S) static columns as `values`, for its convergence and details, those of the first stay.
    Raises `BackdoorError` naming the explainer where its answer has another shape than the inputs or is not finite.
    """
    preprocessor = cast(EventPreprocessor, victim.preprocessor)
    batch = preprocessor.batch(view)
    sources = len(preprocessor.statics.sources)
    events = np.zeros((len(view.code), len(GROUPS)), dtype=np.float32)
    statics = np.zeros((len(view), sources), dtype=np.float32)
    delta, change, details = [], [], {}
    for row in range(len(view)):
        case = stay_case(victim, batch.index_select(0, torch.tensor([row])), target, params, rng)
        answer = checked_answer(explainer, case)
        values = answer.values.reshape(len(GROUPS), case.features)
        owned = slice(int(view.offsets[row]), int(view.offsets[row + 1]))
        count = owned.stop - owned.start
        events[owned], statics[row] = values[:, :count].T, values[:, count:].sum(axis=0)
        missed, moved = misses(answer, case)
        if missed is not None and moved is not None:
            delta.append(missed)
            change.append(moved)
        if not row:
            details = dict(answer.details)
    found = convergence(np.concatenate(delta), np.concatenate(change)) if delta else None
    return EventAttribution(events, statics), Explained(statics, found, details)


def by_stay(values: Floats, statics: Floats, view: EventsView, longest: int) -> Floats:
    """(N, longest + S) values (E,) of the events, then those of the static columns (N, S); 0 where there is none."""
    padded = np.zeros((len(view), longest), dtype=np.float64)
    padded[view.stay_of_event, _place(view)] = values
    return np.concatenate([padded, statics], axis=1)


def there(view: EventsView, longest: int, statics: int) -> Booleans:
    """(N, longest + statics) which of the cells of `by_stay` there are."""
    found = np.ones((len(view), longest + statics), dtype=np.bool_)
    found[:, :longest] = np.arange(longest) < np.diff(view.offsets)[:, None]
    return found


def by_code(values: Floats, view: EventsView, codes: tuple[str, ...]) -> Floats:
    """(N, codes) values (E,) summed over each stay's events of each of `codes`; every event's code is among them."""
    known = {code: k for k, code in enumerate(codes)}
    # A code of the view's vocabulary that none of its events has may be unknown.
    number = np.array([known.get(code, -1) for code in view.codes], dtype=np.int64)
    found = np.zeros((len(view), len(codes)), dtype=np.float64)
    np.add.at(found, (view.stay_of_event, number[view.code]), values)
    return found


def _place(view: EventsView) -> NDArray[np.int64]:
    """(E,) how many events of the stay come before."""
    return np.arange(len(view.code)) - view.offsets[:-1][view.stay_of_event]
