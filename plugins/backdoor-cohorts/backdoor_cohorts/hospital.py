"""From raw hospital tables in the MIMIC-IV layout to a cohort: the one way, for real and synthetic data alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from backdoor_cohorts.database import blaming, database, prepare, run_step
from backdoor_cohorts.engine import Database, EngineName, InterruptedRun, Reader
from backdoor_cohorts.features import DICTIONARY, item_map, variables
from backdoor_cohorts.raw import RawTable, find_tables, load_tables, open_reader, raw_files, viewed
from backdoor_cohorts.writing import attrition, card, write_views
from backdoor_core.contracts import CohortCard, Inclusion

__all__ = ["SUBGROUPS", "build_hospital", "raw_files"]

SUBGROUPS = (
    "sex",
    "age",
    "race",
    "marital_status",
    "admission_type",
    "admission_location",
    "insurance",
    "first_careunit",
)
"""The static columns of `stays.parquet`: all known at admission."""

FILTERS = (
    "chartevents",
    "labevents",
    "ingredientevents",
    "prescriptions",
    "outputevents",
    "microbiologyevents",
    "procedureevents",
)
"""The steps that each read one raw file, in about the order of its size in MIMIC-IV."""

READ = {
    "chartevents": "chart_rows",
    "labevents": "lab_rows",
    "ingredientevents": "ingredient_rows",
    "outputevents": "output_rows",
    "microbiologyevents": "microbiology_rows",
    "procedureevents": "procedure_rows",
}
"""Step -> the table into which it reads, whose `unfiled` tells what has no time of filing."""

PAST_DISCHARGE = (
    "Stays shorter than the window are included: their window runs on after ICU discharge, so that what is not "
    "measured there tells of the outcome."
)
CULTURES = "The result of a culture is shown where it was filed within the window; else only that it was taken."
INPUTS = "There is no icu/ingredientevents: the events of the type INGREDIENT are those of icu/inputevents."
_LENGTH = "The label is the length of the ICU stay; a stay that death ended early has the label of its length."
LABELS = {
    "hospital_mortality": "The label is death in hospital (hospital_expire_flag); deaths after discharge do not count.",
    "icu_mortality": "The label is death (deathtime) before or at ICU discharge; later deaths in hospital do not.",
    "los_gt_3d": _LENGTH,
    "los_gt_7d": _LENGTH,
}


def build_hospital(
    raw: Path,
    out: Path,
    inclusion: Inclusion,
    *,
    source: str,
    description: str,
    notes: Sequence[str] = (),
    engine: EngineName = "duckdb",
    threads: int = 2,
    memory: str = "2GB",
    spark_master: str = "local[2]",
) -> CohortCard:
    """Write the cohort of the raw tables under `raw` into the existing directory `out`.

    `raw` holds `hosp/` and `icu/`, each table as .parquet, .csv or .csv.gz (see `backdoor_cohorts.raw` for the
    columns read). Each file is read once for all views, several side by side. The result, byte for byte, does not
    depend on the order of the raw rows, their file format, `engine`, `threads`, `memory` or `spark_master`; what does
    not fit into `memory` is put off to a folder in `out`, which is removed at the end. Times are hours since ICU
    admission; the window is half-open, so an event exactly `window_hours` after admission is not seen.

    Raises `BackdoorError` naming file and column where the raw data is not as published.
    """
    chosen = variables(inclusion.features, inclusion.window_hours)
    names = {feature.name for feature in chosen}
    items = item_map(entry.feature for entry in DICTIONARY if entry.feature in names)
    reader: Reader = open_reader
    opened: AbstractContextManager[Database] = _duckdb(out, threads, memory)
    if engine == "spark":
        from backdoor_cohorts.spark import open_reader as spark_reader, spark_database

        reader = spark_reader
        opened = spark_database(out, master=spark_master, memory=memory)
    tables = find_tables(raw, inclusion, [item.itemid for item in items])
    with opened as connection:
        load_tables(connection, tables, reader)
        prepare(connection, inclusion, chosen, items)
        run_step(connection, "stays")
        run_step(connection, "inclusion")
        attrition(connection, inclusion)  # before the long part, so that an empty cohort is told at once
        _filter(connection, tables, reader, threads)
        with blaming(raw):
            if "chartevents" in tables:
                run_step(connection, "measurements")
            if "d_labitems" in tables:
                run_step(connection, "events")
            told = _notes(connection, inclusion, tables)
            written = write_views(connection, out, inclusion, SUBGROUPS, dataset=source)
        return card(
            connection,
            inclusion,
            written.features,
            source=source,
            description=description,
            notes=(*notes, *told),
            empty=written.empty,
            series_features=written.series_features,
            views=written.views,
        )


@contextmanager
def _duckdb(out: Path, threads: int, memory: str) -> Iterator[Database]:
    with database(out, threads=threads, memory=memory) as connection:
        # How many rows a CSV file has is unknown, and the planner would gather the larger table of a join in memory:
        # so joins are done as they are written, the small table last.
        connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        yield connection


def _filter(connection: Database, tables: Mapping[str, RawTable], reader: Reader, threads: int) -> None:
    """Read every event file once, up to `threads` side by side: a gzip stream keeps one processor busy at most."""
    steps = [step for step in FILTERS if step in tables]
    cursors = {step: connection.cursor() for step in steps}

    def read(step: str) -> None:
        with blaming(tables[step].path), viewed(cursors[step], tables[step], reader):
            run_step(cursors[step], step)

    with ThreadPoolExecutor(min(threads, len(steps))) as pool:
        futures: dict[str, Future[None]] = {step: pool.submit(read, step) for step in steps}
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            for step, future in futures.items():
                if not future.cancel() and not future.done():
                    cursors[step].interrupt()
    # In the order of the steps, so that of two bad files the same is always told; an interrupted one comes last.
    errors = [future.exception() for future in futures.values() if not future.cancelled()]
    for error in sorted((e for e in errors if e is not None), key=_interrupted):
        raise error
    for cursor in cursors.values():
        cursor.close()


def _interrupted(error: BaseException) -> bool:
    import duckdb

    return isinstance(error, (duckdb.InterruptException, InterruptedRun))


def _notes(connection: Database, inclusion: Inclusion, tables: Mapping[str, RawTable]) -> list[str]:
    notes = [LABELS[inclusion.label]]
    if inclusion.min_los_hours < inclusion.window_hours and inclusion.gap_hours == 0:
        notes.append(PAST_DISCHARGE)
    if "microbiologyevents" in tables:
        notes.append(CULTURES)
    if "ingredientevents" in tables and tables["ingredientevents"].path.name.startswith("inputevents"):
        notes.append(INPUTS)
    if inclusion.visibility == "storetime":
        notes.append(_unfiled(connection, tables))
    return notes


def _unfiled(connection: Database, tables: Mapping[str, RawTable]) -> str:
    query = "SELECT COALESCE(SUM(unfiled), 0) FROM"
    total = sum(int(connection.execute(f"{query} {table}").fetchall()[0][0]) for table in _made(tables))
    return (
        f"Values count from the time they were filed (storetime); {total} in the windows have none and count from "
        "the time they were taken, as do all prescriptions, which have no storetime."
    )


def _made(tables: Mapping[str, RawTable]) -> list[str]:
    return [table for step, table in READ.items() if step in tables]
