"""Tokens a second of the event transformer: buckets and fused attention against padding all stays alike, and weights.

    python benchmarks/events.py [--stays 4000] [--sizes small base] [--repeats 3] [--write docs/performance.md]

Stays of 1 to 512 events, lengths lognormal about 60 as in the synthetic cohort with a longer tail. One training epoch
(forward, backward, Adam) with our mini-batches, which hold stays of like length and are padded to their own longest,
against the same stays in random order, each mini-batch padded to the longest stay of all. A token is an event that is
there. Then one pass without gradients: pooled answers with fused attention, and the same while every layer's attention
weights are computed. Times are CPU seconds of this process; best of `--repeats`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tables import replace_section
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import Context, EventSpec
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.inputs import in_batches, mini_batches
from backdoor_core.plugins import discover

LONGEST, TEXTS, WIDTH = 512, 500, 768
BATCH = {"small": 256, "base": 32}
STATICS = tuple(f"s{k}" for k in range(40))


def make_batch(stays: int, rng: np.random.Generator) -> EventBatch:
    """Random stays of random lengths."""
    lengths = np.clip(np.exp(rng.normal(np.log(60), 0.7, stays)), 1, LONGEST).astype(np.int64)
    lengths[0] = LONGEST
    events = int(lengths.sum())
    days = np.concatenate([np.sort(rng.random(n)) for n in lengths])
    numbers = np.column_stack([rng.normal(size=events), np.ones(events), days]).astype(np.float32)
    return EventBatch(
        statics=torch.from_numpy(rng.normal(size=(stays, len(STATICS))).astype(np.float32)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        entry=torch.from_numpy(rng.integers(0, TEXTS, events)),
        numbers=torch.from_numpy(numbers),
        types=torch.from_numpy(rng.integers(0, 5, TEXTS)),
        texts=torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(TEXTS, WIDTH)).astype(np.float32))),
    )


class PaddedToMost(EventBatch):
    """The same stays, each mini-batch padded to the longest stay of all."""

    def padded(self) -> tuple[Tensor, Tensor]:
        within = torch.arange(LONGEST)
        real = within < self.lengths[:, None]
        return torch.where(real, self.offsets[:-1, None] + within, 0), real


def network_of(size: str) -> nn.Module:
    catalog = discover()
    options = catalog.resolve("model", "event_transformer", {"size": size})
    model = catalog.get("model", "event_transformer").component(options, Context(root=Path()))
    torch.manual_seed(0)
    return model.build(EventSpec(tuple("ABCDE"), WIDTH, STATICS))


def epoch(network: nn.Module, batch: EventBatch, labels: Tensor, order: list[Tensor]) -> None:
    """One pass of training over mini-batches given as positions."""
    optimizer = Adam(network.parameters(), 1e-3, 0.0)
    network.train()
    for rows in order:
        loss = binary_cross_entropy_with_logits(network(batch.index_select(0, rows)), labels[rows])
        optimizer.step(torch.autograd.grad(loss, optimizer.parameters, allow_unused=True, materialize_grads=True))


def seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the quickest of some runs."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def measured(size: str, stays: int, repeats: int) -> list[tuple[str, float, float]]:
    """What was run, tokens a second, and how many times as fast as what it is compared with."""
    batch = make_batch(stays, np.random.default_rng(0))
    padded = PaddedToMost(**{name: getattr(batch, name) for name in batch.__dataclass_fields__})
    labels = torch.from_numpy((np.random.default_rng(1).random(stays) < 0.12).astype(np.float32))
    tokens, network, rows = len(batch.entry), network_of(size), BATCH[size]
    order = torch.Generator().manual_seed(0)
    buckets = list(mini_batches(batch, rows, order))
    shuffled = list(torch.split(torch.randperm(stays, generator=order), rows))
    part = replace(batch)
    ours = seconds(lambda: epoch(network, part, labels, buckets), repeats)
    theirs = seconds(lambda: epoch(network, padded, labels, shuffled), 1)
    network.eval()
    with torch.no_grad():
        alone, alike = network(batch.index_select(0, shuffled[0])), network(padded.index_select(0, shuffled[0]))
        if not torch.allclose(alone, alike, atol=1e-4):
            raise SystemExit("padding changes what the network says")
        plain = seconds(lambda: in_batches(network, batch), repeats)
        weighed = seconds(
            lambda: in_batches(lambda x: torch.stack([w.sum(dim=(1, 2, 3)) for w in network.attention(x)]).T, batch),
            repeats,
        )
    return [
        (f"{size}, training, padded to the longest of all", tokens / theirs, 1.0),
        (f"{size}, training, ours", tokens / ours, theirs / ours),
        (f"{size}, answers with every layer's weights", tokens / weighed, 1.0),
        (f"{size}, answers, fused attention", tokens / plain, weighed / plain),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=4000)
    parser.add_argument("--sizes", nargs="*", choices=tuple(BATCH), default=list(BATCH))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the section `events` of this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| event transformer | events a second | ratio |", "|---|---|---|"]
    for size in args.sizes:
        stays = args.stays if size == "small" else max(1, args.stays // 40)
        for words, rate, ratio in measured(size, stays, args.repeats):
            lines.append(f"| {words} | {rate:,.0f} | {ratio:.1f} |")
            print(lines[-1], flush=True)
    if args.write:
        replace_section(args.write, "events", "\n".join(lines))


if __name__ == "__main__":
    main()
