"""Static columns as numbers: encoders learned from training rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.scaling import center_and_scale

OTHER = "other"
"""Where a category goes that the training part does not have, or that is missing."""


@dataclass(frozen=True)
class StaticEncoder:
    """Numbers are centered, scaled and get a flag for missing; categories are one-hot with one slot for all others."""

    numbers: Mapping[str, tuple[float, float]]
    """Center and scale of each numeric column."""
    categories: Mapping[str, tuple[str, ...]]
    """Training categories of each other column, sorted."""

    @property
    def columns(self) -> tuple[str, ...]:
        """(S,) names: ``age``, ``age=missing``, ``sex=F``, ``sex=M``, ``sex=other``, by column in order of name."""
        return tuple(name for column in self.sources for name in self._names(column))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the static columns, sorted."""
        return tuple(sorted([*self.numbers, *self.categories]))

    @property
    def source_of_column(self) -> NDArray[np.int64]:
        """(S,) position in `sources` of the static column that each encoded one belongs to."""
        sizes = [len(self._names(column)) for column in self.sources]
        return np.repeat(np.arange(len(sizes)), sizes)

    def encode(self, statics: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float32]:
        """(rows, S) float32. Raises `KeyError` for a column that is not there."""
        blocks = [self._encoded(name, statics[name]) for name in self.sources]
        return np.concatenate([np.empty((rows, 0), np.float32), *blocks], axis=1)

    def _names(self, column: str) -> list[str]:
        if column in self.numbers:
            return [column, f"{column}=missing"]
        return [f"{column}={value}" for value in (*self.categories[column], OTHER)]

    def _encoded(self, name: str, column: NDArray[Any]) -> NDArray[np.float32]:
        if name in self.numbers:
            center, scale = self.numbers[name]
            values = column.astype(np.float64)
            missing = ~np.isfinite(values)
            return np.column_stack([np.where(missing, 0.0, (values - center) / scale), missing]).astype(np.float32)
        known = {value: k for k, value in enumerate(self.categories[name])}
        place = [known.get(_word(value), len(known)) for value in column]
        return np.eye(len(known) + 1, dtype=np.float32)[place]

    def as_json(self) -> dict[str, Any]:
        """JSON-able content."""
        return {
            "numbers": {name: list(pair) for name, pair in self.numbers.items()},
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            {name: (float(pair[0]), float(pair[1])) for name, pair in content["numbers"].items()},
            {name: tuple(values) for name, values in content["categories"].items()},
        )


def fit_static_encoder(statics: Mapping[str, NDArray[Any]]) -> StaticEncoder:
    """Learn means, standard deviations and categories from training columns (N,)."""
    numbers, categories = {}, {}
    for name, column in statics.items():
        if column.dtype.kind in "iufb":
            values = column.astype(np.float64)
            numbers[name] = center_and_scale(values[np.isfinite(values)], "standard")
        else:
            # The slot for all others stands last, also where a hospital calls a category by its name.
            categories[name] = tuple(sorted({_word(value) for value in column} - {"", OTHER}))
    return StaticEncoder(numbers, categories)


def _word(value: object) -> str:
    """A category as text; empty where it is missing (None, NaN)."""
    return "" if value is None or value != value else str(value)
