"""From events in clinical units to what a network reads: limits and scales by code, text embeddings, static columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from backdoor_core.cohort.scaling import center_and_scale, to_normal, training_quantiles
from backdoor_core.cohort.static_columns import StaticEncoder, fit_static_encoder
from backdoor_core.cohort.text_store import EmbeddingStore
from backdoor_core.contracts import Booleans, EventModel, EventSpec, EventsView
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.params import PreprocessParams

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""(M, width) embeddings of M texts."""

_HOURS_A_DAY = np.float32(24)
_QUANTILES = 101
"""Kept of each code where the scaling is `quantile`."""
_UNKNOWN = (-np.inf, np.inf, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class EventPreprocessor:
    """Constants by code, learned from training rows; `batch` applies them and learns nothing."""

    max_events: int
    types: tuple[str, ...]
    """Types of the training part's events, sorted: the one-hot part of an event."""
    limits: Mapping[str, tuple[float, float, float, float]]
    """Lowest value, highest value, center and scale of each code that has values; infinite where nothing is clipped."""
    quantiles: Mapping[str, Sequence[float]]
    """Training quantiles of each code, lowest first, where the scaling is `quantile`."""
    statics: StaticEncoder
    text_width: int
    embed: Embed
    """The frozen text encoder; no part of what was learned."""

    @property
    def spec(self) -> EventSpec:
        """The shape of a batch."""
        return EventSpec(types=self.types, text_width=self.text_width, statics=self.statics.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the static columns: events have no columns."""
        return self.statics.sources

    def batch(self, view: EventsView) -> EventBatch:
        """The stays of `view`, of each its last `max_events` events.

        An event's text is the description of its code and, after a colon, its own text. A value beyond the limits of
        its code is clipped to them; of a code without values in the training part it passes unscaled.
        """
        view = latest(view, self.max_events)
        entry, types, texts = self._entries(view)
        measured = ~np.isnan(view.value)
        numbers = np.column_stack([self._scaled(view), measured, view.hours / _HOURS_A_DAY])
        return EventBatch(
            statics=torch.from_numpy(self.statics.encode(view.statics, len(view))),
            offsets=torch.from_numpy(view.offsets.astype(np.int64)),
            entry=torch.from_numpy(entry),
            numbers=torch.from_numpy(numbers.astype(np.float32)),
            types=torch.from_numpy(types),
            texts=torch.from_numpy(_of_length_one(self.embed(texts).reshape(-1, self.text_width))),
        )

    def _entries(self, view: EventsView) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
        """(E,) which distinct pair of code and text each event has, and of each pair the type and the whole text."""
        # Few texts, often repeated: to sort them all, as `np.unique` would, takes twenty times as long.
        words = sorted(set(view.text))
        number = {text: k for k, text in enumerate(words)}
        word = np.fromiter(map(number.__getitem__, view.text), np.int64, len(view.text))
        pairs, entry = np.unique(view.code.astype(np.int64) * max(len(words), 1) + word, return_inverse=True)
        place = {kind: k for k, kind in enumerate(self.types)}
        codes = pairs // max(len(words), 1)
        types = [place.get(view.codes[code].partition("//")[0], -1) for code in codes]
        own = (words[pair] for pair in pairs % max(len(words), 1))
        texts = [event_text(view.descriptions[code], text) for code, text in zip(codes, own, strict=True)]
        return entry.astype(np.int64), np.array(types, dtype=np.int64), texts

    def _scaled(self, view: EventsView) -> NDArray[np.float64]:
        """(E,) values in the scale of their code, 0 where there is none."""
        constants = np.array([self.limits.get(code, _UNKNOWN) for code in view.codes], dtype=np.float64).reshape(-1, 4)
        low, high, center, scale = constants[view.code].T
        scaled = (np.clip(view.value, low, high) - center) / scale
        for number, code in enumerate(view.codes):
            if code in self.quantiles:
                of = view.code == number
                scaled[of] = to_normal(view.value[of], np.array(self.quantiles[code]))
        return np.where(np.isnan(view.value), 0.0, scaled)

    def as_json(self) -> dict[str, Any]:
        """JSON-able content; infinite limits (no clipping) become null."""
        return {
            "max_events": self.max_events,
            "types": list(self.types),
            "codes": {
                code: [number if np.isfinite(number) else None for number in found]
                for code, found in self.limits.items()
            },
            "quantiles": {code: list(found) for code, found in self.quantiles.items()},
            "statics": self.statics.as_json(),
            "text_width": self.text_width,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], embed: Embed) -> Self:
        """The inverse of `as_json`."""
        limits = {}
        for code, (low, high, center, scale) in content["codes"].items():
            limits[code] = (-np.inf if low is None else low, np.inf if high is None else high, center, scale)
        return cls(
            max_events=content["max_events"],
            types=tuple(content["types"]),
            limits=limits,
            quantiles=content["quantiles"],
            statics=StaticEncoder.from_json(content["statics"]),
            text_width=content["text_width"],
            embed=embed,
        )


def fit_event_preprocessor(train: EventsView, params: PreprocessParams, model: EventModel) -> EventPreprocessor:
    """Learn limits and scales of each code's values, the types and the static encoders from the rows of `train`.

    The outlier rule, the scaling and its quantiles are those of `params`, by code in place of by feature; what is not
    measured is no event, so `missing` has nothing to do. Raises `BackdoorError` for an outlier rule of plausible
    ranges, which codes of events do not have.
    """
    if params.outliers in ("clip", "null"):
        raise BackdoorError(
            f"params.yaml: preprocess.outliers is {params.outliers}, but codes of events have no plausible range; "
            f"set winsorize or keep for model {model.name}"
        )
    # By code, each code's values together: one pass however many codes there are.
    order = np.argsort(view_code := train.code, kind="stable")
    starts = np.searchsorted(view_code[order], np.arange(len(train.codes) + 1))
    limits, quantiles = {}, {}
    for number, code in enumerate(train.codes):
        values = train.value[order[starts[number] : starts[number + 1]]].astype(np.float64)
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        low, high = -np.inf, np.inf
        if params.outliers == "winsorize":
            low, high = np.quantile(values, [params.lower, params.upper])
        values = np.clip(values, low, high)
        limits[code] = (float(low), float(high), *center_and_scale(values, params.scaling))
        if params.scaling == "quantile":
            quantiles[code] = training_quantiles(values, _QUANTILES).tolist()
    used = np.unique(train.code)
    encoder, embed = text_embedding(model)
    return EventPreprocessor(
        max_events=model.max_events,
        types=tuple(sorted({train.codes[code].partition("//")[0] for code in used})),
        limits=limits,
        quantiles=quantiles,
        statics=fit_static_encoder(train.statics),
        text_width=encoder,
        embed=embed,
    )


def text_embedding(model: EventModel) -> tuple[int, Embed]:
    """Width and function of the model's text encoder, through the study's store of embeddings."""
    encoder = model.text_encoder()
    store = EmbeddingStore(model.context.root / "data" / "text_embeddings")
    return encoder.width, lambda texts: store.embed(encoder, texts)


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


def event_text(description: str, text: str) -> str:
    """What the text encoder is given of an event."""
    return f"{description}: {text}" if text else description


def latest(view: EventsView, most: int) -> EventsView:
    """Of each stay the last `most` events, those nearest to the time of prediction."""
    if not len(view.code) or int(np.diff(view.offsets).max()) <= most:
        return view
    return view.keep(among_latest(view, most))


def among_latest(view: EventsView, most: int) -> Booleans:
    """(E,) which events `latest` keeps."""
    left: Booleans = view.offsets[1:][view.stay_of_event] - np.arange(len(view.code)) <= most
    return left
