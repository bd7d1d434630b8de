"""From a MEDS dataset and labels to a cohort (see `backdoor_cohorts.meds`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_cohorts.database import blaming, database, run_step
from backdoor_cohorts.features import DICTIONARY, Entry
from backdoor_cohorts.meds import Meds
from backdoor_core.cohort.columns import conform, read_columns, refuse_twice
from backdoor_core.cohort.events import CODES, EVENT_ORDER, EVENTS, LABELS, write_meds
from backdoor_core.contracts import Attrition, CohortCard, Feature, Inclusion, Modality
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NOTES = (
    "The label and who is in the cohort are the label file's: min_los_hours and inclusion.label are not applied.",
    "The window ends at the prediction time and includes it; intime is where it begins, outtime is not known.",
    "Events without a time (static ones) are left out.",
)
_REQUIRED = pa.schema([EVENTS.field(name) for name in ("subject_id", "time", "code")])
_SQL = {"numeric_value": "FLOAT", "text_value": "VARCHAR", "hadm_id": "BIGINT", "unit": "VARCHAR"}
_OPTIONAL = pa.schema([EVENTS.field(name) for name in ("numeric_value", "text_value", "hadm_id", "unit")])


def build_meds(
    out: Path,
    inclusion: Inclusion,
    options: Meds.Options,
    root: Path,
    data: Sequence[Path],
    label_path: Path,
    label_files: Sequence[Path],
) -> CohortCard:
    """Write the cohort into the existing directory `out`. The data files are read once."""
    views = _views(inclusion, options)
    chosen = _chosen(options.table)
    labels = _labels(label_path, label_files, inclusion.window_hours)
    with database(out, threads=options.threads, memory=options.memory) as connection:
        _read_data(connection, data, labels, root / "data")
        stays, attrition, notes = _stays(connection, inclusion, label_path)
        pq.write_table(stays.drop_columns(["prediction_time"]), out / "stays.parquet", compression="zstd")
        connection.register("read_stays", stays)
        connection.execute("CREATE TABLE stays AS SELECT stay_id FROM read_stays")
        features: tuple[Feature, ...] = ()
        if "table" in views:
            features = tuple(_feature(entry, inclusion.window_hours) for entry, _ in chosen)
            table = _table(connection, stays.column("stay_id").to_numpy(), chosen, features, root)
            pq.write_table(table, out / "table.parquet", compression="zstd")
        if "events" in views:
            _write_events(connection, out / "events", stays, root)
    return CohortCard(
        source=Meds.name,
        description=f"MEDS dataset {root.name} with the labels {label_path.name}",
        attrition=attrition,
        features=features,
        views=views,
        notes=(*NOTES, *notes),
    )


def _views(inclusion: Inclusion, options: Meds.Options) -> tuple[Modality, ...]:
    for name, wanted, why in (
        ("gap_hours", 0, "a gap belongs into the label file"),
        ("visibility", "charttime", "MEDS has one time an event"),
        ("features", "core30", "the table has the features of cohorts.meds.table"),
    ):
        if getattr(inclusion, name) != wanted:
            raise BackdoorError(f"inclusion.{name}: {why}; use {wanted} with the source meds")
    offered: tuple[Modality, ...] = ("table", "events") if options.table else ("events",)
    views = tuple(view for view in offered if view in inclusion.views)
    if not views:
        hint = "" if options.table else " (map codes in cohorts.meds.table for table)"
        raise BackdoorError(
            f"inclusion.views: {', '.join(inclusion.views)} is asked for, but the source meds gives "
            f"{' and '.join(offered)}{hint}"
        )
    return views


def _chosen(table: Mapping[str, Sequence[str]]) -> tuple[tuple[Entry, Sequence[str]], ...]:
    """The dictionary entries that are mapped, in dictionary order, with their codes."""
    entries = {entry.feature: entry for entry in DICTIONARY if entry.aggregate != "value"}
    for name, codes in table.items():
        if name not in entries:
            raise BackdoorError(f"cohorts.meds.table: unknown feature {name!r}; known: {', '.join(entries)}")
        if not codes:
            raise BackdoorError(f"cohorts.meds.table.{name}: no code is given; expected at least one")
    return tuple((entry, table[name]) for name, entry in entries.items() if name in table)


def _feature(entry: Entry, window_hours: int) -> Feature:
    if entry.aggregate == "sum":
        high = entry.high * max(1.0, window_hours / 24)
        return Feature(entry.feature, entry.unit, entry.low, high, f"{entry.label}, sum over the window")
    return Feature(
        entry.feature, entry.unit, entry.record_low, entry.record_high, f"{entry.label}, mean over the window"
    )


def _labels(place: Path, files: Sequence[Path], window_hours: int) -> pa.Table:
    """All labels by subject and time, with stay_id and intime."""
    parts = []
    for file in files:
        part = read_columns(file)
        numbered = "stay_id" in part.column_names
        wanted = LABELS if numbered else LABELS.remove(LABELS.get_field_index("stay_id"))
        parts.append(conform(part, wanted, file))
        if parts[-1].schema != parts[0].schema:
            raise BackdoorError(
                f"{file}: column stay_id is in some label files and not in others; expected all or none"
            )
    labels = pa.concat_tables(parts).sort_by([("subject_id", "ascending"), ("prediction_time", "ascending")])
    if labels.num_rows == 0:
        raise BackdoorError(f"{place}: no label in it; expected one row a stay")
    if "stay_id" not in labels.column_names:
        labels = labels.append_column(LABELS.field("stay_id"), pa.array(np.arange(1, labels.num_rows + 1)))
    refuse_twice(labels, "stay_id", place)
    subject, time = labels.column("subject_id").to_numpy(), labels.column("prediction_time").to_numpy()
    same = (subject[1:] == subject[:-1]) & (time[1:] == time[:-1])
    if same.any():
        raise BackdoorError(
            f"{place}: column prediction_time: subject_id {subject[int(same.argmax())]} has the same time twice; "
            "expected one label for each subject and time"
        )
    return labels.append_column("intime", pa.array(time - np.timedelta64(window_hours, "h")))


def _read_data(connection: DuckDBPyConnection, data: Sequence[Path], labels: pa.Table, place: Path) -> None:
    """Create the tables of `sql/meds_window.sql`."""
    found = [_optional(file) for file in data]
    columns = ", ".join(
        f"CAST({'NULL' if all(field.name not in names for names in found) else field.name} AS {_SQL[field.name]}) "
        f"AS {field.name}"
        for field in _OPTIONAL
    )
    files = ", ".join("'" + str(file).replace("'", "''") + "'" for file in data)
    connection.register("read_labels", labels)
    with blaming(place):
        connection.execute("CREATE TABLE labels AS SELECT * FROM read_labels")
        connection.execute(
            f"CREATE VIEW events AS SELECT subject_id, time, code, {columns} "
            f"FROM read_parquet([{files}], union_by_name = true)"
        )
        run_step(connection, "meds_window")
        ((count, nameless, infinite),) = connection.execute(
            "SELECT COUNT(*), COUNT(*) FILTER (code IS NULL), COUNT(*) FILTER (ISINF(numeric_value)) FROM seen"
        ).fetchall()
    for bad, what in ((nameless, "code is empty"), (infinite, "numeric_value is infinite")):
        if bad:
            raise BackdoorError(f"{place}: column {what} in {bad} events of the windows; expected none")
    if count == 0:
        raise BackdoorError(f"{place}: no event lies in the window of a label; check that the labels belong to it")


def _optional(file: Path) -> set[str]:
    """Which optional columns a data file has; an extension column that is not as ours does not count."""
    try:
        empty = pq.read_schema(file).empty_table()
    except (pa.ArrowInvalid, OSError) as error:
        raise BackdoorError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    meds = [field for field in _OPTIONAL if field.name.endswith("_value") and field.name in empty.column_names]
    conform(empty, pa.schema([*_REQUIRED, *meds]), file)
    names = {field.name for field in meds}
    if "hadm_id" in empty.column_names and pa.types.is_integer(empty.schema.field("hadm_id").type):
        names.add("hadm_id")
    if "unit" in empty.column_names:
        names.add("unit")
    return names


def _stays(
    connection: DuckDBPyConnection, inclusion: Inclusion, place: Path
) -> tuple[pa.Table, tuple[Attrition, ...], list[str]]:
    """The included stays (with their prediction time), the count after each rule, and the card's notes."""
    candidates = connection.sql("SELECT * FROM candidates ORDER BY stay_id").to_arrow_table()
    born = candidates.column("age").null_count < candidates.num_rows
    rules: list[tuple[str, NDArray[np.bool_]]] = []
    if born:
        age = pc.fill_null(candidates.column("age"), -1).to_numpy()
        rules.append(
            (f"subject of {inclusion.min_age} years or older where the window begins", age >= inclusion.min_age)
        )
    if inclusion.first_stay_only:
        first = candidates.sort_by([("subject_id", "ascending"), ("prediction_time", "ascending")])
        subject = first.column("subject_id").to_numpy()
        ids = first.column("stay_id").to_numpy()[np.diff(subject, prepend=subject[0] - 1) != 0]
        rules.append(("first prediction time of the subject", np.isin(candidates.column("stay_id").to_numpy(), ids)))
    rules.append(("alive at the prediction time", candidates.column("alive").to_numpy()))
    keep = np.ones(candidates.num_rows, np.bool_)
    steps = [Attrition("labels in the file", len(keep))]
    for rule, passes in rules:
        keep &= passes
        steps.append(Attrition(rule, int(keep.sum())))
        if not keep.any():
            raise BackdoorError(f"{place}: no label is left by the rule {rule!r}; loosen `inclusion` or give others")
    notes = [] if born else ["The dataset has no MEDS_BIRTH, so min_age is not applied and age is empty."]
    stays = candidates.filter(pa.array(keep)).drop_columns(["alive"])
    return stays.replace_schema_metadata(None).combine_chunks(), tuple(steps), notes


