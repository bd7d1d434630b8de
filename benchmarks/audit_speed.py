"""The part `speed` of benchmarks/audits.py: references a minute, and RMIA's score by sorting against all pairs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from learning import TABLE, Case, best_of, data, data_loader, facts, products_per_second

from backdoor_audits.rmia import share_exceeded
from backdoor_core.contracts import Context
from backdoor_core.learning.many import Job, fit_many
from backdoor_core.params import TrainParams
from backdoor_core.privacy.references import membership_matrix
from backdoor_core.statistics import Floats
from backdoor_models.mlp import MLP, MLPOptions

ROWS = 7000
RECORDS = 10_000
GAMMA = 2.0
RUNS = 3
"""Runs of each side, by turns; the best counts."""


@dataclass(frozen=True)
class Crowd:
    """References that are fitted at once."""

    name: str
    hidden: tuple[int, ...]
    count: int
    alone: int
    """Fits that one by one is measured on: they take turns, and nothing is shared."""


CROWDS = (Crowd("64-32", (64, 32), 64, 4), Crowd("512-256-128", (512, 256, 128), 8, 2))


def references_a_minute(crowd: Crowd) -> dict[str, float]:
    """Of fitting all at once, and of one by one through a DataLoader with one and with two threads."""
    epochs = TrainParams().epochs
    model = MLP(MLPOptions(hidden=crowd.hidden), Context(root=None))
    half = Case(crowd.name, model, TABLE, ROWS // 2, epochs, ())
    (x, y), validation = data(Case(crowd.name, model, TABLE, ROWS, epochs, ()))
    member = torch.from_numpy(membership_matrix(np.arange(ROWS), crowd.count, np.random.default_rng(0)))
    chosen = [torch.nonzero(rows).ravel() for rows in member]
    jobs = [Job(x, y[rows], validation, seed, rows) for seed, rows in enumerate(chosen)]
    params = TrainParams(patience=epochs, device="cpu")

    def at_once() -> None:
        fit_many(model, TABLE, jobs, params)

    def one_by_one(threads: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(crowd.alone):
            data_loader(half, epochs)
        torch.set_num_threads(1)

    took = best_of(
        RUNS,
        {"ours": at_once, "1 thread": lambda: one_by_one(1), "2 threads": lambda: one_by_one(2)},
    )
    return {name: 60 * (crowd.count if name == "ours" else crowd.alone) / s for name, s in took.items()}


def by_loop(ratios: Floats, others: Floats) -> Floats:
    """RMIA's score from all pairs, a record at a time."""
    return np.array([np.mean(own - others >= np.log(GAMMA)) for own in ratios])


def by_matrix(ratios: Floats, others: Floats) -> Floats:
    """RMIA's score from the matrix of all pairs."""
    return np.asarray(np.mean(ratios[:, None] - others >= np.log(GAMMA), axis=1))


def by_sorting(ratios: Floats, others: Floats) -> Floats:
    """RMIA's score as the audit gives it."""
    return share_exceeded(ratios, others, GAMMA, tie_break=False)


def seconds_of_rmia() -> dict[str, float]:
    """Of each way to score `RECORDS` records against as many of the population. Stops where the scores differ."""
    ratios, others = np.random.default_rng(0).normal(size=(2, RECORDS))
    ways = {"sort and searchsorted (ours)": by_sorting, "loop over records": by_loop, "matrix of all pairs": by_matrix}
    ours, *rest = (way(ratios, others) for way in ways.values())
    if not all(np.array_equal(ours, scores) for scores in rest):
        sys.exit("the scores differ: the ways do not do the same work")

    def scored(way: Callable[[Floats, Floats], Floats]) -> Callable[[], None]:
        def score() -> None:
            way(ratios, others)

        return score

    return best_of(RUNS, {name: scored(way) for name, way in ways.items()})


def speed() -> str:
    """Both tables, beneath a line about the machine."""
    torch.set_num_threads(1)
    lines = [
        f"{facts(products_per_second())}.",
        "",
        "| network | K | ours, references a minute | DataLoader, 1 thread | DataLoader, 2 threads | times faster |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for crowd in CROWDS:
        rates = references_a_minute(crowd)
        ours, *peers = rates.values()
        figures = " | ".join(f"{rate:,.1f}" for rate in rates.values())
        lines.append(f"| {crowd.name} | {crowd.count} | {figures} | {ours / max(peers):.1f} |")
    took = seconds_of_rmia()
    first = next(iter(took.values()))
    lines += ["", "| RMIA scores | milliseconds | over ours |", "|---|---:|---:|"]
    lines += [f"| {name} | {1e3 * seconds:,.1f} | {seconds / first:,.0f} |" for name, seconds in took.items()]
    return "\n".join(lines)
