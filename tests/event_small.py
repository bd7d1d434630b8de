"""A few stays as events, a tiny network that reads them, and what a test computes of it by hand."""

import math
import zlib

import numpy as np
import torch

from backdoor_core.cohort.static_columns import fit_static_encoder
from backdoor_core.contracts import EventsView
from backdoor_core.explanation.event_attribution import GROUPS, EventAttribution
from backdoor_core.learning.event_preprocess import EventPreprocessor
from backdoor_core.learning.victim import TorchVictim
from backdoor_models.networks.events import EventShape, EventTransformerNetwork

CODES = ("LAB//lactate", "LAB//sodium", "DRUG//aspirin", "TRIGGERED//insulin")
WIDTH = 5


def small_view(lengths, seed=0, codes=CODES):
    """Stays of the given numbers of events within 10 hours, in order of time."""
    rng = np.random.default_rng(seed)
    events = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    view = EventsView(
        stay_id=np.arange(len(lengths)) + 500,
        offsets=offsets,
        codes=codes,
        descriptions=tuple(code.partition("//")[2] for code in codes),
        code=rng.integers(0, len(codes), events).astype(np.int32),
        hours=rng.uniform(0, 10, events).astype(np.float32),
        value=np.where(rng.random(events) < 0.3, np.nan, rng.normal(size=events)).astype(np.float32),
        text=np.array(["", "positive"], dtype=object)[rng.integers(0, 2, events)],
        statics={
            "age": np.arange(len(lengths)) + 40,
            "sex": np.array(["F", "M"] * len(lengths), dtype=object)[: len(lengths)],
        },
    )
    return view.in_order()


def inserted(view):
    """The same stays with one more event at hour 0, and which events those are."""
    count = len(view)
    at = view.offsets[:-1]
    columns = {
        "code": np.insert(view.code, at, len(view.codes) - 1),
        "hours": np.insert(view.hours, at, 0.0),
        "value": np.insert(view.value, at, 99.0),
        "text": np.insert(view.text, at, ""),
    }
    offsets = view.offsets + np.arange(count + 1)
    touched = np.zeros(offsets[-1], dtype=bool)
    touched[offsets[:-1]] = True
    return EventsView(view.stay_id, offsets, view.codes, view.descriptions, **columns, statics=view.statics), touched


def embed(texts):
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, WIDTH)


def small_victim(view, seed=0, layers=2, scale=3.0):
    """An untrained network of 2 attention heads and 2 pooling heads, its weights large enough to tell events apart."""
    preprocessor = EventPreprocessor(
        max_events=64,
        types=tuple(sorted({code.partition("//")[0] for code in view.codes})),
        limits={},
        quantiles={},
        statics=fit_static_encoder(view.statics),
        text_width=WIDTH,
        embed=embed,
    )
    shape = EventShape(
        width=8, layers=layers, heads=2, feed_forward=6, pooling_heads=2, hidden=(4,), encoder_dropout=0.0, dropout=0.0,
        recency_weight=0.0, recency_halflife=6.0,
        snapshot_every=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EventTransformerNetwork(preprocessor.spec, shape).eval()
    with torch.no_grad():
        for layer in [*network.layers, network]:
            attend = layer.pool if layer is network else layer.attend
            attend.query.weight *= scale
    return TorchVictim(preprocessor=preprocessor, network=network)


def by_hand(victim, view, stay):
    """Of one stay: (layers, heads, n, n) attention, (P, n) pooling weights, and the scores before their softmax."""
    network = victim.network
    one = victim.inputs(view.take(np.array([stay])))
    with torch.no_grad():
        values = network.tokens(one).values[0]
        weights = []
        for layer in network.layers:
            normed = layer.attend_norm(values)
            scores = _scores(layer.attend, normed, normed)
            weights.append(_softmax(scores))
            values = layer(values[None], None)[0]
        encoded = network.norm(values)
        pooled = _scores(network.pool, network.query[None], encoded)[:, 0]
    return np.array(weights), _softmax(pooled), pooled, encoded.numpy()


def _scores(attend, asking, read):
    heads, width = attend.heads, read.shape[-1] // attend.heads
    query = asking.numpy() @ attend.query.weight.numpy().T + attend.query.bias.numpy()
    key = read.numpy() @ attend.key.weight.numpy().T + attend.key.bias.numpy()
    parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
    return np.array([query[:, part] @ key[:, part].T / math.sqrt(width) for part in parts])


def _softmax(scores):
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def attribution(view, seed=0, size=1.0, statics=2):
    rng = np.random.default_rng(seed)
    events = size * rng.normal(size=(len(view.code), len(GROUPS)))
    columns = size * rng.normal(size=(len(view), statics))
    return EventAttribution(events.astype(np.float32), columns.astype(np.float32))
