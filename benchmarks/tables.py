"""What the benchmarks that fill docs/results.md share: intervals, kept results, and sections of a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Result = dict[str, Any]


def mean_and_interval(values: Sequence[float]) -> str:
    """The mean with its 95% t-interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def kept_results(path: Path) -> list[Result]:
    """Results of an earlier, stopped run."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, results: Sequence[Result]) -> None:
    """Add results to the file."""
    with path.open("a") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of a section."""
    start, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    content = path.read_text(encoding="utf-8")
    before, rest = content.split(start)
    path.write_text(f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")
