"""A grid of 54 runs as one sweep, against the same runs as separate processes; and 10,000 finished cells.

    python benchmarks/sweep.py [--sample 54] [--work DIR]
    python benchmarks/sweep.py --finished 10000

The grid: mlp, three triggers, six rates, three seeds and two detectors on the default synthetic cohort. The separate
runs are `train`, `evaluate` and `detect` of each cell, one run after the other and two at a time, with cohort, splits,
clean models and poison made beforehand; `--sample` times so many of them and scales up. *Fits* are the seconds that
workers spent in fitting, of the clean models too; beside them, what the same epochs take by a plain loop of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import yaml

from backdoor_core.files import write_json
from backdoor_core.study import load_study
from backdoor_core.sweep.calls import Finished
from backdoor_core.sweep.plan import Planned, plan
from backdoor_core.sweep.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]
GRID = {
    "models": ["mlp"],
    "triggers": ["rare_value", "missingness", "hybrid"],
    "rates": [0.002, 0.005, 0.01, 0.02, 0.05, 0.1],
    "seeds": [42, 43, 44],
    "explain": False,
}
WORKERS = 2
FITS = ("train", "baseline", "nulls")


def write_params(folder: Path, **sweep: Any) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params |= {
        "detectors": ["activation_clustering", "spectral_signatures"],
        "repairs": [],
        "explainers": [],
        "audits": [],
    }
    params["sweep"] |= {**GRID, "workers": WORKERS, **sweep}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def backdoor(folder: Path, *arguments: str) -> float:
    """Seconds of one process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "backdoor_core", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - started


