"""What a sweep found out: summary, statistics, figures and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backdoor_core.files import json_text, replacing, replacing_directory
from backdoor_core.params import OPTION_MAPS
from backdoor_core.report.provenance import git_state, versions_of
from backdoor_core.report.sweep_figures import sweep_figures
from backdoor_core.report.sweep_page import build_sweep_page
from backdoor_core.study import Study
from backdoor_core.sweep.aggregate import aggregate, aggregated_csv
from backdoor_core.sweep.plan import Planned
from backdoor_core.sweep.rows import csv_text, parameter_values, plain_or_none, row_of, summary_csv
from backdoor_core.sweep.store import Store


def write_results(
    study: Study, planned: Sequence[Planned], records: Mapping[str, Mapping[str, Any]], store: Store, out: Path
) -> None:
    """Everything below ``benchmarks/<name>/``. Only timings.csv and the report's page tell of time."""
    params, sweep = study.params, study.params.sweep
    rows = [row_of(records[one.cell.name], one.cell.name) for one in planned]
    axes = {
        "models": list(dict.fromkeys(row.model for row in rows)),
        "triggers": list(dict.fromkeys(row.trigger for row in rows)),
        "rates": sorted({row.rate for row in rows}),
        "seeds": sorted({row.seed for row in rows}),
        # Those of `include` too, which other cells do not have.
        "parameters": parameter_values(rows),
    }
    shared = params.model_dump(mode="json", exclude={*OPTION_MAPS.values(), "notes", "audits", "audit"})
    aggregated = aggregate(sweep.name, shared, axes, rows)
    timings = _timings(planned, store)
    provenance = {
        "versions": versions_of(planned[0].lock),
        "git": git_state(study.paths.root),
        "params": shared,
    }
    _write(out / "summary.csv", summary_csv(rows))
    _write(out / "aggregated_metrics.json", json_text(aggregated))
    _write(out / "aggregated_metrics.csv", aggregated_csv(aggregated))
    _write(out / "timings.csv", _timings_csv(timings))
    with replacing_directory(out / "figures") as folder:
        for name, picture in sweep_figures(aggregated).items():
            (folder / f"{name}.svg").write_text(picture.svg, encoding="utf-8")
            (folder / f"{name}.png").write_bytes(picture.png)
    _write(out / "report.html", build_sweep_page(aggregated, [row.as_dict() for row in rows], timings, provenance))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _timings(planned: Sequence[Planned], store: Store) -> list[dict[str, Any]]:
    """Seconds of every stage of every cell, as they were when it was made; and of what several cells share."""
    shared = {one.clean: one for one in planned}.values()
    nowhere: dict[str, Any] = {"trigger": None, "rate": None, "parameters": {}}
    return [
        *(
            {**one.cell.axes, "stage": stage, "seconds": seconds}
            for one in planned
            for stage, seconds in store.timings(store.cell(one.cell.name)).items()
        ),
        *(
            {**one.cell.axes, **nowhere, "stage": f"{stage} (shared)", "seconds": seconds}
            for one in shared
            for stage, seconds in store.timings(store.clean(one)).items()
        ),
    ]


def _timings_csv(timings: Sequence[Mapping[str, Any]]) -> str:
    named = list(dict.fromkeys(key for row in timings for key in row["parameters"]))
    lines = (
        [
            *(row[key] for key in ("model", "trigger", "rate")),
            *varied,
            *(row[key] for key in ("seed", "stage", "seconds")),
        ]
        for row in timings
        for varied in [[plain_or_none(row["parameters"].get(key)) for key in named]]
    )
    return csv_text(["model", "trigger", "rate", *named, "seed", "stage", "seconds"], lines)
