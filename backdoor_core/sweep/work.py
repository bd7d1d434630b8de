"""The work of a sweep, in a process of its own: the clean models, and the cells that share them.

A cell goes through the stages of a study, `poison` to `explain`, as `dvc repro` would run them: the same functions on
files of the same names. What differs is that runs with the same clean models share them, and that models are
fitted together. Everything is handed in and handed back as values, so that a worker may be on another machine.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.errors import in_a_line
from backdoor_core.files import json_text, read_json, write_json
from backdoor_core.learning.training import Task, Trained, train_victims
from backdoor_core.learning.victim import load_victim
from backdoor_core.plugins import Catalog, discover
from backdoor_core.report.provenance import resolved_params
from backdoor_core.stages import baseline, null_scores, nulls, splits
from backdoor_core.stages.data import Shared, load_parts
from backdoor_core.stages.poisoned import load_poisoning, triggered_test, victims_rows
from backdoor_core.stages.training import save_trained
from backdoor_core.study import Study
from backdoor_core.sweep.calls import Files, Finished, Place, read_files, write_files
from backdoor_core.sweep.digest import figures_of, rocs_of
from backdoor_core.sweep.paths import CellPaths
from backdoor_core.sweep.plan import NOT_OF_CELLS, Batch, Planned

_WEIGHTS = ("model.pt", "last.pt", "checkpoints.pt")


def make_clean(planned: Planned, place: Place) -> tuple[Files, dict[str, float]]:
    """Split, clean twin, clean retrains and their scores, for all cells like `planned`; and the seconds they took."""
    seconds: dict[str, float] = {}
    with _at(place.cohort) as cohort, TemporaryDirectory(prefix="backdoor-", dir=place.work) as temporary:
        clean = Path(temporary)
        study = _study(planned, CellPaths(place.root, cohort, clean, clean))
        with _timed(seconds, "splits"):
            splits.run(study)
        shared = Shared(load_parts(study), workers=1)
        for stage in (baseline, nulls, null_scores):
            with _timed(seconds, stage.__name__.rpartition(".")[2]):
                stage.run(study, shared)
        return read_files(clean), seconds


def run_batch(batch: Batch, wanted: Sequence[str], place: Place, provenance: Mapping[str, Any]) -> list[Finished]:
    """The cells of the batch whose names are `wanted`. One that fails is recorded with its error, and the rest go on.

    All cells of a batch are poisoned and fitted, so that one has the same bytes whichever of the others are wanted:
    small networks are fitted as a stack, and the rounding of a stack depends on who is in it.
    """
    if place.clean is None:
        raise ValueError("the clean models are not there yet")
    with (
        _at(place.cohort) as cohort,
        _at(place.clean) as clean,
        TemporaryDirectory(prefix="backdoor-", dir=place.work) as temporary,
    ):
        runs = []
        for number, planned in enumerate(batch.cells):
            paths = CellPaths(place.root, cohort, clean, Path(temporary) / str(number))
            runs.append(_Run(planned, _study(planned, paths), planned.cell.name in wanted))
        shared = _shared(runs[0].study, batch.clean, place.found)
        _fit(runs, shared)
        return [run.finish(shared, provenance) for run in runs if run.wanted]


@dataclass
class _Run:
    """A cell on its way."""

    planned: Planned
    study: Study
    wanted: bool
    task: Task | None = None
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def poison(self, shared: Shared) -> None:
        """Poison the training part, and say what there is to fit."""
        with self.noting_errors(), _timed(self.seconds, "poison"):
            importlib.import_module("backdoor_core.stages.poison").run(self.study, shared)
            params, parts = self.study.params, shared.parts
            rows = victims_rows(parts.train, load_poisoning(self.study, parts.train)[0])
            fit_on = rows.view if params.preprocess.fit_on == "poisoned" else parts.train.view
            seed = seeds.integer(params.seed, "training")
            self.task = Task(train=rows, validation=parts.validation, fit_on=fit_on, seed=seed)

    def save(self, done: Trained, shared: Shared, seconds: float) -> None:
        """Write the fitted model."""
        self.seconds["train"] = seconds
        with self.noting_errors():
            save_trained(self.study, done, shared.parts.validation, self.study.paths.run)

    def finish(self, shared: Shared, provenance: Mapping[str, Any]) -> Finished:
        """The stages after the fit, and what they found."""
        folder, sweep, found = self.study.paths.run, self.study.params.sweep, _NOTHING
        with self.noting_errors():
            if self.error is None:
                wanted = {"explain": sweep.explain, "cleanse": sweep.cleanse}
                for stage in ("evaluate", "detect", "explain", "cleanse"):
                    if wanted.get(stage, True):
                        with _timed(self.seconds, stage):
                            importlib.import_module(f"backdoor_core.stages.{stage}").run(self.study, shared)
                with _timed(self.seconds, "digest"):
                    found = {
                        "figures": figures_of(folder),
                        "roc": rocs_of(folder),
                        "null_lift": _null_lift(self.study, shared),
                    }
                    write_json(folder / "run_config.json", self._config(provenance))
        status = {"status": "failed" if self.error else "done", "error": self.error}
        record = {"inputs": self.planned.inputs, **status, "axes": self.planned.cell.axes}
        if self.error:
            return Finished(self.planned.cell.name, {**record, **_NOTHING}, seconds=self.seconds)
        files = read_files(folder, leave_out=() if sweep.keep_models else _WEIGHTS)
        return Finished(self.planned.cell.name, {**record, **found}, files, self.seconds)

    def _config(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        params = self.study.params
        return {
            "params": resolved_params(self.study, NOT_OF_CELLS),
            "plugins": self.planned.lock,
            **provenance,
            "device": read_json(self.study.paths.run / "results.json")["device"],
            "threads": params.train.threads,
        }

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """What goes wrong in the block becomes the cell's error."""
        try:
            yield
        except Exception as error:  # whatever a plugin raises must not stop the other cells
            self.error = in_a_line(error)


