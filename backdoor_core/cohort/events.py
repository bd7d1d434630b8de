"""A cohort's events on disk: a MEDS 0.4 dataset (https://github.com/Medical-Event-Data-Standard/meds).

The folder holds ``data/0.parquet`` (the events, by subject and time, plus the extension columns hadm_id, stay_id
and unit), ``metadata/codes.parquet`` and ``metadata/dataset.json``, ``labels.parquet`` (MEDS LabelSchema, which
takes no further column) and ``metadata/stays.parquet`` (the stay_id of each label). Time is absolute on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_core.cohort.columns import conform, read_columns, refuse_twice
from backdoor_core.contracts import EventsView, Integers
from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing, write_json

MEDS_VERSION = "0.4.1"
EVENTS = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us"), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
        pa.field("hadm_id", pa.int64()),
        pa.field("stay_id", pa.int64(), nullable=False),
        pa.field("unit", pa.string()),
    ]
)
"""Columns of the events; MEDS's DataSchema and three of our own."""
EVENT_ORDER = ("subject_id", "time", "stay_id", "code", "numeric_value", "text_value", "unit", "hadm_id")
"""The order of the events on disk. MEDS asks for the first two; the rest makes equal data equal bytes."""
CODES = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("parent_codes", pa.list_(pa.string())),
    ]
)
LABELS = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("prediction_time", pa.timestamp("us"), nullable=False),
        pa.field("boolean_value", pa.bool_(), nullable=False),
        pa.field("stay_id", pa.int64(), nullable=False),
    ]
)
"""What `write_meds` is given; stay_id goes into a file of its own."""

_READ = pa.schema(
    [
        *(EVENTS.field(name) for name in ("subject_id", "time", "stay_id", "numeric_value")),
        pa.field("code", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("text_value", pa.dictionary(pa.int32(), pa.large_string())),
    ]
)
_ROW_GROUP = 1 << 20


def write_meds(
    directory: Path,
    events: pa.Table | pa.RecordBatchReader,
    codes: pa.Table,
    labels: pa.Table,
    *,
    dataset_name: str,
    dataset_version: str,
) -> None:
    """Write a MEDS dataset of stays into `directory`.

    - `events`: the columns of `EVENTS` in `EVENT_ORDER`; a reader is streamed, so that any number of events
      takes the same memory.
    - `codes`: the columns of `CODES`; a code without description is described by itself.
    - `labels`: the columns of `LABELS`, one row a stay. An event may not lie after the prediction time of its stay.

    Columns of the same kind (another width of number or text) are cast; other columns are left out.
    Raises `BackdoorError` naming file and column where something is missing, of another type, empty, out of
    order or after the prediction time.
    """
    label_path, code_path = directory / "labels.parquet", directory / "metadata" / "codes.parquet"
    labels = conform(labels, LABELS, label_path).sort_by(
        [("subject_id", "ascending"), ("prediction_time", "ascending")]
    )
    codes = conform(codes, CODES, code_path)
    refuse_twice(labels, "stay_id", label_path)
    refuse_twice(codes, "code", code_path)
    seen = _write_events(directory / "data" / "0.parquet", events, labels)
    _write(code_path, _described(codes, seen))
    _write(label_path, labels.drop_columns(["stay_id"]))
    _write(directory / "metadata" / "stays.parquet", labels.drop_columns(["boolean_value"]))
    # Without created_at: equal data must give equal bytes.
    write_json(
        directory / "metadata" / "dataset.json",
        {
            "dataset_name": dataset_name,
            "dataset_version": dataset_version,
            "etl_name": "backdoor_core",
            "etl_version": version("backdoor_core"),
            "meds_version": MEDS_VERSION,
            "raw_source_id_columns": ["hadm_id", "stay_id"],
            "code_modifier_columns": ["unit"],
        },
    )


def read_meds(
    directory: Path,
    stay_id: Integers,
    intime: NDArray[np.datetime64],
    outtime: NDArray[np.datetime64] | None = None,
    *,
    relative_to: Literal["admission", "discharge"] = "admission",
) -> EventsView:
    """The events of the given stays, in their order; a stay without events has an empty range.

    `stay_id` is (N,), `intime` and `outtime` are (N,) datetime64[us], ICU admission and discharge. `hours` of the
    view is hours since ICU admission. With ``relative_to="discharge"`` the same field holds MINUTES to the end of
    the stay (`outtime`). That is a LEAK: it tells the model when the stay ended, and for a patient who died, when;
    nobody knows it at prediction time. It exists to reproduce published work that did so.

    Raises `BackdoorError` naming file and column where the dataset is not as `write_meds` makes it, or holds a
    stay that is not in `stay_id`; `ValueError` where discharge is asked for without `outtime`.
    """
    if relative_to == "discharge" and outtime is None:
        raise ValueError("relative_to='discharge' needs outtime")
    table = _read_events(directory)
    row = _positions(stay_id, table.column("stay_id").to_numpy(), directory / "data")
    # Stable: within a stay the order on disk, which is that of time.
    order = np.argsort(row, kind="stable")
    row = row[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(stay_id)))]).astype(np.int64)
    time = table.column("time").to_numpy()[order]
    if relative_to == "admission":
        hours = (time - intime[row]) / np.timedelta64(1, "h")
    else:
        assert outtime is not None
        hours = (outtime[row] - time) / np.timedelta64(1, "m")
    names, code = _sorted_vocabulary(table.column("code"))
    described = _descriptions(directory / "metadata" / "codes.parquet")
    return EventsView(
        stay_id=np.asarray(stay_id),
        offsets=offsets,
        codes=names,
        descriptions=tuple(described.get(name) or name for name in names),
        code=code[order],
        hours=hours.astype(np.float32),
        value=pc.fill_null(table.column("numeric_value"), np.nan).to_numpy()[order],
        text=_texts(table.column("text_value"))[order],
    )


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table.combine_chunks(), temporary, compression="zstd")


