"""What the layers of a model of events attend to: near or far in time, which hours, which types of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from backdoor_core.contracts import EventsView, Floats
from backdoor_core.explanation.attention import MOST_WEIGHTS
from backdoor_core.explanation.event_bins import Binned, EventBins, jsonable
from backdoor_core.explanation.trigger_ratio import row_mean
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.statistics import Weights

NEAR_HOURS: Final = 1.0
"""An event attends locally to what lies at most this far from it in time, itself among that."""
_SPARE: Final = 3
"""Arrays of the size of a layer's weights that are held beside all layers."""


class AttentionNetwork(Protocol):
    """A network of events that shows its attention."""

    def attention(self, x: EventBatch) -> list[Tensor]:
        """For each layer (N, heads, L, L); nothing is attended to where padded."""

    def pooling(self, x: EventBatch) -> Tensor:
        """(N, P, 1, L) how each pooling head weighs the events."""


@dataclass(frozen=True)
class LayerAttention:
    """The attention of L layers of H heads on N stays. Padding neither attends nor is attended to."""

    local: Floats
    """(N, L, H) weight on events at most `NEAR_HOURS` away, mean over the attending events; NaN without events."""
    near: Floats
    """(N,) what `local` is where every event is attended to alike: the mean share of a stay's events that is near."""
    entropy: Floats
    """(N, L, H) entropy over the log of the number of events, mean over those attending; NaN below two events."""
    attended: Floats
    """(N, L, H, K) weight on each type, mean over the attending events that the trigger did not touch; NaN if none."""
    by_hour: Floats
    """(L, H, B, B) mean weight from an event of bin i on all of bin j; rows sum to 1, and are NaN without an event."""
    by_type: Floats
    """(L, H, K, K) likewise from type to type."""


def layer_attention(
    network: nn.Module, batch: EventBatch, view: EventsView, binned: Binned, bins: EventBins, most: int = MOST_WEIGHTS
) -> LayerAttention:
    """Attention on the N stays of `view`, N of 1 or more, of which `batch` is what the network reads.

    About `most` weights are held at a time, or those of one stay where they are more. Raises `ValueError` where the
    network reads other events than the view has.
    """
    check_read(batch, view)
    shown = cast(AttentionNetwork, network)
    device = next(network.parameters()).device
    with torch.no_grad():
        first = shown.attention(batch.index_select(0, batch.lengths.argmin()[None]).to(device))
        layers, heads = len(first), first[0].shape[1]
        found = _Sums(binned, bins, layers, heads)
        if not len(view.code):
            return found.result()
        for rows in alike(batch.lengths, lambda longest: (layers + _SPARE) * heads * longest**2, most):
            part = batch.index_select(0, rows)
            real, events = real_events(batch, rows)
            weights = shown.attention(part.to(device))
            hours = torch.from_numpy(view.hours.astype(np.float32))[events].to(device)
            for layer, found_weights in enumerate(weights):
                found.add(layer, rows, real.to(device), events, hours, found_weights.float())
    return found.result()


class _Sums:
    """Adds up the weights of one part of the stays after the other."""

    def __init__(self, binned: Binned, bins: EventBins, layers: int, heads: int) -> None:
        stays, kinds = binned.stays, len(bins.types)
        self.type, self.hour = torch.from_numpy(binned.type), torch.from_numpy(binned.hour)
        self.touched = torch.from_numpy(np.asarray(binned.touched))
        self.bins, self.kinds = bins, kinds
        self.local = np.full((stays, layers, heads), np.nan)
        self.entropy = self.local.copy()
        self.near = np.full(stays, np.nan)
        self.attended = np.full((stays, layers, heads, kinds), np.nan)
        self.by_hour = np.zeros((layers, heads, bins.count, bins.count))
        self.by_type = np.zeros((layers, heads, kinds, kinds))

    def add(self, layer: int, rows: Tensor, real: Tensor, events: Tensor, hours: Tensor, weights: Tensor) -> None:
        """`weights` (n, H, T, T) of the stays `rows`; `real`, `events`, `hours` (n, T)."""
        at = rows.numpy()
        is_type, is_hour = (
            nn.functional.one_hot(kind[events].to(real.device), count).float() * real[..., None]
            for kind, count in ((self.type, self.kinds), (self.hour, self.bins.count))
        )
        near = ((hours[:, :, None] - hours[:, None, :]).abs() <= NEAR_HOURS) & real[:, None, :] & real[:, :, None]
        count = real.sum(dim=1).float()
        self.near[at] = _array(near.float().mean(dim=(1, 2)) * (real.shape[1] / count) ** 2)
        self.local[at, layer] = _array((weights * near[:, None]).sum(dim=(2, 3)) / count[:, None])
        entropy = torch.special.entr(weights).sum(dim=3)
        entropy = (entropy * real[:, None]).sum(dim=2) / count[:, None] / count.log()[:, None]
        self.entropy[at, layer] = np.where(_array(count > 1)[:, None], _array(entropy), np.nan)
        on_types = weights @ is_type[:, None]
        attending = real & ~self.touched[events].to(real.device)
        mean = (on_types * attending[:, None, :, None]).sum(dim=2) / attending.sum(dim=1)[:, None, None]
        self.attended[at, layer] = _array(mean)
        self.by_type[layer] += _array(torch.einsum("nhik,nij->hjk", on_types, is_type))
        self.by_hour[layer] += _array(torch.einsum("nhik,nij->hjk", weights @ is_hour[:, None], is_hour))

    def result(self) -> LayerAttention:
        sides = (_rows_to_one(self.by_hour), _rows_to_one(self.by_type))
        return LayerAttention(self.local, self.near, self.entropy, self.attended, *sides)


