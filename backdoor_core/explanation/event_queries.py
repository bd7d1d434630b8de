"""What the learned query of an attention pooling looks for: the codes it is drawn to and away from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from backdoor_core.contracts import EventsView, Floats
from backdoor_core.explanation.event_attention import alike, check_read, real_events
from backdoor_core.explanation.event_bins import Binned, EventBins, jsonable
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.inputs import EVENTS_AT_ONCE
from backdoor_core.statistics import ratio

MOST_CODES: Final = 10
"""Codes that are told of each head in each direction."""


class _Pool(Protocol):
    heads: int
    query: nn.Linear
    key: nn.Linear


class QueryNetwork(Protocol):
    """A network of events that pools by a learned query."""

    query: Tensor
    """(width,)."""
    pool: _Pool

    def tokens(self, x: EventBatch) -> Any:
        """Projected events."""

    def encoded(self, tokens: Any) -> Tensor:
        """(N, L, width): what the pooling reads."""


@dataclass(frozen=True)
class Queried:
    """The query of P heads of width d against the keys of E events."""

    scores: Floats
    """(E, P) before the softmax, less the mean of the stay, which the softmax does not see."""
    cosine: Floats
    """(P, K) between the head's query and the mean key of each type; NaN where no event is of the type."""


def query_scores(network: nn.Module, batch: EventBatch, view: EventsView, binned: Binned, bins: EventBins) -> Queried:
    """Scores of all events of `view`, of which `batch` is what the network reads; see `check_read` for errors."""
    check_read(batch, view)
    shown = cast(QueryNetwork, network)
    device = next(network.parameters()).device
    heads = shown.pool.heads
    scores = np.zeros((len(view.code), heads))
    sums = torch.zeros(len(bins.types), heads, shown.query.shape[-1] // heads, dtype=torch.float64)
    types = torch.from_numpy(binned.type)
    with torch.no_grad():
        query = shown.pool.query(shown.query).unflatten(-1, (heads, -1)).cpu().double()
        for rows in alike(batch.lengths, lambda longest: longest, EVENTS_AT_ONCE):
            encoded = shown.encoded(shown.tokens(batch.index_select(0, rows).to(device)))
            real, events = real_events(batch, rows)
            keys = shown.pool.key(encoded)[real.to(device)].unflatten(-1, (heads, -1)).cpu().double()
            places = events[real]
            scores[places.numpy()] = (keys * query).sum(-1).numpy() / math.sqrt(query.shape[-1])
            sums.index_add_(0, types[places], keys)
    toward = np.einsum("khd,hd->hk", sums.numpy(), query.numpy())
    size = np.linalg.norm(sums.numpy(), axis=-1).T * np.linalg.norm(query.numpy(), axis=-1)[:, None]
    return Queried(_centered(scores, binned), ratio(toward, size))


def _centered(scores: Floats, binned: Binned) -> Floats:
    one, count = np.zeros_like(binned.stay), np.maximum(binned.lengths, 1)
    means = np.stack([binned.sums(column, one, 1)[:, 0] / count for column in scores.T], axis=1)
    return np.asarray(scores - means[binned.stay])


def query_figures(
    poisoned: Queried, twin: Queried, binned: Binned, bins: EventBins, min_stays: int = 5
) -> list[dict[str, Any]]:
    """Of each head the codes it is drawn to and away from, most first, and the cosines by type; JSON-able.

    Both models on the same triggered stays. Codes that fewer than `min_stays` stays have are left out; a code's events
    that the trigger touched are told apart from its others. ``twin`` is the score of the head in the same place of
    the twin, which shares nothing with it but its place and its first weights.
    """
    count = 2 * len(bins.codes)
    stays = stays_with(binned, bins)
    known = np.flatnonzero(stays >= min_stays)
    events = np.bincount(binned.code, minlength=count)
    told = []
    for head in range(poisoned.scores.shape[1]):
        means = [
            ratio(np.bincount(binned.code, found.scores[:, head], count).astype(np.float64), events.astype(np.float64))
            for found in (poisoned, twin)
        ]
        ordered = known[np.argsort(-means[0][known], kind="stable")]

        def entry(place: int, score: Floats = means[0], of_twin: Floats = means[1]) -> dict[str, Any]:
            found = {"score": jsonable(score[place]), "twin": jsonable(of_twin[place]), "stays": int(stays[place])}
            return code_entry(int(place), bins) | found

        told.append(
            {
                "head": head + 1,
                "toward": [entry(place) for place in ordered[:MOST_CODES] if means[0][place] > 0],
                "away": [entry(place) for place in ordered[::-1][:MOST_CODES] if means[0][place] < 0],
                "cosine": jsonable(poisoned.cosine[head]),
                "cosine_twin": jsonable(twin.cosine[head]),
            }
        )
    return told


def stays_with(binned: Binned, bins: EventBins) -> Any:
    """(2 C,) how many stays have each code, those of touched events last."""
    count = 2 * len(bins.codes)
    return np.bincount(np.unique(binned.stay * count + binned.code) % max(count, 1), minlength=count)


def code_entry(place: int, bins: EventBins) -> dict[str, Any]:
    """What a code is called; a place of C or more is that of its touched events."""
    code = place % len(bins.codes)
    return {
        "code": bins.codes[code],
        "description": bins.descriptions[code],
        "touched": place >= len(bins.codes),
    }
