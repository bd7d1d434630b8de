"""From the tables `stays` and `table_core30` to the two files of a cohort and its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_core.contracts import Attrition, CohortCard, Feature, Inclusion
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STATIC = frozenset({"age", "sex"})
"""Features that every stay has without a measurement."""


def attrition(connection: DuckDBPyConnection, inclusion: Inclusion) -> tuple[Attrition, ...]:
    """What `sql/inclusion.sql` counted, rule by rule. Raises `BackdoorError` where no stay is left."""
    rules = (
        "ICU stays in the source",
        f"patient of {inclusion.min_age} years or older at hospital admission",
        "valid times",
        f"ICU stay of at least {inclusion.min_los_hours:g} h",
        f"alive {inclusion.window_hours} h after ICU admission",
        "hospital mortality known",
    )
    (counts,) = connection.execute("SELECT * FROM attrition").fetchall()
    steps = tuple(Attrition(rule, int(count)) for rule, count in zip(rules, counts, strict=True))
    for step in steps:
        if step.stays == 0:
            raise BackdoorError(f"no stay is left by the rule {step.rule!r}; loosen `inclusion` or give other data")
    return steps


def write_cohort(
    connection: DuckDBPyConnection,
    out: Path,
    features: Sequence[Feature],
    subgroups: Sequence[str],
) -> tuple[str, ...]:
    """Write `stays.parquet` and `table.parquet` as `CohortSource.build` says; return the features never measured.

    `subgroups` are the columns of `stays` that are kept for subgroup figures.
    Raises `BackdoorError` where no stay has any measurement.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ", ".join(["stay_id", "subject_id", "CAST(label AS TINYINT) AS label", *subgroups])
    stays = connection.sql(f"SELECT {columns} FROM stays ORDER BY stay_id").to_arrow_table()
    wide = connection.sql("SELECT * FROM table_core30 ORDER BY stay_id").to_arrow_table()
    empty = tuple(f.name for f in features if wide.column(f.name).null_count == wide.num_rows)
    if len(empty) >= len(features) - len(STATIC):
        raise BackdoorError("no stay has a measurement in its window; check that the event tables belong to the stays")
    values = {f.name: pc.fill_null(wide.column(f.name).cast(pa.float64()), float("nan")) for f in features}
    table = pa.table({"stay_id": wide.column("stay_id"), **{n: v.cast(pa.float32()) for n, v in values.items()}})
    for name, content in (("stays", stays), ("table", table)):
        # Without the metadata and in one piece, so that the bytes depend on nothing but the content.
        pq.write_table(content.replace_schema_metadata(None).combine_chunks(), out / f"{name}.parquet")
    return empty


def card(
    connection: DuckDBPyConnection,
    inclusion: Inclusion,
    features: Sequence[Feature],
    *,
    source: str,
    description: str,
    notes: Sequence[str],
    empty: Sequence[str],
) -> CohortCard:
    """The card of a cohort; `empty` are the features that no stay has."""
    more = [f"Never measured, so empty in every stay: {', '.join(empty)}."] if empty else []
    return CohortCard(source, description, attrition(connection, inclusion), tuple(features), (*notes, *more))
