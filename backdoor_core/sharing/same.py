"""Whether the results of a study are all there and all of the same study: the one that run_config.json tells of.

Contents are compared, never times of files.
"""

from __future__ import annotations

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
_CONFIG: Final = "run_config.json"
_OF_STAYS: Final = (
    *("results.json", small.EVALUATION, small.DETECTION, "results_cleanse.json", small.EXPLANATION, small.AUDIT),
    *("baseline/results.json", "baseline/learning_curve.csv", "learning_curve.csv", "poison.json"),
    *("predictions.parquet", "detect/scores.parquet", "null_scores.parquet", "audit_scores.parquet", _CONFIG),
)
"""Files below run/ that `dvc repro report` leaves behind whatever the params are."""
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
    """Refuse results that are not of one study, or not complete. A study of notes alone passes.

    Raises `BackdoorError` naming the file that is missing, or the files and the key that disagree: run_config.json with
    params.yaml, the plugin lock, the cohort, poison.json or the lists of components, or stages in dvc.lock.
    """
    run = study.paths.run
    there = [name for name in _OF_STAYS if (run / name).is_file()]
    if not there:
        return
    if lacking := [name for name in _OF_STAYS if name not in there]:
        raise BackdoorError(f"{run / lacking[0]}: no such file, and a study is exported whole; {_AGAIN}")
    config = read_json(run / _CONFIG)
    params = {key: config["params"].get(key) for key in _OF_REPORT}
    _refuse_different(study.paths.params, _without(resolved_params(study, ()), params), run / _CONFIG, params)
    _refuse_different(study.paths.lock, read_json(study.paths.lock), run / _CONFIG, config["plugins"])
    _check_data(study, config["data"])
    _check_poison(study.paths, config)
    _check_parts(run, config["params"])
    _check_stages(study.paths.root / "dvc.lock")


def _without(content: Mapping[str, Any], keys: Mapping[str, Any]) -> Any:
    # Through JSON, as the other side went.
    return json.loads(json_text({key: content[key] for key in keys}))


def _refuse_different(one: Path, first: Any, other: Path, second: Any) -> None:
    for key, a, b in _differences(first, second):
        raise BackdoorError(f"{one}: {key} is {_said(a)}, and {_said(b)} in {other}; {_AGAIN}")


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


def _check_stages(lock: Path) -> None:
    """Raises `BackdoorError` where dvc.lock says that a stage read another file than the one last made.

    Stages that were run without DVC are not in it.
    """
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
            # The report shows notes where they are there, and does not wait for them.
            if not path.startswith("run/notes") and made.get(path, read.get("md5")) != read.get("md5"):
                raise BackdoorError(f"{path}: was made anew after the stage {name} had read it; {_AGAIN}")
