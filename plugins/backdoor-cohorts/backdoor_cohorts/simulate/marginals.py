"""The published figures that the synthetic hospital reproduces (`marginals.csv`)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Marginal:
    """Figures of one variable over the first 24 hours of a stay; pairs are (survived, died)."""

    mean: tuple[float, float]
    sd: tuple[float, float]
    median: tuple[float, float] | None
    """Given where a few extreme stays make the sd, so that a lognormal of that sd would misplace the others."""
    missing: tuple[float, float]
    within_sd: float
    source: str

    def of(self, figure: str, died: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N,) the figure ``mean``, ``sd``, ``median`` or ``missing`` that goes with each stay's outcome."""
        survived_value, died_value = getattr(self, figure)
        values: NDArray[np.float64] = np.where(died, died_value, survived_value)
        return values


@cache
def marginals() -> dict[str, Marginal]:
    """Every variable of `marginals.csv`, in its order."""
    text = files(__package__).joinpath("marginals.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["variable"]: Marginal(
            mean=(float(row["survived_mean"]), float(row["died_mean"])),
            sd=(float(row["survived_sd"]), float(row["died_sd"])),
            median=(float(row["survived_median"]), float(row["died_median"])) if row["survived_median"] else None,
            missing=(float(row["survived_missing"]), float(row["died_missing"])),
            within_sd=float(row["within_sd"]),
            source=row["source"],
        )
        for row in rows
    }
