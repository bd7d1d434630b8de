"""How fast models are fitted: one at a time and many at once, beside the usual ways and the arithmetic floor.

    OMP_NUM_THREADS=1 python benchmarks/learning.py [--quick]

Every figure is the wall time of the best of several interleaved runs, in milliseconds a model and epoch, training and
validation together. The data are random: time does not depend on them. A ratio above 1 says that the bench is faster.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from backdoor_core.contracts import Context, InputSpec, TorchModel
from backdoor_core.learning.loop import fit
from backdoor_core.learning.many import Job, fit_many
from backdoor_core.params import TrainParams
from backdoor_models.lstm import LSTM
from backdoor_models.mlp import MLP, MLPOptions
from backdoor_models.tcn import TCN

TABLE = InputSpec(tuple(f"f{i}" for i in range(60)))
SERIES = InputSpec(tuple(f"f{i}" for i in range(30)), blocks=3, steps=48)
VALIDATION = 1000


@dataclass(frozen=True)
class Case:
    """One architecture and how much of it is measured."""

    name: str
    model: TorchModel
    spec: InputSpec
    rows: int
    epochs: int
    """Of a single fit."""
    many: tuple[tuple[int, int], ...]
    """(K, epochs of each of the K fits)."""
    hidden: tuple[int, ...] | None = None
    """Hidden layers of scikit-learn's network of the same shape."""


@dataclass(frozen=True)
class Line:
    """One line of the table; times in milliseconds a model and epoch."""

    case: str
    what: str
    ours: float
    peers: dict[str, float]
    floor: float


def cases(quick: bool) -> list[Case]:
    context = Context(root=None)
    small, large = (64, 32), (512, 256, 128)
    rows, short = (2000, 500) if quick else (7000, 1000)
    found = []
    for name, hidden, dropout, epochs, many in (
        ("mlp 64-32, dropout 0.1", small, 0.1, 5, ((8, 20), (64, 20))),
        ("mlp 64-32, no dropout", small, 0.0, 5, ((8, 20), (64, 20))),
        ("mlp 512-256-128, dropout 0.1", large, 0.1, 2, ((8, 3), (64, 2))),
        ("mlp 512-256-128, no dropout", large, 0.0, 2, ()),
    ):
        model = MLP(MLPOptions(hidden=hidden, dropout=dropout), context)
        counts = tuple((k if not quick else min(k, 8), e) for k, e in many)
        # scikit-learn's network knows no dropout.
        found.append(Case(name, model, TABLE, rows, epochs, tuple(dict.fromkeys(counts)), None if dropout else hidden))
    for kind in (LSTM, TCN):
        found.append(Case(kind.name, kind(kind.Options(), context), SERIES, short, 1, ((8, 2),)))
    return found


# ------------------------------------------------------------------------------------------------- what is timed
def data(case: Case) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shape = (case.spec.channels,) if case.spec.steps is None else (case.spec.steps, case.spec.channels)
    x = torch.randn(case.rows + VALIDATION, *shape, generator=draw)
    y = (torch.rand(len(x), generator=draw) < 0.2).float()
    return (x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :])


def training(epochs: int) -> TrainParams:
    return TrainParams(epochs=epochs, patience=epochs, device="cpu", threads=1)


def ours(case: Case, epochs: int) -> None:
    train, validation = data(case)
    fit(case.model, case.spec, train, validation, training(epochs), seed=0)