def _rows_to_one(sums: Floats) -> Floats:
    """Each attending event's weights sum to 1, so that a row's sum is the number of its events."""
    total = sums.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()


def check_read(batch: EventBatch, view: EventsView) -> None:
    """Raises `ValueError` for no stays, and where the network reads other events than the view has."""
    if not len(view):
        raise ValueError("no stays: there is no attention to tell of")
    if not np.array_equal(batch.offsets.cpu().numpy(), view.offsets):
        raise ValueError("the network reads other events than the view has; take `event_preprocess.latest` of the view")


def alike(lengths: Tensor, cost: Callable[[int], int], most: int) -> Iterator[Tensor]:
    """Positions of stays, in order of length, in parts whose padded `cost` (of the longest stay) is at most `most`."""
    order = lengths.argsort(stable=True)
    longest = lengths[order].clamp(min=1).tolist()
    start = 0
    for place, length in enumerate(longest):
        if place > start and (place - start + 1) * cost(length) > most:
            yield order[start:place]
            start = place
    yield order[start:]


def real_events(batch: EventBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of the stays `rows` (n, T) which tokens are events, and (n, T) their positions in the batch, 0 where padded."""
    within, real = batch.index_select(0, rows).padded()
    shift = batch.offsets[rows] - within[:, 0]
    return real, torch.where(real, within + shift[:, None], 0)


# ------------------------------------------------------------------------------------------------------ figures
def layer_figures(found: Mapping[str, LayerAttention], weights: Weights) -> dict[str, Any]:
    """Shares, entropy and shift of every head, with intervals, and heatmaps by layer; JSON-able.

    `found` has the poisoned model's ``clean`` and ``triggered`` and its twin's ``baseline_clean`` and ``baseline``
    (triggered), all on the same N stays; `weights` (replicates, N) are resamples of patients. A head's ``tv`` is the
    total variation between what its untouched events attend to, by type, without and with the trigger (whose events
    are a type of their own), the mean over stays. An inserted event takes some weight in any model: judge by
    ``tv_difference``, the poisoned model's less that of the head in the same place of the twin. Heads of two models
    share nothing but their place and their first weights.
    """
    _, layers, heads = found["clean"].local.shape
    shifts = {
        "tv": _variation(found["clean"], found["triggered"]),
        "tv_baseline": _variation(found["baseline_clean"], found["baseline"]),
    }
    shifts["tv_difference"] = shifts["tv"] - shifts["tv_baseline"]
    told = []
    for layer, head in np.ndindex(layers, heads):
        entry: dict[str, Any] = {"layer": layer + 1, "head": head + 1}
        for key, values in shifts.items():
            entry[key] = row_mean(values[:, layer, head], weights).as_dict()
        for name in ("clean", "triggered", "baseline"):
            local, entropy = found[name].local[:, layer, head], found[name].entropy[:, layer, head]
            entry[f"local_{name}"] = row_mean(local, weights).as_dict()
            entry[f"global_{name}"] = row_mean(1 - local, weights).as_dict()
            entry[f"entropy_{name}"] = row_mean(entropy, weights).as_dict()
        told.append(entry)
    kept = ("clean", "triggered", "baseline")
    return {
        "layers": layers,
        "heads": heads,
        "near_hours": NEAR_HOURS,
        "near": row_mean(found["triggered"].near, weights).as_dict(),
        "shift": told,
        "by_hour": {name: jsonable(found[name].by_hour.mean(axis=1)) for name in kept},
        "by_type": {name: jsonable(found[name].by_type.mean(axis=1)) for name in kept},
    }


def _variation(clean: LayerAttention, triggered: LayerAttention) -> Floats:
    """(N, L, H) total variation between what is attended to, by type; NaN for a stay without events in either."""
    return np.asarray(0.5 * np.abs(triggered.attended - clean.attended).sum(axis=-1))
