"""How the pooling heads of a model of events weigh them: when, which types, and how alike the heads are."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from backdoor_core.contracts import EventsView, Floats
from backdoor_core.explanation.event_attention import AttentionNetwork, alike, check_read, real_events
from backdoor_core.explanation.event_bins import Binned, EventBins, jsonable
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.inputs import EVENTS_AT_ONCE
from backdoor_core.statistics import ratio


def pooling_weights(network: nn.Module, batch: EventBatch, view: EventsView) -> Floats:
    """(E, P) weight of each event in each pooling head; those of a stay that has events sum to 1.

    Raises `ValueError` for no stays, and where the network reads other events than the view has.
    """
    check_read(batch, view)
    shown = cast(AttentionNetwork, network)
    device = next(network.parameters()).device
    parts, places = [], []
    with torch.no_grad():
        for rows in alike(batch.lengths, lambda longest: longest, EVENTS_AT_ONCE):
            weights = shown.pooling(batch.index_select(0, rows).to(device)).float().cpu()
            real, events = real_events(batch, rows)
            parts.append(weights[:, :, 0].transpose(1, 2)[real])
            places.append(events[real])
    found = np.zeros((len(view.code), parts[0].shape[1]))
    found[torch.cat(places).numpy()] = torch.cat(parts).numpy()
    return found


def sequence_importance(weights: Floats, binned: Binned, bins: EventBins) -> dict[str, Floats]:
    """Pooling weight by hour: ``by_hour`` (P, B) of each head, ``combined`` (B,) their mean, ``alike`` (B,).

    Means over the stays that have events, so that each sums to 1. ``alike`` is what any head would give that weighs
    all of a stay's events alike: the share of them in each hour. NaN where no stay has events.
    """
    by_hour = _by(weights, binned, binned.hour, bins.count)
    uniform = 1 / binned.lengths[binned.stay]
    alike_weights = _by(uniform[:, None], binned, binned.hour, bins.count)[0]
    return {"by_hour": by_hour, "combined": by_hour.mean(axis=0), "alike": alike_weights}


def head_specialization(weights: Floats, binned: Binned, bins: EventBins) -> dict[str, Floats]:
    """What tells the P pooling heads apart, as means over the stays that have events.

    ``entropy`` (P,) over the log of the number of events (1: all alike, 0: one event; stays of two or more events),
    ``by_type`` (P, K) weight on each type, ``type_alike`` (K,) each type's share of the events, ``similarity`` (P, P)
    cosine between two heads' weights of the same stay.
    """
    heads = weights.shape[1]
    return {
        "entropy": _entropy(weights, binned),
        "by_type": _by(weights, binned, binned.type, len(bins.types)),
        "type_alike": _by(1 / binned.lengths[binned.stay][:, None], binned, binned.type, len(bins.types))[0],
        "similarity": _similarity(weights, binned) if len(weights) else np.full((heads, heads), np.nan),
    }


def pooling_figures(weights: Floats, binned: Binned, bins: EventBins) -> dict[str, Any]:
    """`sequence_importance` and `head_specialization` of one model on one view; JSON-able."""
    found = sequence_importance(weights, binned, bins) | head_specialization(weights, binned, bins)
    return {"heads": weights.shape[1]} | {name: jsonable(values) for name, values in found.items()}


def _by(weights: Floats, binned: Binned, by: Any, count: int) -> Floats:
    """(P, count) weight in each bin, mean over the stays that have events."""
    stays = int((binned.lengths > 0).sum())
    if not stays:
        return np.full((weights.shape[1], count), np.nan)
    return np.stack([binned.sums(column, by, count).sum(axis=0) for column in weights.T]) / stays


def _entropy(weights: Floats, binned: Binned) -> Floats:
    lengths = binned.lengths
    if not (lengths > 1).any():
        return np.full(weights.shape[1], np.nan)
    terms = -weights * np.log(np.where(weights > 0, weights, 1))
    one = np.zeros_like(binned.stay)
    sums = np.stack([binned.sums(column, one, 1)[:, 0] for column in terms.T])[:, lengths > 1]
    return np.asarray((sums / np.log(lengths[lengths > 1])).mean(axis=1))


def _similarity(weights: Floats, binned: Binned) -> Floats:
    heads, one = weights.shape[1], np.zeros_like(binned.stay)
    products = np.empty((heads, heads, binned.stays))
    for i, j in np.ndindex(heads, heads):
        products[i, j] = binned.sums(weights[:, i] * weights[:, j], one, 1)[:, 0]
    size = np.sqrt(np.einsum("iin->in", products))
    cosine = ratio(products, size[:, None] * size[None])
    return np.asarray(cosine[..., binned.lengths > 0].mean(axis=-1))