def data_loader(case: Case, epochs: int) -> None:
    """The usual loop: a Dataset read item by item, a DataLoader that stacks the items, torch's Adam as it comes."""
    train, (x, y) = data(case)
    network = case.model.build(case.spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(*train), batch_size=256, shuffle=True)
    for _ in range(epochs):
        network.train()
        total = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(network(inputs), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        network.eval()
        with torch.no_grad():
            binary_cross_entropy_with_logits(network(x), y).item()


def scikit_learn(case: Case, epochs: int) -> None:
    # Here, for each worker process imports this module, and has no use for scikit-learn.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    (x, y), (z, _) = data(case)
    network = MLPClassifier(case.hidden, batch_size=256, max_iter=epochs, tol=0.0, n_iter_no_change=epochs)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(x.numpy(), y.numpy())
        network.predict_proba(z.numpy())


def jobs(case: Case, count: int) -> list[Job]:
    (x, y), validation = data(case)
    return [Job(x, y, validation, seed) for seed in range(count)]


def one_by_one(case: Case, count: int, epochs: int) -> None:
    for job in jobs(case, count):
        fit(case.model, case.spec, job.train(), job.validation, training(epochs), job.seed)


# ------------------------------------------------------------------------------------------------- how it is timed
def best_of(runs: int, functions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of the best of `runs` calls of each, by turns, so that a busy machine slows all alike."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(runs):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def products_per_second() -> float:
    """Floating-point operations a second of one thread in a large float32 matrix product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = best_of(20, {"product": lambda: torch.mm(a, b)})["product"]
    return 2 * 1024**3 / seconds


def floor(case: Case, rate: float) -> float:
    """Milliseconds an epoch of one model would take if it were matrix products alone, at `rate` operations a second."""
    from torch.utils.flop_counter import FlopCounterMode

    train, validation = data(case)
    network = case.model.build(case.spec).train()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(validation[0][:256])
    with FlopCounterMode(display=False) as both:
        network(train[0][:256]).sum().backward()
    operations = [counter.get_total_flops() / 256 for counter in (both, forward)]
    if case.name == LSTM.name:
        # The counter does not see inside the fused cell: 2 operations a weight and hour, 6 with backward.
        weights = sum(p.numel() for p in network.parameters()) * (case.spec.steps or 1)
        operations = [6 * weights, 2 * weights]
    return (operations[0] * case.rows + operations[1] * VALIDATION) / rate * 1e3


def single(case: Case, rate: float, runs: int) -> Line:
    functions = {"ours": lambda: ours(case, case.epochs), "DataLoader": lambda: data_loader(case, case.epochs)}
    if case.hidden is not None:
        functions["scikit-learn"] = lambda: scikit_learn(case, case.epochs)
    took = {name: seconds / case.epochs * 1e3 for name, seconds in best_of(runs, functions).items()}
    return Line(case.name, "one fit", took.pop("ours"), took, floor(case, rate))


def several(case: Case, rate: float, loader: float, workers: int | None) -> list[Line]:
    lines = []
    for count, epochs in case.many:
        # Of 64, one by one is measured on 8: they take turns, and nothing is shared.
        alone = min(count, 8)
        took = best_of(
            2,
            {
                "many": lambda c=count, e=epochs: fit_many(
                    case.model, case.spec, jobs(case, c), training(e), workers=workers
                ),
                "one by one": lambda a=alone, e=epochs: one_by_one(case, a, e),
            },
        )
        each = took["many"] / count / epochs * 1e3
        peers = {"one by one": took["one by one"] / alone / epochs * 1e3, "DataLoader": loader}
        lines.append(Line(case.name, f"K = {count}, {epochs} epochs", each, peers, floor(case, rate)))
    return lines


# ------------------------------------------------------------------------------------------------- what is printed
def facts(rate: float) -> str:
    name = platform.processor()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{name}, {os.cpu_count()} CPUs, load {load}; torch {torch.__version__}, Python {platform.python_version()}; "
        f"1 thread a process; matrix products {rate / 1e9:.0f} GFLOP/s a thread"
    )


def table(lines: Sequence[Line]) -> Table:
    peers = ("DataLoader", "scikit-learn", "one by one")
    shown = Table(title="Milliseconds a model and epoch, and how many times faster the bench is")
    for column in ("model", "what", "ours", *peers, "floor", "of floor"):
        shown.add_column(column, justify="left" if column in ("model", "what") else "right", no_wrap=True)
    for line in lines:
        ratios = [f"{line.peers[p]:.1f} ({line.peers[p] / line.ours:.1f}x)" if p in line.peers else "" for p in peers]
        share = f"{line.floor / line.ours:.0%}"
        shown.add_row(line.case, line.what, f"{line.ours:.1f}", *ratios, f"{line.floor:.1f}", share)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, no K = 64: about half a minute")
    parser.add_argument("--workers", type=int, help="processes of fit_many (default: one for each CPU)")
    parser.add_argument("--only", default="", help="only architectures whose name starts so, like `mlp 64`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=150)
    rate = products_per_second()
    console.print(facts(rate), highlight=False)
    lines = []
    for case in cases(options.quick):
        if not case.name.startswith(options.only):
            continue
        lines.append(single(case, rate, 3))
        lines += several(case, rate, lines[-1].peers["DataLoader"], options.workers)
        console.print(f"{case.name} measured", style="dim")
    console.print(table(lines))
    console.print("The floor is of one thread; K models on several processes can pass it. The first K of a run")
    console.print("pays for the start of the processes.")


if __name__ == "__main__":
    main()
