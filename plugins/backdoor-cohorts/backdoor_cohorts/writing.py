"""From the tables that the SQL steps make to the files of a cohort and its card."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from backdoor_cohorts.database import query, run_step
from backdoor_cohorts.engine import Database
from backdoor_cohorts.features import SUMMED, series_features, table_columns, variables
from backdoor_core.contracts import Attrition, CohortCard, Feature, Inclusion, Modality
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from backdoor_cohorts.dense import Stays

STATIC = frozenset({"age", "sex"})
"""Features that every stay has without a measurement."""

LABELS = {
    "hospital_mortality": "hospital mortality known",
    "icu_mortality": "ICU mortality known",
    "los_gt_3d": "length of ICU stay known",
    "los_gt_7d": "length of ICU stay known",
}


@dataclass(frozen=True)
class Written:
    """What `write_views` wrote."""

    views: tuple[Modality, ...]
    features: tuple[Feature, ...]
    """Of the table view; none where it was not asked for."""
    series_features: tuple[Feature, ...]
    empty: tuple[str, ...]
    """Variables that no stay has."""


def attrition(connection: Database, inclusion: Inclusion) -> tuple[Attrition, ...]:
    """What `sql/inclusion.sql` counted, rule by rule. Raises `BackdoorError` where no stay is left."""
    end = inclusion.window_hours + inclusion.gap_hours
    rules = (
        ("ICU stays in the source", True),
        (f"patient of {inclusion.min_age} years or older at hospital admission", True),
        ("valid times", True),
        ("first ICU stay of the patient", inclusion.first_stay_only),
        (f"ICU stay of at least {inclusion.min_los_hours:g} h", True),
        (f"ICU stay of at least {end} h: the window and the gap of {inclusion.gap_hours} h", inclusion.gap_hours > 0),
        (f"alive {end} h after ICU admission", True),
        (LABELS[inclusion.label], True),
    )
    (counts,) = connection.execute("SELECT * FROM attrition").fetchall()
    steps = tuple(Attrition(rule, int(count)) for (rule, asked), count in zip(rules, counts, strict=True) if asked)
    for step in steps:
        if step.stays == 0:
            raise BackdoorError(f"no stay is left by the rule {step.rule!r}; loosen `inclusion` or give other data")
    return steps


def write_views(
    connection: Database,
    out: Path,
    inclusion: Inclusion,
    statics: Sequence[str],
    *,
    dataset: str = "",
    available: frozenset[Modality] = frozenset({"table", "series", "events"}),
) -> Written:
    """Write `stays.parquet` and the views that `inclusion` asks for, as `CohortSource.build` says: all or nothing.

    Reads the tables `stays`, `measurements`, `events` and `codes`. `statics` are the columns of `stays` known at
    admission; `dataset` names the source in the MEDS dataset; `available` is what the source has.
    Raises `BackdoorError` where no stay has any measurement or event.
    """
    views = tuple(view for view in ("table", "series", "events") if view in inclusion.views and view in available)
    columns = table_columns(inclusion.features, inclusion.window_hours)
    places = {f.name: place for place, f in enumerate(variables(inclusion.features, inclusion.window_hours))}
    empty: tuple[str, ...] = ()
    with TemporaryDirectory(dir=out, prefix=".views-") as folder, ThreadPoolExecutor(1) as pool:
        ready = Path(folder)
        # Beside the other views, with a cursor of its own.
        events = (
            pool.submit(_write_events, connection.cursor(), ready / "events", dataset) if "events" in views else None
        )
        stays = _write_stays(connection, ready / "stays.parquet", statics)
        if "table" in views:
            from backdoor_cohorts.dense import write_table

            run_step(connection, "summary")
            if inclusion.features == "rich":
                run_step(connection, "lasts")
            empty = write_table(connection, ready / "table.parquet", stays, columns, places, SUMMED)
        if "series" in views:
            empty = _write_series(connection, ready / "series.parquet", stays, inclusion)
        if views != ("events",) and len(empty) >= len(places) - len(STATIC):
            raise BackdoorError(
                "no stay has a measurement in its window; check that the event tables belong to the stays"
            )
        if events is not None:
            events.result()
        for path in sorted(ready.iterdir()):
            path.replace(out / path.name)
    return Written(
        views=views,
        features=tuple(column.feature for column in columns) if "table" in views else (),
        series_features=series_features(inclusion.features) if "series" in views else (),
        empty=empty,
    )


def _write_stays(connection: Database, path: Path, statics: Sequence[str]) -> Stays:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from backdoor_cohorts.dense import Stays

    kept = ["stay_id", "subject_id", "CAST(label AS TINYINT) AS label", "intime", "outtime", *statics]
    query_ = f"SELECT {', '.join(kept)} FROM stays ORDER BY stay_id"
    stays = connection.sql(query_).to_arrow_table()
    # Without the metadata and in one piece, so that the bytes depend on nothing but the content.
    pq.write_table(stays.replace_schema_metadata(None).combine_chunks(), path)
    told = connection.sql(
        "SELECT stay_id, CAST(age AS DOUBLE) AS age, CASE sex WHEN 'M' THEN 1.0 WHEN 'F' THEN 0.0 END AS sex "
        "FROM stays ORDER BY stay_id"
    ).to_arrow_table()
    known = {
        name: np.asarray(pc.fill_null(told.column(name).cast(pa.float64()), float("nan"))) for name in sorted(STATIC)
    }
    return Stays(told.column("stay_id").to_numpy(), known)


def _write_series(connection: Database, path: Path, stays: Stays, inclusion: Inclusion) -> tuple[str, ...]:
    from backdoor_cohorts.dense import write_series

    return write_series(connection, path, stays, series_features(inclusion.features), SUMMED, inclusion.window_hours)


def _write_events(connection: Database, directory: Path, dataset: str) -> None:
    from importlib.metadata import version

    from backdoor_core.cohort.events import write_meds

    if not connection.execute("SELECT 1 FROM events LIMIT 1").fetchall():
        raise BackdoorError("no stay has an event in its window; check that the event tables belong to the stays")
    labels = connection.sql(
        "SELECT subject_id, window_end AS prediction_time, label = 1 AS boolean_value, stay_id FROM stays"
    ).to_arrow_table()
    codes = connection.sql(
        "SELECT code, MIN(description) AS description, CAST(NULL AS VARCHAR[]) AS parent_codes FROM codes "
        "GROUP BY code ORDER BY code"
    ).to_arrow_table()
    ordered = connection.sql(query("event_order").rstrip().rstrip(";")).to_arrow_reader(1 << 17)
    write_meds(directory, ordered, codes, labels, dataset_name=dataset, dataset_version=version("backdoor-cohorts"))


def card(
    connection: Database,
    inclusion: Inclusion,
    features: Sequence[Feature],
    *,
    source: str,
    description: str,
    notes: Sequence[str],
    empty: Sequence[str],
    series_features: Sequence[Feature] = (),
    views: tuple[Modality, ...] = ("table",),
) -> CohortCard:
    """The card of a cohort; `empty` are the variables that no stay has."""
    more = [f"Never measured, so empty in every stay: {', '.join(empty)}."] if empty else []
    return CohortCard(
        source,
        description,
        attrition(connection, inclusion),
        tuple(features),
        tuple(series_features),
        views,
        (*notes, *more),
    )
