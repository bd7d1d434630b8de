"""What a run was made of: written to `run/run_config.json`, shown at the end of the report.

It holds no time, no absolute path and no name of the machine, so that it may be passed on.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.params import OPTION_MAPS
from backdoor_core.plugins import code_hash
from backdoor_core.study import Study

_MADE_BY_THE_RUN = ("dvc.lock", "plugins.lock.json", "data", "run")


def run_config(study: Study) -> dict[str, Any]:
    """Resolved params, plugins, versions, git revision, data hashes, threads and device; JSON-able.

    The options of components are those in `plugins`, with defaults filled in; options in params.yaml of
    components that the study did not choose had no part in the run and are left out. Raises `BackdoorError`
    where an earlier stage has not been run.
    """
    plugins = read_json(study.paths.lock)
    return {
        "params": resolved_params(study, OPTION_MAPS.values()),
        "plugins": plugins,
        "git": git_state(study.paths.root),
        "code": {"backdoor_core": code_hash("backdoor_core")},
        "versions": versions_of(plugins),
        "data": data_hashes(study),
        "device": read_json(study.paths.run / "results.json")["device"],
        "threads": study.params.train.threads,
    }


def resolved_params(study: Study, left_out: Iterable[str]) -> dict[str, Any]:
    """params.yaml without some keys, JSON-able, with the model's own numbers where it says `auto`."""
    params = study.params
    found = params.model_dump(mode="json", exclude=set(left_out))
    return {**found, "train": params.train.of(study.model()).model_dump(mode="json")}


def data_hashes(study: Study) -> dict[str, str]:
    """SHA-256 of every file of the cohort and of the splits, by their path in the study."""
    paths = study.paths
    files = [*sorted(p for p in paths.cohort.rglob("*") if p.is_file()), paths.splits]
    if lacking := [p for p in (paths.cohort / "card.json", paths.splits) if not p.is_file()]:
        raise BackdoorError(f"{lacking[0]}: no such file; run `dvc repro` to make it")
    return {file.relative_to(paths.root).as_posix(): _sha256(file) for file in files}


def cohort_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a cohort, by their path in its folder."""
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def versions_of(plugins: Mapping[str, Any]) -> dict[str, str]:
    """Versions of what a study with that plugin lock is made of."""
    return versions(["backdoor_core", *_distributions(plugins)])


def _sha256(path: Path) -> str:
    # Of the bytes and nothing else, so that `sha256sum` gives the same.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _distributions(plugins: Mapping[str, Any]) -> list[str]:
    entries = [plugins["cohort"], plugins["trigger"], plugins["model"]]
    entries += [entry for kind in ("detectors", "repairs", "explainers") for entry in plugins[kind].values()]
    return sorted({entry["distribution"] for entry in entries})


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of Python, of the given distributions and of what they require directly; the platform first."""
    named: set[str] = set()
    for distribution in distributions:
        named |= {distribution, *_requirements(distribution)}
    found = {name: _version(name) for name in sorted(named, key=str.lower)}
    system = f"{platform.system()} {platform.machine()}"
    return {"platform": system, platform.python_implementation(): platform.python_version(), **found}


def _requirements(distribution: str) -> set[str]:
    """Names that a distribution requires, without those of its extras."""
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return set()
    matches = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if "extra ==" not in line)
    return {match.group() for match in matches if match}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a distribution"


def git_state(folder: Path) -> dict[str, Any]:
    """Last revision that changed something the run depends on, and whether files differ from it.

    A commit of what the run itself made, such as dvc.lock, is passed over: to commit a result must not change
    it. `dirty` counts changed and new files, without what the run itself makes. Where there is no revision, both
    are null and `note` says why.
    """
    inside = _git(folder, "rev-parse", "--is-inside-work-tree")
    if inside is None:
        return {"revision": None, "dirty": None, "note": "not in a git repository, or git cannot read it"}
    leave_out = [f":(exclude){name}" for name in _MADE_BY_THE_RUN]
    top = _git(folder, "rev-parse", "--show-cdup") or "."
    revision = _git(folder, "log", "-1", "--format=%H", "--", top, *leave_out)
    if not revision:
        return {"revision": None, "dirty": None, "note": "the git repository has no commit yet"}
    changes = _git(folder, "status", "--porcelain", "--", top, *leave_out)
    if changes is None:
        return {"revision": revision, "dirty": None, "note": "git cannot tell whether files differ"}
    return {"revision": revision, "dirty": bool(changes), "note": None}


def _git(folder: Path, *arguments: str) -> str | None:
    """Git's answer, or None where git is not installed or refuses."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
