"""Which files of a sweep may leave."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text, read_json
from backdoor_core.sharing import shapes as shapes
from backdoor_core.sharing.allowed import allowed
from backdoor_core.sharing.config import clean_config
from backdoor_core.sharing.rows import csv_bytes
from backdoor_core.sweep.grid import cell_name
from backdoor_core.sweep.paths import BENCHMARKS, RUNS

_FIGURES: Final = ("attack_success", "lift", "clean_performance", "detector_tpr")
LEFT_OUT: Final = {
    "weights and clean models, which may give training records away": ["runs/shared/clean", "runs/**/*.pt"],
    "the patients' records and the ids of each part": ["runs/shared/cohorts", "runs/shared/clean/**/splits.json"],
    "of the cells everything but the digest and the settings": ["runs/<cell>/*"],
    "free text, which may hold anything": ["error messages of failed cells"],
}
_PAGE: Final = "it holds the error messages of failed cells, which are free text; run the sweep until none fails"
Member = tuple[str, bytes]


def sweep_members(root: Path, name: str, left: dict[str, list[str]]) -> Iterator[Member]:
    """The files of the sweep `name`, one by one; what is left out is added to `left`, by the reason.

    Raises `BackdoorError` where the sweep has no results, or a cell of it is missing.
    """
    folder = root / BENCHMARKS / name
    if not (folder / "aggregated_metrics.json").is_file():
        raise BackdoorError(f"{folder}: no results of a sweep; run `backdoor sweep` first, or name another")
    aggregated = read_json(folder / "aggregated_metrics.json")
    left |= LEFT_OUT | ({_PAGE: ["report.html"]} if aggregated["cells"]["failed"] else {})
    # In the order of their names, each as it is asked for: a large sweep does not fit into memory.
    if (folder / "aggregated_metrics.csv").is_file():
        yield "aggregated_metrics.csv", _without_errors(folder / "aggregated_metrics.csv")
    yield "aggregated_metrics.json", json_text(allowed(shapes.AGGREGATED, aggregated, set())).encode()
    for cell in sorted(_cells(aggregated)):
        yield from _cell_members(root / RUNS / cell, cell)
    for path in (folder / "figures" / f"{name}.{ending}" for name in sorted(_FIGURES) for ending in ("png", "svg")):
        if path.is_file():
            yield f"figures/{path.name}", path.read_bytes()
    if (folder / "report.html").is_file() and not aggregated["cells"]["failed"]:
        yield "report.html", (folder / "report.html").read_bytes()
    for table in ("summary.csv", "timings.csv"):
        if (folder / table).is_file():
            yield table, _without_errors(folder / table)


def _cells(aggregated: dict[str, Any]) -> Iterator[str]:
    for group in aggregated["groups"]:
        place = (group["model"], group["trigger"], group["rate"], group["parameters"])
        yield from (cell_name(*place, seed) for seed in group["seeds"])


def _cell_members(folder: Path, cell: str) -> Iterator[Member]:
    for name, shape in (("cell.json", shapes.CELL), ("run_config.json", shapes.RUN_CONFIG)):
        path = folder / name
        if not path.is_file():
            raise BackdoorError(f"{path}: no such file; run `backdoor sweep` to make the cell anew")
        content = allowed(shape, read_json(path), set())
        yield f"cells/{cell}/{name}", json_text(content).encode()


def _without_errors(path: Path) -> bytes:
    """A table of the sweep without the errors of cells; of absolute paths among its parameters the last part."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    kept: Sequence[int] = [place for place, column in enumerate(header) if column != "error"]
    cells = ([str(clean_config(row[place])) for place in kept] for row in rows)
    return csv_bytes([header[place] for place in kept], cells)