def _table(
    connection: DuckDBPyConnection,
    ids: NDArray[np.int64],
    chosen: Sequence[tuple[Entry, Sequence[str]]],
    features: Sequence[Feature],
    root: Path,
) -> pa.Table:
    """stay_id and one column per feature, for the stays `ids` (sorted)."""
    rows = [
        (code, entry.feature, entry.aggregate, entry.record_low, entry.record_high)
        for entry, codes in chosen
        for code in codes
    ]
    connection.execute(
        "CREATE TABLE code_map (code VARCHAR, feature VARCHAR, aggregate VARCHAR, low DOUBLE, high DOUBLE)"
    )
    connection.executemany("INSERT INTO code_map VALUES (?, ?, ?, ?, ?)", rows)
    ((unseen,),) = connection.execute(
        "SELECT MIN(code) FROM code_map WHERE code NOT IN (SELECT DISTINCT code FROM seen)"
    ).fetchall()
    if unseen is not None:
        raise BackdoorError(f"cohorts.meds.table: no event in a window has the code {unseen!r}; check it in {root}")
    run_step(connection, "meds_table")
    long = connection.sql("SELECT * FROM meds_table").to_arrow_table()
    columns: dict[str, Any] = {"stay_id": ids}
    for feature in features:
        part = long.filter(pc.equal(long.column("feature"), feature.name))
        value = part.column("value").to_numpy()
        value = np.where((value >= feature.low) & (value <= feature.high), value, np.nan)
        columns[feature.name] = np.full(len(ids), np.nan, np.float32)
        columns[feature.name][np.searchsorted(ids, part.column("stay_id").to_numpy())] = value
    return pa.table(columns)