def swept(folder: Path) -> tuple[float, float, int]:
    """Wall seconds of the sweep, seconds in fits, and the memory of its largest process in MiB."""
    seconds = backdoor(folder, "sweep")
    timings = [json.loads(path.read_text()) for path in (folder / "runs").rglob("timings.json")]
    fits = sum(found.get(stage, 0.0) for found in timings for stage in FITS)
    return seconds, fits, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def by_a_plain_loop(folder: Path, fits: int) -> float:
    """Seconds of as many epochs as all `fits` took, by the usual calls of torch: one thread, tensors in memory."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    from backdoor_core.contracts import Context, InputSpec
    from backdoor_models.mlp import MLP

    torch.set_num_threads(1)
    network = MLP(MLP.Options(), Context(root=None)).build(InputSpec(tuple(f"f{i}" for i in range(60))))
    optimizer = torch.optim.Adam(network.parameters())
    x, y = torch.randn(8500, 60), (torch.rand(8500) < 0.12).float()
    took = []
    for _ in range(5):
        started = time.perf_counter()
        network.train()
        for rows in torch.split(torch.randperm(7000), 256):
            optimizer.zero_grad()
            cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            cross_entropy(network(x[7000:]), y[7000:]).item()
        took.append(time.perf_counter() - started)
    # The clean retrains leave no curve: they count as the others on average.
    epochs = [len(path.read_text().splitlines()) - 1 for path in (folder / "runs").rglob("learning_curve.csv")]
    return min(took) * float(np.mean(epochs)) * fits


def keep_cohort(folder: Path) -> None:
    """Remove all that a sweep made but its cohort, which the separate processes are given as well."""
    for path in (folder / "runs").iterdir():
        if path.name != "shared":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "runs" / "shared" / "clean")


def separate(folder: Path, store: Store, one: Planned) -> float:
    """Seconds of the three processes of one run."""
    root = folder / one.cell.name.replace("/", "-")
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(one.cell.params.model_dump(mode="json"), sort_keys=False))
    write_json(root / "plugins.lock.json", one.lock)
    clean, cell = store.clean(one), store.cell(one.cell.name)
    (root / "data" / "cohort").symlink_to(store.cohort(one.cohort).resolve())
    shutil.copy(clean / "splits.json", root / "data")
    (root / "run").mkdir()
    for name in ("baseline", "nulls"):
        (root / "run" / name).symlink_to((clean / name).resolve())
    shutil.copy(clean / "null_scores.parquet", root / "run")
    for name in ("poison.json", "poison.parquet", "trigger_mask.npy"):
        shutil.copy(cell / name, root / "run")
    seconds = sum(backdoor(root, stage) for stage in ("train", "evaluate", "detect"))
    theirs, ours = (json.loads((f / "results_eval.json").read_text()) for f in (root / "run", cell))
    if theirs != ours:
        sys.exit(f"{one.cell.name}: the sweep and the separate processes differ")
    return seconds


def compare(folder: Path, sample: int) -> None:
    write_params(folder)
    study = load_study(folder)
    planned, store = plan(study), Store(folder)
    ours, fits, memory = swept(folder)
    chosen = planned[:: max(1, len(planned) // sample)][:sample]
    print(f"{len(planned)} runs, {WORKERS} workers; separate processes were timed on {len(chosen)} runs")
    print(f"sweep, with cohort, clean models, report {ours:7.1f} s")
    for at_once in (1, WORKERS):
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as lanes:
            list(lanes.map(partial(separate, folder / f"separate-{at_once}", store), chosen))
        theirs = (time.perf_counter() - started) * len(planned) / len(chosen)
        print(
            f"separate processes, {at_once} at a time          {theirs:7.1f} s: {theirs / ours:.1f} times the sweep's"
        )
    print(
        f"fits, of {WORKERS} workers' seconds               {fits:7.1f} s: {fits / (WORKERS * ours):.0%} of the sweep's"
    )
    print(f"sweep over fits alone                    {WORKERS * ours / fits:7.2f}")
    clean = len({one.clean for one in planned}) * (1 + study.params.detection.nulls)
    plain = by_a_plain_loop(folder, len(planned) + clean)
    print(f"the same fits by a plain loop            {plain:7.1f} s: sweep over these {WORKERS * ours / plain:.2f}")
    keep_cohort(folder)
    ours, fits, _ = swept(folder)
    print(f"the same, given the cohort               {WORKERS * ours / fits:7.2f}, {ours:.1f} s")
    print(f"largest process                          {memory:7,} MiB")


def finished(folder: Path, cells: int) -> None:
    """Cells copied from a real one with other figures, marked as finished."""
    write_params(folder, triggers=["rare_value"], rates=[0.02], seeds=[42])
    backdoor(folder, "sweep")
    store = Store(folder)
    (real,) = plan(load_study(folder))
    template = store.record(real)
    assert template is not None
    rates = [round(float(rate), 6) for rate in np.geomspace(0.001, 0.3, 20)]
    seeds = list(range(42, 42 + cells // (2 * len(rates))))
    write_params(folder, triggers=["rare_value", "missingness"], rates=rates, seeds=seeds)
    rng = np.random.default_rng(0)
    planned = plan(load_study(folder))
    for one in planned:
        noise = rng.normal(0, 0.02)
        figures = {name: _moved(value, noise) for name, value in template["figures"].items()}
        record = {**template, "inputs": one.inputs, "axes": one.cell.axes, "figures": figures}
        store.write_cell(Finished(one.cell.name, record, {}, store.timings(store.cell(real.cell.name))))
    print(f"{len(planned):,} finished cells, {len(template['figures'])} figures each")
    print(f"summary, statistics, figures and report  {backdoor(folder, 'sweep'):7.1f} s")
    page = folder / "benchmarks" / "default" / "report.html"
    print(f"report.html                              {page.stat().st_size / 2**20:7.1f} MiB")


def _moved(value: Any, noise: float) -> Any:
    return value + noise if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=54, help="separate runs that are timed")
    parser.add_argument("--finished", type=int, help="time this many finished cells instead")
    parser.add_argument("--work", type=Path, help="new folder to work in; a temporary one by default")
    given = parser.parse_args(arguments)
    folder = given.work or Path(mkdtemp(prefix="backdoor-sweep-"))
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    try:
        finished(folder, given.finished) if given.finished else compare(folder, given.sample)
    finally:
        if given.work is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
