"""Stage `report`: one self-contained page, and the provenance."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.console import say
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, replacing, write_json
from backdoor_core.report.notes_section import PICTURE
from backdoor_core.report.page import Findings, build_page
from backdoor_core.report.provenance import run_config
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Write the provenance and the page."""
    config = run_config(study)
    page = build_page(load_findings(study, config))
    write_json(study.paths.run / "run_config.json", config)
    target = study.paths.run / "report.html"
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    say(f"report: {target}")


def load_findings(study: Study, config: dict[str, Any]) -> Findings:
    """What the earlier stages wrote. Raises `BackdoorError` where a file is missing or damaged."""
    paths = study.paths
    explanation = read_json(paths.run / "results_explain.json")
    notes = notes_of(study)
    figures = paths.run / "explain" / "figures"
    pictures = {name: _picture(figures / f"{name}.svg") for name in explanation["figures"]}
    if notes is not None:
        pictures[PICTURE] = _picture(paths.notes / "leakage" / "plots" / f"{PICTURE}.svg")
    return Findings(
        config=config,
        card=read_json(paths.cohort / "card.json"),
        splits=read_json(paths.splits)["summary"],
        manifest=read_json(paths.run / "poison.json"),
        training={
            "poisoned": read_json(paths.run / "results.json"),
            "baseline": read_json(paths.baseline / "results.json"),
        },
        curves={
            "poisoned": _learning_curve(paths.run / "learning_curve.csv"),
            "baseline": _learning_curve(paths.baseline / "learning_curve.csv"),
        },
        evaluation=read_json(paths.run / "results_eval.json"),
        detection=read_json(paths.run / "results_detect.json"),
        cleansing=read_json(paths.run / "results_cleanse.json"),
        explanation=explanation,
        audit=read_json(paths.run / "results_audit.json"),
        predictions=read_parquet(paths.run / "predictions.parquet"),
        scores=read_parquet(paths.run / "detect" / "scores.parquet"),
        pictures=pictures,
        notes=notes,
    )


def notes_of(study: Study) -> dict[str, Any] | None:
    """What the stage `leakage` wrote, where it was run for this very study: the page does not wait for it."""
    path = study.paths.notes / "leakage" / "comparison.json"
    if not path.is_file():
        return None
    results: dict[str, Any] = read_json(path)
    if results["study"] != study.params.of_notes():
        say("report: run/notes is of other params and left out; `make privacy` makes it anew")
        return None
    return results


def _picture(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it") from None


def _learning_curve(path: Path) -> NDArray[np.float64]:
    """(epochs, 4): epoch, training loss, validation loss, validation AUPRC. No row for a model without epochs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        curve = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    except (OSError, ValueError) as error:
        raise BackdoorError(f"{path}: not a readable learning curve ({error}); run `dvc repro`") from None
    if not lines or lines[0].split(",")[:3] != ["epoch", "train_loss", "validation_loss"]:
        raise BackdoorError(f"{path}: expected the columns epoch, train_loss, validation_loss; run `dvc repro`")
    return curve if len(curve) else np.empty((0, 4))
