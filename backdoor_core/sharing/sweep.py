"""Which files of a sweep may leave.

Tables, figures and the page are made anew from what the list lets through of the aggregated metrics and the cells'
digests: nothing else that may stand in the sweep's own files can come along.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json
from backdoor_core.report.sweep_figures import sweep_figures
from backdoor_core.report.sweep_page import build_sweep_page
from backdoor_core.sharing import shapes
from backdoor_core.sharing.allowed import allowed
from backdoor_core.sharing.config import clean_config
from backdoor_core.sharing.rows import csv_bytes
from backdoor_core.sweep.aggregate import aggregated_csv
from backdoor_core.sweep.grid import cell_name
from backdoor_core.sweep.paths import BENCHMARKS, RUNS
from backdoor_core.sweep.rows import parameter_names, row_of, summary_csv

LEFT_OUT: Final = {
    "weights and clean models, which may give training records away": ["runs/shared/clean", "runs/**/*.pt"],
    "the patients' records and the ids of each part": ["runs/shared/cohorts", "runs/shared/clean/**/splits.json"],
    "of the cells everything but the digest and the settings": ["runs/<cell>/*"],
    "free text, which may hold anything": ["error messages of failed cells"],
}
_ERROR: Final = "its message stays where the sweep was made"
Member = tuple[str, bytes]


def sweep_members(root: Path, name: str, cohorts: Collection[str]) -> Iterator[Member]:
    """The files of the sweep `name`, one by one, in the order of their names.

    `cohorts` are the SHA-256 of stays.parquet of those that the export is checked against. Raises `BackdoorError`
    where the sweep has no results, a cell of it is missing, or was made of another cohort.
    """
    folder = root / BENCHMARKS / name
    if not (folder / "aggregated_metrics.json").is_file():
        raise BackdoorError(f"{folder}: no results of a sweep; run `backdoor sweep` first, or name another")
    raw = read_json(folder / "aggregated_metrics.json")
    if any("null_asr" not in group for group in raw["groups"]):
        raise BackdoorError(f"{folder}: results of an earlier version; run `backdoor sweep`, which writes them anew")
    aggregated = allowed(shapes.AGGREGATED, raw, set())
    cells = {cell: _read_cell(root / RUNS / cell, cohorts) for cell in _cells(raw)}
    rows = {cell: row_of({"error": None, **content["cell.json"]}) for cell, content in cells.items()}
    # Their names without paths, which are the only ones that leave.
    names = Counter(row.cell for row in rows.values())
    if twice := next((cell for cell, count in names.items() if count > 1), None):
        raise BackdoorError(
            f"export: two cells are {twice} without the folders of their paths; rename one of the files"
        )
    aggregated["cells"]["errors"] = [{"cell": row.cell, "error": _ERROR} for row in rows.values() if not row.done]
    yield "aggregated_metrics.csv", aggregated_csv(aggregated).encode()
    yield "aggregated_metrics.json", json_text(aggregated).encode()
    for cell in sorted(cells, key=lambda cell: rows[cell].cell):
        for file, content in cells[cell].items():
            yield f"cells/{rows[cell].cell}/{file}", json_text(content).encode()
    for figure, picture in sorted(sweep_figures(aggregated).items()):
        yield f"figures/{figure}.png", picture.png
        yield f"figures/{figure}.svg", picture.svg.encode()
    timings = _timings(folder / "timings.csv", parameter_names(rows.values()))
    page = build_sweep_page(
        aggregated, [row.as_dict() for row in rows.values()], timings, _provenance(aggregated, cells)
    )
    yield "report.html", page.encode()
    yield "summary.csv", summary_csv(list(rows.values())).encode()
    if timings:
        yield "timings.csv", csv_bytes(list(timings[0]), [list(row.values()) for row in timings])


def _cells(aggregated: Mapping[str, Any]) -> list[str]:
    """Folders of the cells below runs/, group by group, and of those that failed."""
    done = [
        cell_name(group["model"], group["trigger"], group["rate"], group["parameters"], seed)
        for group in aggregated["groups"]
        for seed in group["seeds"]
    ]
    return [*done, *(failed["cell"] for failed in aggregated["cells"]["errors"])]


def _read_cell(folder: Path, cohorts: Collection[str]) -> dict[str, Any]:
    """What may leave of a cell's files, by their names; a failed cell has no settings."""
    found = {"cell.json": allowed(shapes.CELL, _read(folder / "cell.json"), set())}
    if found["cell.json"]["status"] == "done":
        config = _read(folder / "run_config.json")
        if config["data"].get("stays.parquet") not in cohorts:
            raise BackdoorError(
                f"{folder}: its cohort is not in {RUNS}/shared/cohorts to check the export against; run "
                "`backdoor sweep`, which builds it anew"
            )
        found["run_config.json"] = allowed(shapes.RUN_CONFIG, config, set())
    return found


def _read(path: Path) -> Any:
    if not path.is_file():
        raise BackdoorError(f"{path}: no such file; run `backdoor sweep` to make the cell anew")
    return read_json(path)


def _timings(path: Path, parameters: Sequence[str]) -> list[dict[str, str]]:
    """The rows of timings.csv, its own columns alone; of absolute paths among its parameters the last part."""
    if not path.is_file():
        return []
    columns = ("model", "trigger", "rate", *parameters, "seed", "stage", "seconds")
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: str(clean_config(row.get(key) or "")) for key in columns} for row in csv.DictReader(file)]


def _provenance(aggregated: Mapping[str, Any], cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    config: Mapping[str, Any] = next((c["run_config.json"] for c in cells.values() if "run_config.json" in c), {})
    return {"versions": config.get("versions"), "git": config.get("git"), "params": aggregated["study"]}