def _write_events(connection: DuckDBPyConnection, folder: Path, stays: pa.Table, root: Path) -> None:
    path = root / "metadata" / "codes.parquet"
    codes = CODES.empty_table()
    if path.is_file():
        codes = read_columns(path)
        lacking = [name for name in CODES.names if name not in codes.column_names and name != "code"]
        for name in lacking:
            codes = codes.append_column(CODES.field(name), pa.nulls(codes.num_rows, CODES.field(name).type))
        used = connection.sql("SELECT DISTINCT e.code FROM seen AS e INNER JOIN stays AS s ON e.stay_id = s.stay_id")
        codes = conform(codes, CODES, path)
        codes = codes.filter(pc.is_in(codes.column("code"), used.to_arrow_table().column("code").combine_chunks()))
    events = connection.sql(
        f"SELECT {', '.join(f'e.{name}' for name in EVENTS.names)} FROM seen AS e "
        f"INNER JOIN stays AS s ON e.stay_id = s.stay_id ORDER BY {', '.join(f'e.{name}' for name in EVENT_ORDER)}"
    ).to_arrow_reader(1 << 16)
    labels = pa.table(
        {
            "subject_id": stays.column("subject_id"),
            "prediction_time": stays.column("prediction_time"),
            "boolean_value": pc.equal(stays.column("label"), 1),
            "stay_id": stays.column("stay_id"),
        }
    )
    told = root / "metadata" / "dataset.json"
    names = read_json(told) if told.is_file() else {}
    write_meds(
        folder,
        events,
        codes,
        labels,
        dataset_name=str(names.get("dataset_name", root.name)),
        dataset_version=str(names.get("dataset_version", "unknown")),
    )
