"""Share without patients: figures, scores and provenance of a study or a sweep as one zip file.

What goes in is on a list, and everything else stays: `study` and `sweep` say which files, `shapes`
which keys of them, `small` which groups are too few. `check` then reads what is about to leave anew and
refuses whatever could be a patient's; then no file is left behind. See docs/sharing.md.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backdoor_core.console import say
from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json, replacing
from backdoor_core.sharing.check import Check, features_of, names_here
from backdoor_core.sharing.same import check_same_study, has_own_notes
from backdoor_core.sharing.small import SMALLEST_CELL
from backdoor_core.sharing.study import collect_study
from backdoor_core.sharing.sweep import LEFT_OUT, sweep_members
from backdoor_core.study import Study
from backdoor_core.sweep.paths import RUNS

_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can tell."""
_CHECKED: Final = (
    "no whole number of five digits or more is an id of the cohort, but for counts",
    "no key or column names identifiers, times or text of patients",
    "no absolute path, address, or name of the machine or its user",
    "tables with a row a stay or note hold scores and labels alone, of six digits at most",
    "no number is a measured value of the cohort, written in full",
)
_RULES: Final = {
    "study": {
        "small_cells": f"figures of fewer than {SMALLEST_CELL} stays are null, and those that would give them away",
        "rows": "tables with a row a stay or note are sorted by their own content; detectors' scores are ranks",
    },
    "sweep": {
        "small_cells": "none is hidden: figures are of all test stays, or of the poisoned ones, which may be few",
        "rows": "no table has a row a stay",
    },
}
Member = tuple[str, bytes]


def export_study(study: Study, out: Path) -> Path:
    """Write what may leave of the study's results into the zip file `out`; returns its path.

    Equal results give equal bytes. Raises `BackdoorError` where there are no results or no cohort to check against,
    where a result is missing or of other settings than run_config.json tells of, and where the check finds what must
    not leave, naming the file and what; then `out` is as it was. Results of notes of other params are left out.
    """
    paths = study.paths
    check_same_study(study)
    own = has_own_notes(study)
    if not own and (paths.notes / "leakage").is_dir():
        say("export: run/notes is of other params and left out; `make privacy` makes it anew")
    found = collect_study(paths.run, paths.splits, paths.null_scores, with_notes=own)
    notes = paths.notes / "corpus"
    of_stays = any(not name.startswith("notes/") for name in found.files)
    check = Check(
        cohorts=[paths.cohort] if of_stays else [],
        features=_features([paths.cohort] if of_stays else []),
        notes=notes if (notes / "notes.parquet").is_file() else None,
        folders=_folders(paths.root),
        names=names_here(),
    )
    manifest = {"what": "study", "left_out": found.left_files, "keys_left_out": dict(sorted(found.left_keys.items()))}
    return _write(out, sorted(found.files.items()), check, manifest)


def export_sweep(root: Path, name: str, out: Path) -> Path:
    """Write what may leave of the sweep `name` below `root` into the zip file `out`; returns its path.

    Of its cells these are the digest and the settings. See `export_study` for the rest.
    """
    cohorts = sorted(path.parent for path in (root / RUNS / "shared" / "cohorts").glob("*/card.json"))
    stays = [path for folder in cohorts if (path := folder / "stays.parquet").is_file()]
    members = sweep_members(root, name, {hashlib.sha256(path.read_bytes()).hexdigest() for path in stays})
    check = Check(cohorts=cohorts, features=_features(cohorts), folders=_folders(root), names=names_here())
    return _write(out, members, check, {"what": "sweep", "name": name, "left_out": LEFT_OUT})


def _features(cohorts: Sequence[Path]) -> frozenset[str]:
    return frozenset().union(*(features_of(read_json(folder / "card.json")) for folder in cohorts))


def _folders(root: Path) -> list[Path]:
    return sorted({root.resolve(), Path.home(), Path.cwd()})


def _write(out: Path, members: Iterable[Member], check: Check, manifest: Mapping[str, Any]) -> Path:
    """Each member is checked and written as it comes, the manifest last; the file appears when all is found sound."""
    if out.is_dir():
        raise BackdoorError(f"{out}: is a folder; name a file, such as {out / 'export.zip'}")
    files: dict[str, dict[str, Any]] = {}
    with replacing(out) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members:
                check.add(name, content)
                files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                _add(archive, name, content)
            told = {**manifest, **_RULES[manifest["what"]], "checked": list(_CHECKED), "files": files}
            content = json_text(told).encode()
            check.add("MANIFEST.json", content)
            _add(archive, "MANIFEST.json", content)
        check.finish()
    return out


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    # As on Unix, whatever the system: the bytes must not tell where they were made.
    info.create_system, info.external_attr = 3, 0o100644 << 16
    archive.writestr(info, content, compresslevel=9)
