"""`backdoor sweep`: the grid's cells, their statistics and the report."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from backdoor_core.console import say
from backdoor_core.study import Study, idle_options
from backdoor_core.sweep.estimate import estimate
from backdoor_core.sweep.grid import idle_rules
from backdoor_core.sweep.lock import only_one
from backdoor_core.sweep.paths import BENCHMARKS
from backdoor_core.sweep.plan import plan
from backdoor_core.sweep.runner import Outcome, run_cells
from backdoor_core.sweep.store import Store


def run(study: Study) -> int:
    """Make what is missing, then summary, statistics, figures and report in ``benchmarks/<name>/``.

    Returns how many cells failed.
    """
    _warn(study)
    planned, store = plan(study), Store(study.paths.root)
    with only_one(store.folder):
        outcome = run_cells(study, planned, store, meanwhile=_results)
        out = study.paths.root / BENCHMARKS / study.params.sweep.name
        _results().write_results(study, planned, outcome.records, store, out)
    _say_outcome(outcome, out)
    return len(outcome.failed)


def dry_run(study: Study) -> None:
    """Print the cells, what is finished, and how long the rest may take."""
    _warn(study)
    planned, store = plan(study), Store(study.paths.root)
    missing = []
    for one in planned:
        finished = store.record(one) is not None
        print(f"{'finished' if finished else 'to do   '}  {one.cell.name}")
        if not finished:
            missing.append(one)
    print(estimate(study, planned, missing, store))


def _warn(study: Study) -> None:
    for line in idle_options(study):
        say(f"warning: {line}")
    for rule in idle_rules(study.params):
        say(f"warning: params.yaml: {rule} leaves out no cell")


def _results() -> ModuleType:
    """Loaded while the workers work: what draws and computes statistics takes a second and a half to load."""
    return importlib.import_module("backdoor_core.sweep.results")


def _say_outcome(outcome: Outcome, out: Path) -> None:
    total, failed = len(outcome.records), outcome.failed
    say(f"sweep: {total - len(failed):,} of {total:,} cells are finished, {len(failed):,} failed")
    for name in failed[:10]:
        say(f"  {name}: {outcome.records[name]['error']}")
    if len(failed) > 10:
        say(f"  and {len(failed) - 10:,} more: summary.csv names them")
    say(f"sweep: {out / 'report.html'}")
