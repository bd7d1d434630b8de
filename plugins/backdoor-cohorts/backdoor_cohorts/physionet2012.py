"""The PhysioNet/CinC Challenge 2012 (Silva et al. 2012, Computing in Cardiology 39:245): open data, ODC-By."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion, Modality
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from backdoor_cohorts.features import Item
    from backdoor_cohorts.records2012 import Records

RECORD_HOURS = 48
"""A record covers this many hours, and the challenge took only stays that lasted as long."""

UNITS = {
    1: "Coronary Care Unit",
    2: "Cardiac Surgery Recovery Unit",
    3: "Medical ICU",
    4: "Surgical ICU",
}
"""ICUType, as the challenge names it."""

STATICS = ("sex", "age", "first_careunit")

NOTES = (
    "No patient identifier is published: each record counts as a patient of its own (subject_id is RecordID), so "
    "first_stay_only leaves none out.",
    "Length of ICU stay is not published; every record is of an ICU stay of 48 h or more by the challenge's rule.",
    "A record without a single timed measurement has no valid times.",
    "No date is published, so intime and outtime are empty; hours count from ICU admission.",
    "Only the total Glasgow Coma Score is given, so its three components are empty.",
    "SaO2 is an arterial blood gas, so it does not stand in for pulse oximetry.",
    "MIMIC-II, 2001 to 2008; respiratory rate is rarely given for ventilated patients.",
)


class PhysioNet2012(CohortSource):
    """Open ICU stays of the PhysioNet/CinC Challenge 2012 (sets a, b, c)."""

    name = "physionet2012"
    views: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})

    class Options(contracts.Options):
        """Where the records and their outcomes are."""

        records: str | list[str] = Field(description="set-a.tar.gz or a folder of its .txt files; or a list of such")
        outcomes: str | list[str] = Field(description="Outcomes-a.txt; or a list of such")

    def _paths(self, given: str | list[str]) -> list[Path]:
        names = [given] if isinstance(given, str) else given
        paths = [self.context.root / Path(name).expanduser() for name in names]
        for path in paths:
            if not path.exists():
                raise BackdoorError(f"{path}: no such file or folder; see physionet.org/content/challenge-2012")
        return paths

    def inputs(self) -> Sequence[Path]:
        """Archives (or each record file of a folder) and outcomes. Raises `BackdoorError` where one is missing."""
        records = self._paths(self.options.records)
        files = [file for path in records for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
        return [*files, *self._paths(self.options.outcomes)]

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """See `CohortSource.build`; nothing is random here.

        Raises `BackdoorError` naming file and line that is not as published, and where `inclusion` asks for more
        than the 48 hours that a record covers or for what the challenge does not tell.
        """
        from backdoor_cohorts.database import database, prepare, run_step
        from backdoor_cohorts.features import variables
        from backdoor_cohorts.records2012 import read_outcomes, read_records
        from backdoor_cohorts.writing import attrition, card, write_views

        _check(inclusion)
        records = read_records(self._paths(self.options.records))
        outcomes = read_outcomes(self._paths(self.options.outcomes))
        chosen = variables(inclusion.features, inclusion.window_hours)
        with database(out, threads=1, memory="1GB") as connection:
            prepare(connection, inclusion, chosen, item_map())
            _load_candidates(connection, records, outcomes)
            run_step(connection, "inclusion")
            attrition(connection, inclusion)  # an empty cohort is told as such
            _load_measurements(connection, records)
            written = write_views(connection, out, inclusion, STATICS, dataset=self.name, available=self.views)
            return card(
                connection,
                inclusion,
                written.features,
                source=self.name,
                description="PhysioNet/CinC Challenge 2012, first 48 h of ICU stays at Beth Israel Deaconess, Boston",
                notes=NOTES,
                empty=written.empty,
                series_features=written.series_features,
                views=written.views,
            )


def _check(inclusion: Inclusion) -> None:
    for name, hours in (
        ("window_hours", inclusion.window_hours),
        ("min_los_hours", inclusion.min_los_hours),
        ("window_hours + gap_hours", inclusion.window_hours + inclusion.gap_hours),
    ):
        if hours > RECORD_HOURS:
            raise BackdoorError(
                f"{name} is {hours:g}, but physionet2012 records cover {RECORD_HOURS} h; use {RECORD_HOURS} or less"
            )
    for name, wanted, why in (
        ("label", "hospital_mortality", "gives neither the time of ICU discharge nor that of death"),
        ("visibility", "charttime", "does not tell when a value was filed"),
    ):
        if (given := getattr(inclusion, name)) != wanted:
            raise BackdoorError(f"{name} is {given}, but physionet2012 {why}; use {wanted}")
    if not PhysioNet2012.views & set(inclusion.views):
        raise BackdoorError(f"views is {', '.join(inclusion.views)}, but physionet2012 has table and series")


def item_map() -> tuple[Item, ...]:
    """The challenge's parameters as items, numbered by their place in `records2012.CODES`, with our ranges."""
    from backdoor_cohorts.features import DICTIONARY, Item
    from backdoor_cohorts.records2012 import CODES, FRACTIONS

    entries = {entry.feature: entry for entry in DICTIONARY}
    return tuple(
        Item(
            source="record",
            itemid=number,
            feature=feature,
            conversion="percent" if name in FRACTIONS else "as_is",
            preference=0,
            low=entries[feature].record_low,
            high=entries[feature].record_high,
        )
        for number, (name, feature) in enumerate(CODES.items())
        if feature is not None
    )