_NOTHING: dict[str, Any] = {"figures": {}, "roc": {}, "null_lift": []}


def _fit(runs: Sequence[_Run], shared: Shared) -> None:
    """Fit the models of all runs, together; where one of them fails, one by one to find which."""
    for run in runs:
        run.poison(shared)
    sound = [run for run in runs if run.task is not None]
    try:
        _fit_together(sound, shared)
    except Exception:
        for run in sound:
            with run.noting_errors():
                _fit_together([run], shared)


def _fit_together(runs: Sequence[_Run], shared: Shared) -> None:
    if not runs:
        return
    study = runs[0].study
    started = time.perf_counter()
    trained = train_victims(study.model(), [run.task for run in runs if run.task], study.params, workers=1)
    seconds = (time.perf_counter() - started) / len(runs)
    for run, done in zip(runs, trained, strict=True):
        run.save(done, shared, seconds)


def _null_lift(study: Study, shared: Shared) -> list[float]:
    """Lift of every clean retrain over the clean twin, under the study's trigger: what chance alone gives."""
    params = study.params
    trigger = read_json(study.paths.run / "poison.json")["trigger"]

    def find() -> list[float]:
        test = shared.parts.test
        others = test.label != params.poison.target
        triggered = triggered_test(study, test.view, trigger["fitted"]).take(others)
        folders = [study.paths.baseline, *(study.paths.nulls / str(k) for k in range(params.detection.nulls))]
        victims = [load_victim(folder, study.model(), params.train.device, params.train.threads) for folder in folders]
        twin, *retrains = (float(np.mean(v.decides(triggered, params.poison.target))) for v in victims)
        return [rate - twin for rate in retrains] if others.any() else []

    return shared.once_for_all(("null lift", json_text([trigger, params.poison.target])), find)


# ------------------------------------------------------------------------------------------------- of a worker
_known: dict[str, Shared] = {}


def _shared(study: Study, key: str, folder: Path | None) -> Shared:
    """What cells with the same clean models share. A worker keeps that of one such set: the memory stays flat."""
    if key not in _known:
        _known.clear()
        _known[key] = Shared(load_parts(study), workers=1, folder=folder)
    return _known[key]


@cache
def _catalog() -> Catalog:
    return discover()


def _study(planned: Planned, paths: CellPaths) -> Study:
    return Study(planned.cell.params, _catalog(), paths)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


@contextmanager
def _at(folder: Path | Files) -> Iterator[Path]:
    """The folder on this disk."""
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory(prefix="backdoor-") as temporary:
        write_files(Path(temporary), folder)
        yield Path(temporary)
