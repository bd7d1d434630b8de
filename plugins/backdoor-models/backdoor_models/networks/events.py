"""A transformer whose tokens are the events of a stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from backdoor_core.contracts import EventSpec
from backdoor_core.learning.event_batch import NUMBERS, EventBatch
from backdoor_models.networks.attention import Attention
from backdoor_models.networks.feed_forward import hidden_layers
from backdoor_models.networks.headed import HeadedNetwork

GROUPS = ("type", "text", "value", "time")
"""What the projection of an event is a sum of, beside its bias and position."""
_SLOWEST = 10_000.0


@dataclass(frozen=True)
class EventShape:
    """Size of the network."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    pooling_heads: int
    hidden: tuple[int, ...]
    encoder_dropout: float
    dropout: float
    recency_weight: float
    recency_halflife: float
    snapshot_every: int


@dataclass(frozen=True)
class Tokens:
    """Projected events of N stays, padded: the input of the encoder."""

    values: Tensor
    """(N, L, width)."""
    real: Tensor
    """(N, L) bool, False where padded. A stay without events has one token that stands for that."""
    days: Tensor
    """(N, L) since ICU admission."""


class EncoderLayer(nn.Module):
    """Attention among events, then a GELU layer, each of the normalized tokens and added to the tokens as they are.

    Pre-norm, after Xiong et al. 2020 (arXiv 2002.04745, figure 1b): it trains without a warm-up of the learning rate.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attend_norm, self.hidden_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attention(width, heads)
        self.forth, self.back = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """(N, L, width), likewise."""
        tokens = tokens + self.dropout(self.attend(self.attend_norm(tokens), real=real))
        hidden = self.back(functional.gelu(self.forth(self.hidden_norm(tokens))))
        return tokens + self.dropout(hidden)

    def weights(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """(N, heads, L, L) attention weights."""
        return self.attend.weights(self.attend_norm(tokens), real=real)


class EventTransformerNetwork(HeadedNetwork):
    """Projected events, encoder layers, attention pooling by a learned query, static columns, hidden layers."""

    def __init__(self, spec: EventSpec, shape: EventShape) -> None:
        super().__init__(shape.hidden[-1])
        self.shape, self.types = shape, len(spec.types)
        self.project = nn.Linear(len(spec.types) + spec.text_width + len(NUMBERS), shape.width)
        # A type is one 1, a text a vector of length 1, a number about 1: each is to begin as large as a position. The
        # usual bound, of the many columns for the text, would leave all of them a thirtieth of it.
        nn.init.uniform_(self.project.weight, -1, 1)
        self.no_event = nn.Parameter(torch.empty(shape.width).uniform_(-1, 1) / math.sqrt(shape.width))
        self.layers = nn.ModuleList(
            EncoderLayer(shape.width, shape.heads, shape.feed_forward, shape.encoder_dropout)
            for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        self.query = nn.Parameter(torch.empty(shape.width).uniform_(-1, 1) / math.sqrt(shape.width))
        self.pool = Attention(shape.width, shape.pooling_heads)
        self.body = hidden_layers(shape.width + len(spec.statics), shape.hidden, shape.dropout)
        self.event_head = nn.Linear(shape.width, 1) if shape.recency_weight else None
        self.batches = 0
        self.snapshots = torch.zeros(0, shape.pooling_heads, len(spec.types))

    def embed(self, x: EventBatch) -> Tensor:
        """(N, hidden[-1]) activations of the last hidden layer."""
        return self.classify(self.encode(self.tokens(x)), x.statics)

    def tokens(self, x: EventBatch) -> Tokens:
        """Each event's projection and position.

        A linear map of the type (one-hot), the text's embedding and the numbers, plus a sinusoidal position. Events
        of the same time have the same position, so that the order in which they are filed does not matter.
        """
        place, real = x.padded()
        of_type, of_text, of_numbers = self._weights()
        # Each distinct text is projected once, not once an event.
        table = functional.linear(x.texts, of_text, self.project.bias) + self._by_type(x.types, of_type)
        events = table[x.entry] + functional.linear(x.numbers, of_numbers)
        days = x.numbers[:, NUMBERS.index("hours")]
        if not len(events):
            events, days = events.new_zeros(1, self.shape.width), days.new_zeros(1)
        at = torch.where(real, days[place], 0)
        values = events[place] + self._position(at, real)
        empty = ~real.any(dim=1)
        values = torch.where(empty[:, None, None], self.no_event, values)
        # All tokens of an empty stay are the same one, and it reads the first.
        first = torch.arange(real.shape[1], device=real.device) == 0
        return Tokens(values, real | (empty[:, None] & first), at)

    def contributions(self, x: EventBatch) -> Tensor:
        """(N, L, groups, width): what type, text, value and time add to each token; 0 where padded.

        The rest of a token is the bias and its position, which do not depend on what the event is.
        """
        place, real = x.padded()
        if not len(x.entry):
            return x.numbers.new_zeros(*real.shape, len(GROUPS), self.shape.width)
        of_type, of_text, of_numbers = self._weights()
        hours = NUMBERS.index("hours")
        values = [k for k in range(len(NUMBERS)) if k != hours]
        found = torch.stack(
            [
                self._by_type(x.types, of_type)[x.entry],
                functional.linear(x.texts, of_text)[x.entry],
                functional.linear(x.numbers[:, values], of_numbers[:, values]),
                functional.linear(x.numbers[:, [hours]], of_numbers[:, [hours]]),
            ],
            dim=1,
        )
        return found[place] * real[..., None, None]

    def encoded(self, tokens: Tokens) -> Tensor:
        """(N, L, width) after the encoder layers, normalized."""
        values, real = tokens.values, _mask(tokens.real)
        for layer in self.layers:
            values = layer(values, real)
        out: Tensor = self.norm(values)
        return out

    def encode(self, tokens: Tokens) -> Tensor:
        """(N, width): the stay, pooled over its events."""
        return self._pooled(self.encoded(tokens), tokens.real)

    def classify(self, pooled: Tensor, statics: Tensor) -> Tensor:
        """(N, hidden[-1]) from the pooled events and the static columns (N, S)."""
        embedded: Tensor = self.body(torch.cat([pooled, statics], dim=1))
        return embedded

    def attention(self, x: EventBatch) -> list[Tensor]:
        """For each layer (N, heads, L, L); nothing is attended to where padded."""
        tokens = self.tokens(x)
        values, real, weights = tokens.values, _mask(tokens.real), []
        for layer in self.layers:
            weights.append(layer.weights(values, real))
            values = layer(values, real)
        return weights

    def pooling(self, x: EventBatch) -> Tensor:
        """(N, pooling heads, 1, L): how the learned query weighs the events; sums to 1 over a stay that has some."""
        tokens = self.tokens(x)
        values = self.encoded(tokens)
        return self.pool.weights(values, self._queries(values), _mask(tokens.real))

    def loss(self, x: EventBatch, labels: Tensor, pos_weight: Tensor | None) -> Tensor:
        """Cross-entropy of the stay and, where `recency_weight` is above 0, of its events, later ones weighing more.

        Each event's encoded vector predicts the label too, by a linear unit of its own; an event h hours before the
        stay's last one has the weight 2 ** (-h / halflife), the weights of a stay summing to 1.
        """
        tokens = self.tokens(x)
        encoded = self.encoded(tokens)
        self._snapshot(x, tokens, encoded)
        logits = self.head(self.classify(self._pooled(encoded, tokens.real), x.statics))
        loss = functional.binary_cross_entropy_with_logits(logits.float(), labels, pos_weight=pos_weight)
        if self.event_head is None:
            return loss
        hours = 24 * (torch.where(tokens.real, tokens.days, -math.inf).amax(1, keepdim=True) - tokens.days)
        weight = torch.where(tokens.real, torch.exp2(-hours / self.shape.recency_halflife), 0)
        by_event = functional.binary_cross_entropy_with_logits(
            self.event_head(encoded).squeeze(-1).float(),
            labels[:, None].expand_as(weight),
            pos_weight=pos_weight,
            reduction="none",
        )
        by_stay = (weight * by_event).sum(1) / weight.sum(1)
        return loss + self.shape.recency_weight * by_stay.mean()

    def get_extra_state(self) -> Tensor:
        """(1 + snapshots, pooling heads, types): how many batches were met, in the first, and the snapshots.

        Part of the state_dict, so that a fit that goes on after a kill ends with the same ones.
        """
        count = torch.full((1, *self.snapshots.shape[1:]), float(self.batches))
        return torch.cat([count, self.snapshots])

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.batches = int(state[0].max()) if state[0].numel() else 0
        self.snapshots = state[1:].clone()

    def _snapshot(self, x: EventBatch, tokens: Tokens, encoded: Tensor) -> None:
        """Every so many batches: how much of each pooling head's weight falls on events of each type."""
        self.batches += self.training
        every = self.shape.snapshot_every
        if not (self.training and every and self.batches % every == 0):
            return
        with torch.no_grad():
            weights = self.pool.weights(encoded, self._queries(encoded), _mask(tokens.real))[:, :, 0]
            place, real = x.padded()
            found = torch.zeros(weights.shape[1], self.types + 1)
            if len(x.entry):
                kind = torch.where(real, x.types[x.entry][place], -1) + 1
                spread = kind[:, None].expand_as(weights)
                by_type = weights.new_zeros(*weights.shape[:2], self.types + 1).scatter_add_(2, spread, weights)
                found = by_type.mean(dim=0).cpu()
            self.snapshots = torch.cat([self.snapshots, found[None, :, 1:]])

    def _pooled(self, encoded: Tensor, real: Tensor) -> Tensor:
        pooled: Tensor = self.pool(encoded, self._queries(encoded), _mask(real))
        return pooled.squeeze(1)

    def _queries(self, values: Tensor) -> Tensor:
        return self.query.expand(len(values), 1, -1)

    def _weights(self) -> Sequence[Tensor]:
        """The columns of the projection for the type, the text and the numbers."""
        weight = self.project.weight
        return torch.tensor_split(weight, [self.types, weight.shape[1] - len(NUMBERS)], dim=1)

    def _by_type(self, types: Tensor, weight: Tensor) -> Tensor:
        """(V, width): a column of `weight` for each type; 0 for an event of no known type."""
        one_hot = functional.one_hot(types.clamp(min=-1) + 1, self.types + 1)[:, 1:]
        return functional.linear(one_hot.to(weight.dtype), weight)

    def _position(self, days: Tensor, real: Tensor) -> Tensor:
        """(N, L, width) sine and cosine of each event's rank in time (Vaswani et al. 2017, section 3.5)."""
        later = torch.zeros_like(days)
        later[:, 1:] = (days[:, 1:] != days[:, :-1]).to(days.dtype) * real[:, 1:]
        rank = later.cumsum(dim=1)
        half = (self.shape.width + 1) // 2
        rates = _SLOWEST ** (-torch.arange(half, device=days.device, dtype=days.dtype) / half)
        angle = rank[..., None] * rates
        return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., : self.shape.width]


def _mask(real: Tensor) -> Tensor | None:
    """None where no token is padded: attention without a mask is faster."""
    return None if bool(real.all()) else real