def _load_candidates(connection: DuckDBPyConnection, records: Records, outcomes: dict[int, int | None]) -> None:
    """Create the table `candidates` with the columns that `sql/inclusion.sql` and the views use."""
    import pyarrow as pa

    ids, told = records.record_id, records.descriptors
    sexes = {0.0: "F", 1.0: "M"}
    candidates = pa.table(
        {
            "stay_id": ids,
            "subject_id": ids,
            "label": pa.array([outcomes.get(int(record)) for record in ids], pa.int32()),
            "sex": pa.array([sexes.get(sex) for sex in told["Gender"].tolist()], pa.string()),
            "age": pa.array(told["Age"], from_pandas=True).cast(pa.int64(), safe=False),
            "first_careunit": pa.array([UNITS.get(unit) for unit in told["ICUType"].tolist()], pa.string()),
            "intime": pa.nulls(len(ids), pa.timestamp("us")),
            "outtime": pa.nulls(len(ids), pa.timestamp("us")),
            "valid_times": (records.timed > 0).astype(np.int32),
            "los_hours": np.full(len(ids), float(RECORD_HOURS)),
            # Alive at 48 h by the challenge's rule; Survival counts days from ICU admission, so 2 or more.
            "death_hours": pa.nulls(len(ids), pa.float64()),
        }
    )
    connection.register("read_candidates", candidates)
    connection.execute("CREATE TABLE candidates AS SELECT * FROM read_candidates")
    connection.unregister("read_candidates")


def _load_measurements(connection: DuckDBPyConnection, records: Records) -> None:
    """Create the table `measurements` (see `sql/measurements.sql`) of what lies in the window of the included stays."""
    import pyarrow as pa

    read = pa.table(
        {"stay_id": records.stay, "itemid": records.parameter, "minute": records.minute, "value": records.value}
    )
    connection.register("read_values", read)
    connection.execute(
        """
        CREATE TABLE measurements AS
        WITH converted AS (
            SELECT s.stay_id, m.place, r.minute / 60.0 AS hours, m.preference, m.low, m.high,
                CASE WHEN m.conversion = 'percent' AND r.value <= 1 THEN r.value * 100 ELSE r.value END AS value
            FROM read_values AS r
            INNER JOIN item_map AS m ON r.itemid = m.itemid
            INNER JOIN stays AS s ON r.stay_id = s.stay_id
            CROSS JOIN settings AS t
            WHERE r.minute < 60 * t.window_hours
        )
        SELECT stay_id, place, hours, value, preference FROM converted WHERE value >= low AND value <= high
        """
    )
    connection.unregister("read_values")
