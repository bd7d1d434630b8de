"""Which files of one study may leave, each with what is left out of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json
from backdoor_core.sharing import rows, shapes, small
from backdoor_core.sharing.allowed import allowed
from backdoor_core.sharing.small import SMALLEST_CELL, suppress

_RESULTS: Final = {
    small.EVALUATION: shapes.EVALUATION,
    small.DETECTION: shapes.DETECTION,
    small.EXPLANATION: shapes.EXPLANATION,
    small.AUDIT: shapes.AUDIT,
    "results_cleanse.json": shapes.CLEANSING,
}
_OTHERS: Final = {
    "results.json": shapes.TRAINING,
    "baseline/results.json": shapes.TRAINING,
    "run_config.json": shapes.RUN_CONFIG,
}
_CURVES: Final = ("learning_curve.csv", "baseline/learning_curve.csv")
_TABLES: Final = {
    "predictions.parquet": ("predictions.csv", rows.PREDICTIONS),
    "detect/scores.parquet": ("detector_scores.csv", rows.DETECTOR_SCORES),
    "audit_scores.parquet": ("audit_scores.csv", rows.AUDIT_SCORES),
}
_FIGURES: Final = re.compile(
    r"tar|rollout|head_shift|attention_layer_\d+|(features|twins|hours_clean|hours_triggered)_\w+"
)
_EVENT_FIGURES: Final = re.compile(
    r"tar|head_shift|layer_attention_weights|sequence_importance(_combined)?|head_specialization"
    r"|captum_(layer_)?attributions"
)
"""Those without codes: a code may be of a few stays."""
LEFT_OUT: Final = (
    (r"(.+/)?(model|last|checkpoints)\.\w+|nulls/.+|notes/models/.+", "weights, which may give training records away"),
    (r"(.+/)?preprocess\.json", "limits, quantiles and extremes, which may be values of single patients"),
    (r"poison\.parquet|trigger_mask\.npy", "records of single stays"),
    (r"explain/.*\.npy|explain/(explanations|attn)\.json", "attributions of single stays, and their ids"),
    (r"explain/figures/.+", "shows single stays, or codes that may be of a few"),
    (r"(notes/)?references/.+", "reference models' answers and members, by record"),
    (r"report\.html", "shows stays as examples"),
    (
        r"notes/(corpus/.+|leakage/(metadata\.json|experiment\.log))",
        "notes, their names, or more than the figures need",
    ),
)
"""Files below run/ and why they stay."""

_BY_LOT: Final = (
    "columns of detectors whose scores the poison does not move: drawn by lot, they give the order of stays"
)


@dataclass
class Collected:
    """Files by name, and what was left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    left_keys: dict[str, list[str]] = field(default_factory=dict)
    """Keys, as patterns, by the file that they were left out of."""
    left_files: dict[str, list[str]] = field(default_factory=dict)
    """Files by the reason why they were left out."""

    def add_json(self, name: str, shape: Any, content: Any) -> Any:
        """Add what the shape allows of a file's content, and return it."""
        left: set[str] = set()
        found = allowed(shape, content, left)
        self.add(name, found, left)
        return found

    def add(self, name: str, content: Any, left: set[str]) -> None:
        """Add JSON of which keys were left out."""
        self.files[name] = json_text(content).encode()
        if left:
            self.left_keys[name] = sorted(left)


