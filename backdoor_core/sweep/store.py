"""The cells and shared models of sweeps on disk, below ``runs/``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json, replacing_directory
from backdoor_core.sweep.calls import Files, Finished, write_files
from backdoor_core.sweep.paths import RUNS
from backdoor_core.sweep.plan import Planned

_KEY = 16
"""Characters of a hash that name a folder."""


class Store:
    """Reads and writes them; every folder is put in place as a whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / RUNS

    def cohort(self, key: str) -> Path:
        """Folder of a cohort."""
        return self.folder / "shared" / "cohorts" / key[:_KEY]

    def clean(self, planned: Planned) -> Path:
        """Folder of the clean models that a cell shares."""
        return self.folder / "shared" / "clean" / planned.cell.model / planned.clean[:_KEY]

    def found(self, planned: Planned) -> Path:
        """Folder of figures that all cells of the same clean models need, while the sweep runs."""
        return self.folder / "shared" / "found" / planned.clean[:_KEY]

    def forget_found(self) -> None:
        """Remove all of those."""
        shutil.rmtree(self.folder / "shared" / "found", ignore_errors=True)

    @property
    def work(self) -> Path:
        """Folder of what workers write on their way to a cell, while the sweep runs."""
        return self.folder / "shared" / "work"

    def forget_work(self) -> None:
        """Remove it, with what a killed sweep has left there."""
        shutil.rmtree(self.work, ignore_errors=True)

    def cell(self, name: str) -> Path:
        """Folder of a cell."""
        return self.folder / name

    def record(self, planned: Planned) -> dict[str, Any] | None:
        """The cell's record where it is finished and was made of the same inputs, else None."""
        path = self.cell(planned.cell.name) / "cell.json"
        if not path.is_file():
            return None
        try:
            record: dict[str, Any] = read_json(path)
        except BackdoorError:
            return None
        return record if record.get("inputs") == planned.inputs and record.get("status") == "done" else None

    def write_cell(self, done: Finished) -> None:
        """Put a finished or failed cell in place of what was there."""
        self._write(self.cell(done.name), done.files, done.record, done.seconds, "cell.json")

    def write_clean(self, planned: Planned, files: Files, seconds: Mapping[str, float]) -> None:
        """Put clean models in place."""
        record = {"clean": planned.clean, "model": planned.cell.model, "seed": planned.cell.seed}
        self._write(self.clean(planned), files, record, seconds, "clean.json")

    def timings(self, folder: Path) -> dict[str, float]:
        """Seconds by stage of a finished cell, or of clean models."""
        path = folder / "timings.json"
        found: dict[str, float] = read_json(path) if path.is_file() else {}
        return found

    def _write(
        self, folder: Path, files: Files, record: Mapping[str, Any], seconds: Mapping[str, float], name: str
    ) -> None:
        with replacing_directory(folder) as temporary:
            write_files(temporary, files)
            (temporary / name).write_text(json_text(record), encoding="utf-8")
            rounded = {stage: round(value, 4) for stage, value in seconds.items()}
            (temporary / "timings.json").write_text(json_text(rounded), encoding="utf-8")
