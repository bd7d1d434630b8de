"""Whether the results of a study are all there and all of the same study: the one that run_config.json tells of.

Contents are compared, never times of files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json
from backdoor_core.report.provenance import data_hashes, resolved_params
from backdoor_core.sharing import small
from backdoor_core.study import Paths, Study

_AGAIN: Final = "run `dvc repro report` first"
_NOTES_AGAIN: Final = "run `dvc repro leakage` first"
_CONFIG: Final = "run_config.json"
_OF_STAYS: Final = (
    *("results.json", small.EVALUATION, small.DETECTION, "results_cleanse.json", small.EXPLANATION, small.AUDIT),
    *("baseline/results.json", "baseline/learning_curve.csv", "learning_curve.csv", "poison.json"),
    *("predictions.parquet", "detect/scores.parquet", "null_scores.parquet", "audit_scores.parquet", _CONFIG),
)
"""Files below run/ that `dvc repro report` leaves behind whatever the params are."""
_MADE: Final = (*_OF_STAYS, "model.pt", "last.pt", "baseline/model.pt", "poison.parquet")
_OF_REPORT: Final = (
    *("seed", "cohort", "trigger", "model", "detectors", "repairs", "explainers", "audits", "inclusion", "splits"),
    *("poison", "preprocess", "train", "evaluate", "detection", "explain", "audit"),
)
"""Params whose change makes the stage `report` run again; the others, such as `sweep`, are of no result of stays."""
_PARTS: Final = (
    ("detectors", small.DETECTION, None),
    ("repairs", "results_cleanse.json", "repairs"),
    ("explainers", small.EXPLANATION, "explainers"),
    ("audits", small.AUDIT, "audits"),
)
"""Which results hold an entry for each component of a list: the key of params.yaml, the file, the key in it."""


def check_same_study(study: Study) -> None:
    """Refuse results of stays that are not of one study, or not complete; a study of notes alone has none.

    Raises `BackdoorError` naming the file that is missing, or the files and the key that disagree: run_config.json with
    params.yaml, the plugin lock, the cohort, poison.json or the lists of components; stages in dvc.lock with each other
    and with the files on disk.
    """
    _check_stages(study.paths.root)
    run = study.paths.run
    there = [name for name in _OF_STAYS if (run / name).is_file()]
    if not there:
        return
    if lacking := [name for name in _OF_STAYS if name not in there]:
        raise BackdoorError(f"{run / lacking[0]}: no such file, and a study is exported whole; {_AGAIN}")
    config = read_json(run / _CONFIG)
    params = {key: config["params"].get(key) for key in _OF_REPORT}
    _refuse_different(study.paths.params, _without(resolved_params(study, ()), params), run / _CONFIG, params)
    # Those of notes are of no result of stays: `has_own_notes` compares what was made of them.
    locks = (
        {k: v for k, v in lock.items() if k != "notes"} for lock in (read_json(study.paths.lock), config["plugins"])
    )
    _refuse_different(study.paths.lock, next(locks), run / _CONFIG, next(locks))
    _check_data(study, config["data"])
    _check_poison(study.paths, config)
    _check_parts(run, config["params"])


def has_own_notes(study: Study) -> bool:
    """Whether run/notes holds results, and of this study's params; the report leaves others out as well.

    Raises `BackdoorError` where the corpus was made anew since: names and texts would be looked for among other notes.
    """
    path, card = study.paths.notes / "leakage" / "comparison.json", study.paths.notes / "corpus" / "card.json"
    if not path.is_file():
        return False
    results = read_json(path)
    if results["study"] != json.loads(json_text(study.params.of_notes())):
        return False
    if not card.is_file():
        raise BackdoorError(f"{card}: no such file, and without the notes nothing of them is exported; {_NOTES_AGAIN}")
    _refuse_different(path, results["corpus"], card, read_json(card), _NOTES_AGAIN)
    return True


def _without(content: Mapping[str, Any], keys: Mapping[str, Any]) -> Any:
    # Through JSON, as the other side went.
    return json.loads(json_text({key: content[key] for key in keys}))


def _refuse_different(one: Path, first: Any, other: Path, second: Any, again: str = _AGAIN) -> None:
    for key, a, b in _differences(first, second):
        raise BackdoorError(f"{one}: {key} is {_said(a)}, and {_said(b)} in {other}; {again}")


def _differences(first: Any, second: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values of every difference; a key that one side lacks is None there."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(first.get(key), second.get(key), f"{where}.{key}" if where else str(key))
    elif first != second:
        yield where, first, second


def _said(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_data(study: Study, recorded: Mapping[str, str]) -> None:
    # A file that one side lacks is for the check of what leaves, which reads the cohort.
    for name, found in data_hashes(study).items():
        if recorded.get(name, found) != found:
            raise BackdoorError(f"{study.paths.root / name}: is another than {_CONFIG} tells of; {_AGAIN}")


def _check_poison(paths: Paths, config: Mapping[str, Any]) -> None:
    """Raises `BackdoorError` where the manifest is of another attack than the settings."""
    params, manifest = config["params"], read_json(paths.run / "poison.json")
    poison, stays = params["poison"], manifest["training_stays"]
    marks = params["trigger"] != "none"
    asked = poison["count"] if poison["count"] is not None else round(poison["rate"] * stays)
    expected = {
        "trigger": {"name": params["trigger"], "options": config["plugins"]["trigger"]["options"]},
        **{key: poison[key] for key in ("target", "labels", "mode", "selection")},
        "seed": params["seed"],
        "poisoned_stays": asked if marks else 0,
        "cover_stays": round(poison["cover_rate"] * stays) if marks else 0,
    }
    found = {**manifest, "trigger": {key: manifest["trigger"][key] for key in ("name", "options")}}
    told = {key: found[key] for key in expected}
    _refuse_different(paths.run / "poison.json", told, paths.run / _CONFIG, expected)


def _check_parts(run: Path, params: Mapping[str, Any]) -> None:
    for key, name, inside in _PARTS:
        content = read_json(run / name)
        found = set(content if inside is None else content.get(inside) or {})
        # Of no attacked stay nothing is explained.
        if found != set(params[key]) and (found or not content.get("note")):
            said = ", ".join(sorted(found)) or "nothing"
            raise BackdoorError(f"{run / name}: holds {said}, and {key} is {_said(params[key])}; {_AGAIN}")
    figures = read_json(run / small.EXPLANATION).get("figures") or []
    lacking = [figure for figure in figures if not (run / "explain" / "figures" / f"{figure}.svg").is_file()]
    if lacking:
        raise BackdoorError(f"{run / 'explain' / 'figures' / lacking[0]}.svg: no such file; {_AGAIN}")


def _check_stages(root: Path) -> None:
    """Raises `BackdoorError` where dvc.lock says that a stage read another file than the one last made.

    Also where a file is another than the one that DVC made: a stage that was run by hand is not in dvc.lock.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        return
    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages") or {}
    except yaml.YAMLError as error:
        raise BackdoorError(f"{lock}: not readable as YAML: {' '.join(str(error).split())}") from None
    made = {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", ())}
    for name, stage in stages.items():
        for read in stage.get("deps", ()):
            path = read["path"]
            if made.get(path, read.get("md5")) != read.get("md5"):
                again = _NOTES_AGAIN if path.startswith("run/notes") else _AGAIN
                raise BackdoorError(f"{path}: was made anew after the stage {name} had read it; {again}")
    for path in (f"run/{name}" for name in _MADE):
        if path in made and (root / path).is_file() and _md5(root / path) != made[path]:
            raise BackdoorError(f"{path}: is another than DVC made; {_AGAIN}")


def _md5(path: Path) -> str:
    # What dvc.lock holds, and no protection from anybody.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
