"""Runs a sweep: what is missing is made, what is finished is left alone, and what fails is recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backdoor_core.console import Advance, progress, say
from backdoor_core.errors import in_a_line
from backdoor_core.report.provenance import cohort_hashes, git_state, versions_of
from backdoor_core.stages import cohort, convert
from backdoor_core.study import Study
from backdoor_core.sweep.calls import Finished, Place, make_clean, read_files, run_batch
from backdoor_core.sweep.executors import Executor, make_executor
from backdoor_core.sweep.paths import CellPaths
from backdoor_core.sweep.plan import Batch, Planned, batches
from backdoor_core.sweep.store import Store


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: records by cell, in the order of the grid."""

    records: Mapping[str, Mapping[str, Any]]
    found: int
    """Cells that were finished before."""

    @property
    def failed(self) -> list[str]:
        """Names of the cells that failed."""
        return [name for name, record in self.records.items() if record["status"] == "failed"]


def run_cells(
    study: Study, planned: Sequence[Planned], store: Store, meanwhile: Callable[[], object] = lambda: None
) -> Outcome:
    """Make what is missing of the planned cells. The records are of all of them.

    `meanwhile` is called once, when the workers have something to do.
    """
    records: dict[str, Mapping[str, Any] | None] = {one.cell.name: store.record(one) for one in planned}
    missing = [name for name, record in records.items() if record is None]
    found = len(planned) - len(missing)
    if missing:
        # Of a sweep that was killed: what it found may be of other code than this one's.
        store.forget_found()
        store.forget_work()
        # It may be there still: the workers of a killed sweep live for a second more, and write.
        store.work.mkdir(parents=True, exist_ok=True)
        executor = make_executor(study.params.sweep)
        try:
            refused = _build_cohorts(study, planned, store)
            if len(refused) == len({one.cohort for one in planned}):
                raise next(iter(refused.values()))
            say(f"sweep: {len(planned):,} cells, {found:,} of them finished before")
            with progress("sweep", len(missing)) as advance:
                made = _Work(study, store, executor, advance, refused).run(planned, set(missing), meanwhile)
        finally:
            executor.close()
        records |= made
    else:
        # Finished cells do without; what is to be exported is checked against it.
        for key, error in _build_cohorts(study, planned, store).items():
            say(f"warning: the cohort {store.cohort(key)} cannot be built anew: {in_a_line(error)}")
    store.forget_found()
    store.forget_work()
    return Outcome({name: record for name, record in records.items() if record is not None}, found)


def _build_cohorts(study: Study, planned: Sequence[Planned], store: Store) -> dict[str, Exception]:
    """Build those that are not there; what went wrong, by key."""
    refused: dict[str, Exception] = {}
    for key, one in {one.cohort: one for one in planned}.items():
        folder = store.cohort(key)
        if (folder / "card.json").is_file():
            continue
        # The cohort is drawn with the study's own seed, whatever the cell's.
        params = one.cell.params.model_copy(update={"seed": study.params.seed})
        own = replace(study, params=params, paths=CellPaths(study.paths.root, folder, folder, folder))
        try:
            if one.lock["raw"]["conversion"] is not None:
                convert.run(own)
            cohort.run(own)
        except Exception as error:  # whatever a source raises must not stop the cells of other cohorts
            refused[key] = error
    return refused


class _Work:
    """The calls to workers: clean models first, then the cells that share them."""

    def __init__(
        self, study: Study, store: Store, executor: Executor, advance: Advance, refused: Mapping[str, Exception]
    ) -> None:
        self.study, self.store, self.executor, self.advance = study, store, executor, advance
        self.refused = refused
        """Why cohorts are not there, by key."""
        self.records: dict[str, Mapping[str, Any]] = {}
        self.cohorts: dict[str, Any] = {}
        self.provenance: dict[str, Mapping[str, Any]] = {}

    def run(
        self, planned: Sequence[Planned], missing: set[str], meanwhile: Callable[[], object]
    ) -> dict[str, Mapping[str, Any]]:
        """Make the missing cells; their records."""
        waiting: dict[str, list[Batch]] = defaultdict(list)
        for batch in batches(planned):
            if any(one.cell.name in missing for one in batch.cells):
                waiting[batch.clean].append(batch)
        under_way = 0
        for of_same in waiting.values():
            first = of_same[0].cells[0]
            if error := self.refused.get(first.cohort):
                for batch in of_same:
                    self._fail(batch, missing, error)
            elif (self.store.clean(first) / "clean.json").is_file():
                under_way += self._give(of_same, missing)
            else:
                self.executor.submit(("clean", first.clean), make_clean, first, self._place(first))
                under_way += 1
        meanwhile()
        while under_way:
            (kind, key), answer = self.executor.next_done()
            under_way -= 1
            if kind == "clean":
                of_same = waiting[key]
                if isinstance(answer, BaseException):
                    for batch in of_same:
                        self._fail(batch, missing, answer)
                    continue
                self.store.write_clean(of_same[0].cells[0], *answer)
                under_way += self._give(of_same, missing)
            elif isinstance(answer, BaseException):
                self._fail(key, missing, answer)
            else:
                for done in answer:
                    self._keep(done)
        return self.records

    def _give(self, of_same: Sequence[Batch], missing: set[str]) -> int:
        """Submit the batches of one set of clean models, which are there; how many."""
        first = of_same[0].cells[0]
        place = self._place(first, clean=True)
        for batch in of_same:
            wanted = [one.cell.name for one in batch.cells if one.cell.name in missing]
            self.executor.submit(("batch", batch), run_batch, batch, wanted, place, self._provenance(first))
        return len(of_same)

    def _place(self, planned: Planned, *, clean: bool = False) -> Place:
        """Paths for a worker of this machine; contents for one that may be elsewhere, the cohort's sent once."""
        root, folder = self.study.paths.root.resolve(), self.store.cohort(planned.cohort).resolve()
        models = self.store.clean(planned).resolve() if clean else None
        if not self.executor.by_value:
            return Place(root, folder, models, self.store.found(planned).resolve(), self.store.work.resolve())
        if planned.cohort not in self.cohorts:
            self.cohorts[planned.cohort] = self.executor.share(read_files(folder))
        return Place(root, self.cohorts[planned.cohort], self.executor.share(read_files(models)) if models else None)

    def _provenance(self, planned: Planned) -> Mapping[str, Any]:
        if planned.cohort not in self.provenance:
            root = self.study.paths.root
            self.provenance[planned.cohort] = {
                "git": git_state(root),
                "versions": versions_of(planned.lock),
                "data": cohort_hashes(self.store.cohort(planned.cohort)),
            }
        return self.provenance[planned.cohort]

    def _keep(self, done: Finished) -> None:
        self.store.write_cell(done)
        self.records[done.name] = done.record
        if done.record["error"]:
            self.advance(f"{done.name}: failed: {done.record['error']}")
            return
        lift = done.record["figures"]["asr_lift"]
        self.advance(f"{done.name}: lift {'none' if lift is None else f'{lift:.3f}'}")

    def _fail(self, batch: Batch, missing: set[str], error: BaseException) -> None:
        """Record an error that befell a batch as a whole."""
        for one in batch.cells:
            if one.cell.name in missing:
                record = {"inputs": one.inputs, "status": "failed", "error": in_a_line(error), "axes": one.cell.axes}
                self._keep(Finished(one.cell.name, {**record, "figures": {}, "roc": {}, "null_lift": []}))
