"""What can be ordered in the hospital: small catalogs (CSV files beside this one) of drugs, procedures and so on.

Names, units and item ids are MIMIC-IV's public vocabulary; every rate was set by hand. Columns that all have:
share (of stays with `drivers` at zero that have it), onset (mean hours until it begins), per_day (occasions in
24 hours; 0 for a single one), again (share of the later occasions on which it is repeated) and drivers
(``name weight`` pairs that add to the log odds of having it, see `drivers.py`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from backdoor_cohorts.simulate.drivers import Drivers

CatalogName = Literal["drugs", "procedures", "ingredients", "cultures"]


@dataclass(frozen=True)
class Catalog:
    """One catalog of E entries."""

    rows: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, column: str) -> list[str | None]:
        """One column; None where it is empty."""
        return [row[column] or None for row in self.rows]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """(E,) one column as numbers."""
        return np.array([float(row[column]) for row in self.rows])

    def lists(self, column: str) -> list[list[str]]:
        """One column of lists, whose parts are set apart by ``;``."""
        return [[part for part in row[column].split(";") if part] for row in self.rows]

    def places(self, column: str, picks: NDArray[np.int64], luck: NDArray[Any]) -> NDArray[np.int64]:
        """For each row of `picks` (entries), the place in the concatenated lists of one part, picked by `luck`."""
        sizes = np.array([len(parts) for parts in self.lists(column)])
        starts = np.cumsum(sizes) - sizes
        part = np.minimum((luck * sizes[picks]).astype(np.int64), sizes[picks] - 1)
        places: NDArray[np.int64] = starts[picks] + part
        return places

    def place_of(self, itemid: int) -> int:
        """Number of the entry with an item id."""
        return [row["itemid"] for row in self.rows].index(str(itemid))

    def chances(self, drivers: Drivers) -> NDArray[np.float64]:
        """(N, E) chance of each stay to have each entry."""
        stays = len(next(iter(drivers.values())))
        odds = np.tile(logit(self.numbers("share")), (stays, 1))
        for entry, weights in enumerate(self.lists("drivers")):
            for name, weight in (pair.split() for pair in weights):
                odds[:, entry] += float(weight) * drivers[name]
        chances: NDArray[np.float64] = expit(odds)
        return chances


@cache
def catalog(name: CatalogName) -> Catalog:
    """The catalog of a file beside this module."""
    return Catalog(read_rows(name))


@cache
def read_rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of ``<name>.csv`` beside this module."""
    text = files(__package__ or "").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