def collect_study(run: Path, splits: Path, null_scores: Path, *, with_notes: bool) -> Collected:
    """What may leave of the study with these folders. Raises `BackdoorError` where there is nothing."""
    found, taken = Collected(), set()
    results: dict[str, Any] = {}
    for name, shape in _RESULTS.items():
        if (run / name).is_file():
            left: set[str] = set()
            results[name] = allowed(shape, read_json(run / name), left)
            found.left_keys |= {name: sorted(left)} if left else {}
    suppress(results)
    if small.EXPLANATION in results:
        taken |= _add_figures(found, run, results[small.EXPLANATION])
    for name, content in results.items():
        found.files[name] = json_text(content).encode()
    for name, shape in _OTHERS.items():
        if (run / name).is_file():
            found.add_json(name, shape, read_json(run / name))
    if (run / "poison.json").is_file():
        _add_poison(found, read_json(run / "poison.json"))
    if splits.is_file():
        found.add_json("splits_summary.json", shapes.SPLITS, read_json(splits))
    for name in _CURVES:
        if (run / name).is_file():
            found.files[name] = (run / name).read_bytes()
    detected = run / "detect" / "scores.parquet"
    unmoved = rows.unmoved_detectors(detected) if detected.is_file() else frozenset()
    for source, (name, columns) in _TABLES.items():
        if (run / source).is_file():
            but = unmoved if run / source == detected else ()
            found.files[name] = rows.table_csv(run / source, columns, but)
            taken.add(source)
    # Without those it cannot be told which detectors score by lot.
    if null_scores.is_file() and detected.is_file():
        found.files["null_scores.csv"] = rows.table_csv(null_scores, rows.NULL_SCORES, unmoved)
        taken.add(null_scores.name)
    if unmoved:
        found.left_files[_BY_LOT] = sorted(f"{name}.*" for name in unmoved)
    if with_notes:
        taken |= _add_notes(found, run / "notes" / "leakage")
    if not results and "notes/comparison.json" not in found.files:
        raise BackdoorError(f"{run}: no results to export; run `dvc repro` first")
    _note_left_files(found, run, taken)
    return found


def _add_poison(found: Collected, manifest: Mapping[str, Any]) -> None:
    """The attack without its stays: how many have which feature changed, in place of who and how."""
    left: set[str] = set()
    content = allowed(shapes.POISON, manifest, left)
    touched = Counter(feature for stay in manifest["stays"] for feature in stay["touched"])
    counts = {name: count if count >= SMALLEST_CELL else None for name, count in sorted(touched.items())}
    found.add("poison.json", {**content, "touched": counts}, left)


def _add_figures(found: Collected, run: Path, results: dict[str, Any]) -> set[str]:
    """The figures that show no single stay. What `results` lists becomes what there is."""
    rule = _EVENT_FIGURES if results.get("modality") == "events" else _FIGURES
    folder, taken = run / "explain" / "figures", set()
    listed = [name for name in results.get("figures") or [] if rule.fullmatch(name)]
    results["figures"] = [name for name in listed if (folder / f"{name}.svg").is_file()]
    for name in results["figures"]:
        for ending in ("svg", "png"):
            path = folder / f"{name}.{ending}"
            if path.is_file():
                found.files[f"figures/{path.name}"] = path.read_bytes()
                taken.add(f"explain/figures/{path.name}")
    return taken


def _add_notes(found: Collected, folder: Path) -> set[str]:
    found.add_json("notes/comparison.json", shapes.NOTES, read_json(folder / "comparison.json"))
    taken = {"comparison.json"}
    for path in sorted(folder.glob("mia_*.csv")):
        found.files[f"notes/{path.name}"] = rows.note_csv(path)
        taken.add(path.name)
    for name in ("REPORT.md", "plots/comparison_plots.svg", "plots/comparison_plots.png"):
        if (folder / name).is_file():
            found.files[f"notes/{name}"] = (folder / name).read_bytes()
            taken.add(name)
    return {f"notes/leakage/{name}" for name in taken}


def _note_left_files(found: Collected, run: Path, taken: set[str]) -> None:
    others = 0
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        if name in taken or name in found.files:
            continue
        why = next((reason for pattern, reason in LEFT_OUT if re.fullmatch(pattern, name)), None)
        if why is None:
            # What it is called may itself be what must not leave.
            others += 1
        else:
            found.left_files.setdefault(why, []).append(f"run/{name}")
    found.left_files["the patients' records and the ids of each part"] = ["data/cohort", "data/splits.json"]
    if others:
        found.left_files["not on the list of what may leave"] = [f"{others} other files below run"]
