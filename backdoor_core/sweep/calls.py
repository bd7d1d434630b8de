"""What a sweep asks of its workers, and what they hand back.

This much is all that the process which gives out the work needs: torch is loaded by the workers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backdoor_core.sweep.plan import Batch, Planned

Files = dict[str, bytes]
"""Contents by path below a folder."""


@dataclass(frozen=True)
class Place:
    """Where the work finds what it needs."""

    root: Path
    """Folder of the study: options may name files below it."""
    cohort: Path | Files
    clean: Path | Files | None = None
    """Folder of the clean models, once they are made; or what is in them, for a worker without this disk."""
    found: Path | None = None
    """Folder where workers put what all cells of the same clean models need; none without this disk."""
    work: Path | None = None
    """Folder for what a worker writes on its way; the system's own without this disk."""


@dataclass(frozen=True)
class Finished:
    """What became of one cell."""

    name: str
    record: dict[str, Any]
    """The content of cell.json."""
    files: Files = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage; those of models fitted together in equal parts."""


def make_clean(planned: Planned, place: Place) -> tuple[Files, dict[str, float]]:
    """`work.make_clean`, in the worker."""
    from backdoor_core.sweep import work

    return work.make_clean(planned, place)


def run_batch(batch: Batch, wanted: Sequence[str], place: Place, provenance: Mapping[str, Any]) -> list[Finished]:
    """`work.run_batch`, in the worker."""
    from backdoor_core.sweep import work

    return work.run_batch(batch, wanted, place, provenance)


def write_files(folder: Path, files: Files) -> None:
    """Put the files into the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_files(folder: Path, leave_out: Sequence[str] = ()) -> Files:
    """What is in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if name not in leave_out}