def _write_events(path: Path, events: pa.Table | pa.RecordBatchReader, labels: pa.Table) -> set[str]:
    """Write the events group by group; return their codes."""
    known = labels.sort_by("stay_id")
    last: tuple[int, np.datetime64] | None = None
    seen: set[str] = set()
    with replacing(path) as temporary, pq.ParquetWriter(temporary, EVENTS, compression="zstd") as writer:
        for group in _groups(events):
            group = conform(group, EVENTS, path)
            last = _check_order(group, last, path)
            _check_window(group, known, path)
            if pc.any(pc.is_inf(group.column("numeric_value"))).as_py():
                raise BackdoorError(f"{path}: column numeric_value holds an infinite value; expected finite or empty")
            seen.update(pc.unique(group.column("code")).to_pylist())
            writer.write_table(group.combine_chunks(), row_group_size=_ROW_GROUP)
    return seen


def _groups(events: pa.Table | pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Pieces of `_ROW_GROUP` rows, however the events come, so that the bytes do not depend on it."""
    batches = events.to_batches() if isinstance(events, pa.Table) else events
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + batch.num_rows >= _ROW_GROUP:
            head = batch.slice(0, _ROW_GROUP - rows)
            yield pa.Table.from_batches([*held, head])
            batch, held, rows = batch.slice(head.num_rows), [], 0
        held.append(batch)
        rows += batch.num_rows
    yield pa.Table.from_batches(held, schema=events.schema)


def _check_order(
    group: pa.Table, last: tuple[int, np.datetime64] | None, path: Path
) -> tuple[int, np.datetime64] | None:
    subject, time = group.column("subject_id").to_numpy(), group.column("time").to_numpy()
    if len(subject) == 0:
        return None
    if last is not None:
        subject, time = np.append(last[0], subject), np.append(last[1], time)
    if (np.diff(subject) < 0).any():
        order = ", ".join(EVENT_ORDER)
        raise BackdoorError(f"{path}: column subject_id is not in order; expected the events by {order}")
    _check_times(subject, time, path)
    return subject[-1], time[-1]


def _check_times(subject: NDArray[Any], time: NDArray[Any], path: Path) -> None:
    backwards = (subject[1:] == subject[:-1]) & (time[1:] < time[:-1])
    if backwards.any():
        raise BackdoorError(
            f"{path}: column time of subject_id {subject[int(backwards.argmax())]} is not in order; "
            "expected the events of a subject by time"
        )


def _check_window(group: pa.Table, known: pa.Table, path: Path) -> None:
    """`known` are the labels sorted by stay_id."""
    ids = known.column("stay_id").to_numpy()
    stay, time = group.column("stay_id").to_numpy(), group.column("time").to_numpy()
    row = _positions(ids, stay, path)
    late = time > known.column("prediction_time").to_numpy()[row]
    if late.any():
        raise BackdoorError(
            f"{path}: column time: {int(late.sum())} events lie after the prediction time of their stay, such as "
            f"stay_id {stay[int(late.argmax())]}; expected none"
        )
    other = group.column("subject_id").to_numpy() != known.column("subject_id").to_numpy()[row]
    if other.any():
        raise BackdoorError(
            f"{path}: column subject_id: stay_id {stay[int(other.argmax())]} is of another subject in labels.parquet"
        )


def _positions(known: Integers, wanted: Integers, path: Path) -> NDArray[np.int64]:
    """Where each wanted stay_id stands in `known` (each once, in any order)."""
    sorter = np.argsort(known, kind="stable").astype(np.int64)
    place = np.searchsorted(known[sorter], wanted)
    inside = place < len(known)
    found = sorter[np.where(inside, place, 0)] if len(known) else np.zeros(len(wanted), np.int64)
    lost = ~inside
    lost[inside] = known[found[inside]] != wanted[inside]
    if lost.any():
        raise BackdoorError(
            f"{path}: column stay_id holds {wanted[int(lost.argmax())]}, which is no stay of the cohort; expected its "
            "stays only"
        )
    return found


def _described(codes: pa.Table, seen: set[str]) -> pa.Table:
    """`codes` in order, with those of `seen` that it lacks; described by itself where there is no description."""
    given = {row["code"]: row for row in codes.to_pylist()}
    rows = [given.get(code, {"code": code}) for code in sorted(seen | given.keys())]
    return pa.Table.from_pylist([{**row, "description": row.get("description") or row["code"]} for row in rows], CODES)


def _read_events(directory: Path) -> pa.Table:
    paths = sorted((directory / "data").rglob("*.parquet"))
    if not paths:
        raise BackdoorError(f"{directory / 'data'}: no Parquet file in it; expected the events of a MEDS dataset")
    parts, starts = [], []
    for path in paths:
        part = conform(read_columns(path, ["code", "text_value"]), _READ, path)
        subject = part.column("subject_id").to_numpy()
        _check_times(subject, part.column("time").to_numpy(), path)
        starts.append(subject[np.flatnonzero(np.diff(subject, prepend=subject[:1] - 1))])
        if len(np.unique(np.concatenate(starts))) < sum(map(len, starts)):
            raise BackdoorError(f"{path}: column subject_id: the events of a subject are apart; expected them together")
        parts.append(part)
    return pa.concat_tables(parts).unify_dictionaries()


def _sorted_vocabulary(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The sorted distinct values, and the position of each cell's value among them."""
    encoded = column.combine_chunks()
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)
    used = np.unique(encoded.indices.to_numpy())
    rank = np.zeros(len(values), np.int32)
    rank[used[np.argsort(values[used])]] = np.arange(len(used), dtype=np.int32)
    return tuple(sorted(values[used])), rank[encoded.indices.to_numpy()]


def _texts(column: pa.ChunkedArray) -> NDArray[Any]:
    """(E,) strings, empty where null; equal ones are one object, so that many events take little memory."""
    encoded = column.combine_chunks()
    values = np.array([*encoded.dictionary.to_pylist(), ""], dtype=object)
    texts: NDArray[Any] = values[pc.fill_null(encoded.indices, len(values) - 1).to_numpy(zero_copy_only=False)]
    return texts


def _descriptions(path: Path) -> dict[str, str | None]:
    codes = conform(read_columns(path), pa.schema([CODES.field("code"), CODES.field("description")]), path)
    return dict(zip(codes.column("code").to_pylist(), codes.column("description").to_pylist(), strict=True))
