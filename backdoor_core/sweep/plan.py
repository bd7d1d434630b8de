"""What a sweep has to do: which cells share what, and what each depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import backdoor_core
from backdoor_core.errors import BackdoorError
from backdoor_core.files import sha256_of
from backdoor_core.params import OPTION_MAPS, Params
from backdoor_core.study import Study, check_compatible, plugin_lock
from backdoor_core.sweep.grid import Cell, cells_of
from backdoor_core.validation import did_you_mean

_NO_PART = ("report", "language", "privacy", "testing", "sharing", "sweep", "cli.py", "listing.py")
"""Of the core, what no figure of a cell comes from, but for `_PARTS`."""
_PARTS = (("sweep", "work.py"), ("sweep", "digest.py"), ("privacy", "canaries.py"), ("privacy", "one_run.py"))
_OF_POISON = ("trigger", "poison", "explain", "explainers", "repairs")
"""Params that the clean models do not depend on."""
NOT_OF_CELLS = ("sweep", "notes", "audit", "audits", *OPTION_MAPS.values())
"""Params that no cell depends on; the options of its components stand in the lock."""
_BATCH, _LAST = 4, 2
"""Cells of a batch; of those at the end of the grid. More would be fitted together a little faster, and leave workers
without work at the end."""


@dataclass(frozen=True)
class Planned:
    """A cell with the hash of everything that its figures depend on."""

    cell: Cell
    lock: Mapping[str, Any]
    inputs: str
    clean: str
    """Key of the clean models that it shares with others."""
    cohort: str
    """Key of its cohort."""


@dataclass(frozen=True)
class Batch:
    """Cells that are fitted together: of the same clean models and trigger."""

    cells: tuple[Planned, ...]

    @property
    def clean(self) -> str:
        """Key of their clean models."""
        return self.cells[0].clean


def plan(study: Study) -> list[Planned]:
    """Every cell of the study's sweep.

    Raises `BackdoorError` where a cell's components cannot work together, and where the grid varies an option of a
    component that is not installed.
    """
    _check_axes(study)
    locks = _Locks(study)
    return [_planned(cell, locks(cell), study.params) for cell in cells_of(study.params)]


def _check_axes(study: Study) -> None:
    """Cells that differ in an option that no component reads would all be the same."""
    kinds = {key: kind for kind, key in OPTION_MAPS.items()}
    sweep = study.params.sweep
    of = [("parameters", sweep.parameters), *((f"include[{k}]", given) for k, given in enumerate(sweep.include))]
    for where, keys in of:
        for key in keys:
            section, _, rest = key.partition(".")
            name = rest.partition(".")[0]
            # A section in place of a key is refused where the cells are made.
            if section not in kinds or not name:
                continue
            known = [registration.name for registration in study.catalog.registrations(kinds[section])]
            if name not in known:
                hint = did_you_mean(name, known) or "."
                raise BackdoorError(
                    f"params.yaml: sweep.{where}: {key}: no installed {kinds[section]} is named {name!r}{hint} "
                    f"Installed: {', '.join(known) or 'none'}"
                )


def batches(cells: Sequence[Planned]) -> list[Batch]:
    """The cells by clean models and trigger, at most `_BATCH` at once, fewer at the end; they depend on the grid alone.

    Those of one set of clean models stand together, and next to each other stand other triggers and other rates: what
    belongs to a trigger or to a rate alone is then found by one worker, while the next finds another's.
    """
    together: dict[str, dict[str, list[Planned]]] = {}
    for planned in cells:
        together.setdefault(planned.clean, {}).setdefault(planned.cell.trigger, []).append(planned)
    sizes = [_BATCH] * (len(together) - 1) + [_LAST]
    return [
        batch
        for by_trigger, size in zip(together.values(), sizes, strict=False)
        for batch in _in_turn(list(by_trigger.values()), size)
    ]


def _in_turn(by_trigger: Sequence[Sequence[Planned]], size: int) -> list[Batch]:
    pieces = [[Batch(tuple(found[a:b])) for a, b in pairwise(_cuts(len(found), size))] for found in by_trigger]
    most = max(len(found) for found in pieces)
    turns = [(k, (turn + k) % most) for turn in range(most) for k in range(len(pieces))]
    return [pieces[k][piece] for k, piece in turns if piece < len(pieces[k])]


def _cuts(count: int, size: int) -> list[int]:
    pieces = -(-count // size)
    return [round(count * k / pieces) for k in range(pieces + 1)]


class _Locks:
    """The plugin lock of each cell, found once for all that choose alike."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.known: dict[str, Mapping[str, Any]] = {}

    def __call__(self, cell: Cell) -> Mapping[str, Any]:
        # What the checks and the lock look at; neither the seed nor the rate is part of it.
        params = cell.params.model_dump(mode="json", exclude={"seed", "poison", "sweep"})
        key = digest(params)
        if key not in self.known:
            study = replace(self.study, params=cell.params)
            try:
                check_compatible(replace(study, params=_that_run(cell.params)))
            except BackdoorError as error:
                raise BackdoorError(f"{error} (sweep: {cell.name}; sweep.exclude leaves cells out)") from None
            self.known[key] = plugin_lock(study)
        return self.known[key]


def _that_run(params: Params) -> Params:
    """The params without the components of stages that the sweep leaves out: they need not work together."""
    runs = {"repairs": params.sweep.cleanse, "explainers": params.sweep.explain, "audits": False}
    return params.model_copy(update={key: () for key, wanted in runs.items() if not wanted})


def _planned(cell: Cell, lock: Mapping[str, Any], base: Params) -> Planned:
    # One cohort for all seeds, drawn with the study's own: a seed is another split and training, not other patients.
    cohort = digest([base.seed, cell.params.inclusion.model_dump(mode="json"), lock["cohort"], lock["raw"], _code()])
    params = cell.params.model_dump(mode="json", exclude=set(NOT_OF_CELLS))
    clean_params = {key: value for key, value in params.items() if key not in _OF_POISON}
    clean = digest([cohort, clean_params, lock["model"], lock["detectors"], _code(), _versions()])
    sweep = cell.params.sweep
    own: list[Any] = [clean, {key: params[key] for key in ("trigger", "poison")}, lock["trigger"]]
    if sweep.explain:
        own += ["explain", params["explain"], params["explainers"], lock["explainers"]]
    if sweep.cleanse:
        own += ["cleanse", params["repairs"], lock["repairs"], cell.params.audit.canaries]
    return Planned(cell, lock, digest(own), clean, cohort)


def digest(content: Any) -> str:
    """SHA-256 of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """Of the core's source, as far as figures come from it."""
    package = Path(backdoor_core.__file__).parent
    files = [p for p in package.rglob("*.py") if p.relative_to(package).parts[0] not in _NO_PART]
    files += [package / room / name for room, name in _PARTS]
    return digest({file.relative_to(package).as_posix(): sha256_of(file) for file in files})


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn", "torch")}
