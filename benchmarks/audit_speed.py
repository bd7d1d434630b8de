"""The part `speed` of benchmarks/audits.py: references a minute, and RMIA's score by sorting against all pairs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from learning import TABLE, Case, best_of, data, data_loader, facts, products_per_second

from backdoor_audits.rmia import share_exceeded
from backdoor_core.contracts import Context
from backdoor_core.learning.many import Job, fit_many
from backdoor_core.params import TrainParams
from backdoor_core.privacy.halves import membership_matrix
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
    dropout: float = MLPOptions().dropout


CROWDS = (
    Crowd("64-32", (64, 32), 64, 4),
    Crowd("64-32, no dropout", (64, 32), 64, 4, dropout=0.0),
    Crowd("512-256-128", (512, 256, 128), 8, 2),
)


@dataclass(frozen=True)
class Cost:
    """Of one reference, in seconds; the best run of several."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Of this process, its running children and those children's ended ones, which are the pool's workers. Linux."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            # The name, in brackets, may hold spaces; utime, stime, cutime and cstime are fields 14 to 17.
            after_name = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in after_name[11:15])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def costs(sides: dict[str, tuple[Callable[[], None], int]]) -> dict[str, Cost]:
    """Of each side, a function and how many references it fits; by turns, so that a busy machine slows all alike."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, (function, fits) in sides.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            function()
            runs[name].append(((time.perf_counter() - wall) / fits, (cpu_seconds() - cpu) / fits))
    return {name: Cost(*(min(values) for values in zip(*found, strict=True))) for name, found in runs.items()}


def cost_of_references(crowd: Crowd) -> dict[str, Cost]:
    """Of fitting all at once, and of one by one through a DataLoader in one process of one thread."""
    epochs = TrainParams().epochs
    model = MLP(MLPOptions(hidden=crowd.hidden, dropout=crowd.dropout), Context(root=None))
    half = Case(crowd.name, model, TABLE, ROWS // 2, epochs, ())
    (x, y), validation = data(Case(crowd.name, model, TABLE, ROWS, epochs, ()))
    member = torch.from_numpy(membership_matrix(np.arange(ROWS), crowd.count, np.random.default_rng(0)))
    chosen = [torch.nonzero(rows).ravel() for rows in member]
    jobs = [Job(x, y[rows], validation, seed, rows) for seed, rows in enumerate(chosen)]
    params = TrainParams(patience=epochs, device="cpu")

    def at_once() -> None:
        fit_many(model, TABLE, jobs, params)

    def one_by_one() -> None:
        for _ in range(crowd.alone):
            data_loader(half, epochs)

    return costs({"ours": (at_once, crowd.count), "DataLoader": (one_by_one, crowd.alone)})


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
        f"{facts(products_per_second())}.".replace("; torch", ";\ntorch"),
        "",
        "| network | K | references a minute, ours | one by one, DataLoader | times as many | CPU seconds each, ours "
        "| one by one | over ours |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for crowd in CROWDS:
        found = cost_of_references(crowd)
        ours, peer = found["ours"], found["DataLoader"]
        rates = f"{60 / ours.wall:,.1f} | {60 / peer.wall:,.1f} | {peer.wall / ours.wall:.1f}"
        cpu = f"{ours.cpu:.2f} | {peer.cpu:.2f} | {peer.cpu / ours.cpu:.1f}"
        lines.append(f"| {crowd.name} | {crowd.count} | {rates} | {cpu} |")
        print(lines[-1], file=sys.stderr, flush=True)
    took = seconds_of_rmia()
    first = next(iter(took.values()))
    lines += ["", "| RMIA scores | milliseconds | over ours |", "|---|---:|---:|"]
    lines += [f"| {name} | {1e3 * seconds:,.1f} | {seconds / first:,.0f} |" for name, seconds in took.items()]
    return "\n".join(lines)
