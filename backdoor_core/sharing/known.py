"""Ids, measured values and notes on disk, as far as an export holds them too: read part by part, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError

_IDS: Final = frozenset({"stay_id", "subject_id", "hadm_id"})
_FILES: Final = ("stays.parquet", "table.parquet", "series.parquet", "events/data/*.parquet")
_ROWS: Final = 1 << 17
_FEWEST_CHARACTERS: Final = 5
"""Of a note's name: a shorter one is found by chance."""


def ids_and_values(
    cohorts: Sequence[Path], numbers: Mapping[int, Any], values: Mapping[float, Any]
) -> Iterator[tuple[Literal["id", "value"], float]]:
    """Which of `numbers` are ids of the cohorts, and which of `values` are measured values as float32.

    Raises `BackdoorError` where a cohort has no stays.parquet: then nothing can be checked.
    """
    wanted = np.array(sorted(numbers), dtype=np.float64)
    singles: dict[float, float] = {}
    for value in values:
        singles.setdefault(float(np.float32(abs(value))), value)
    measured = np.array(sorted(singles), dtype=np.float32)
    for folder in cohorts:
        if not (folder / "stays.parquet").is_file():
            raise BackdoorError(f"{folder / 'stays.parquet'}: no such file; an export cannot be checked without it")
        for path in (path for pattern in _FILES for path in sorted(folder.glob(pattern))):
            for is_id, column in _columns(path, ids=bool(numbers), values=bool(values)):
                if is_id:
                    yield from (("id", float(found)) for found in np.intersect1d(column, wanted))
                else:
                    yield from (("value", singles[float(found)]) for found in np.intersect1d(column, measured))


def _columns(path: Path, *, ids: bool, values: bool) -> Iterator[tuple[bool, NDArray[Any]]]:
    """Parts of the columns of ids, as float64, and of those of measured values, as absolute float32."""
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    names = [name for name in schema.names if (ids if name in _IDS else values and _measured(schema.field(name).type))]
    if not names:
        return
    for batch in file.iter_batches(_ROWS, columns=names):
        for name in names:
            column = batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False)
            column = column[column == column]
            # Ids beyond 2**53 would be found among their neighbors: then too much is refused, never too little.
            yield name in _IDS, column.astype(np.float64) if name in _IDS else np.abs(column.astype(np.float32))


def _measured(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind))


def note_words(
    folder: Path, texts: Mapping[str, Any], numbers: Mapping[int, Any]
) -> Iterator[tuple[Literal["name", "text", "patient"], str]]:
    """Which of `texts` are a note or its name, and which of `numbers` its name or its patient."""
    table = pq.read_table(folder / "notes.parquet", columns=["record_id", "subject_id", "text"])
    for name, patient, text in zip(*(table.column(key).to_pylist() for key in table.column_names), strict=True):
        named = str(name)
        if len(named) >= _FEWEST_CHARACTERS and (named in texts or (named.isdigit() and int(named) in numbers)):
            yield "name", named
        if len(text) >= _FEWEST_CHARACTERS and text.strip() in texts:
            yield "text", text.strip()
        if isinstance(patient, int) and patient in numbers:
            yield "patient", str(patient)
