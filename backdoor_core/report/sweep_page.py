"""The report of a sweep: what a grid of studies found, as one HTML page that draws itself from the data it holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from backdoor_core.files import json_text
from backdoor_core.report import wording
from backdoor_core.report.sweep_methods import meanings, methods
from backdoor_core.report.sweep_payload import payload, payload_text
from backdoor_core.report.templates import page_templates

_HERE: Final = Path(__file__).parent
_STYLES: Final = ("page.css", "sweep.css")
_SCRIPTS: Final = (
    *("sweep_data.js", "sweep_draw.js", "sweep_panels.js", "sweep_charts.js"),
    *("sweep_detection.js", "sweep_tables.js", "sweep.js"),
)
_FEW_SEEDS: Final = 3
"""Fewer seeds than this are called few."""
_SHOWN_FAILURES: Final = 10
"""Failed cells that are listed at once; the rest is folded."""


def build_sweep_page(
    aggregated: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    timings: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> str:
    """The page. Equal arguments give equal text; opened, it requests nothing.

    `aggregated` is the content of aggregated_metrics.json; `rows` are the cells in grid order, each with model,
    trigger, rate, parameters, seed, status, error, figures and null_lift; `timings` are one
    row per cell and stage with model, stage and seconds; `provenance` has versions, git and params, shown as they are.
    Raises `KeyError` where one of them lacks a key of its format.
    """
    environment = page_templates()
    environment.filters.update(number=wording.number, json=lambda content: json_text(content).rstrip("\n"))
    script = "\n" + "\n".join(_text(name) for name in _SCRIPTS)
    return environment.get_template("sweep.html.j2").render(
        css=Markup("\n".join(_text(name) for name in _STYLES)),
        script=Markup(script),
        script_hash=_source_hash(script),
        data=Markup(payload_text(payload(aggregated, rows, timings))),
        name=aggregated["name"],
        cells=aggregated["cells"],
        seeds=aggregated["axes"]["seeds"],
        shown_failures=_SHOWN_FAILURES,
        warnings=_warnings(aggregated),
        methods=methods(aggregated),
        meanings=meanings(aggregated),
        synthetic=aggregated["study"]["cohort"] == "synthetic",
        provenance=provenance,
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    """The script as a source of the content security policy: no other script runs, wherever it may come from."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _warnings(aggregated: Mapping[str, Any]) -> list[str]:
    """What the reader has to know before any figure, beside the failed cells."""
    if not aggregated["cells"]["done"]:
        return ["No cell is done: there is nothing to draw."]
    seeds = [len(group["seeds"]) for group in aggregated["groups"]]
    few = [count for count in seeds if count < _FEW_SEEDS]
    if not few:
        return []
    which = "Every group has" if len(few) == len(seeds) else f"{len(few):,} of {len(seeds):,} groups have"
    if max(few) <= 1:
        amount = "one seed" if min(few) == 1 else "one seed or none"
        return [
            f"{which} {amount}: no interval and no p-value can be given there, and chance cannot be told from effect."
        ]
    return [
        f"{which} fewer than {_FEW_SEEDS} seeds: intervals over two seeds are very wide, and one seed gives neither "
        "interval nor p-value."
    ]
