"""The PhysioNet/CinC Challenge 2012 (Silva et al. 2012, Computing in Cardiology 39:245): open data, ODC-By."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion
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

NOTES = (
    "No patient identifier is published: each record counts as a patient of its own (subject_id is RecordID).",
    "Length of ICU stay is not published; every record is of an ICU stay of 48 h or more by the challenge's rule.",
    "A record without a single timed measurement has no valid times.",
    "Only the total Glasgow Coma Score is given, so its three components are empty.",
    "SaO2 is an arterial blood gas, so it does not stand in for pulse oximetry.",
    "MIMIC-II, 2001 to 2008; respiratory rate is rarely given for ventilated patients.",
)


class PhysioNet2012(CohortSource):
    """Open ICU stays of the PhysioNet/CinC Challenge 2012 (sets a, b, c)."""

    name = "physionet2012"

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

        Raises `BackdoorError` where `inclusion` asks for more than the 48 hours that a record covers.
        """
        from backdoor_cohorts.database import database, prepare, run_step
        from backdoor_cohorts.features import core30
        from backdoor_cohorts.records2012 import read_outcomes, read_records
        from backdoor_cohorts.writing import attrition, card, write_cohort

        _check_hours(inclusion)
        records = read_records(self._paths(self.options.records))
        outcomes = read_outcomes(self._paths(self.options.outcomes))
        features = core30(inclusion.window_hours)
        with database(out, threads=1, memory="1GB") as connection:
            prepare(connection, inclusion, features, item_map())
            _load_candidates(connection, records, outcomes)
            run_step(connection, "inclusion")
            attrition(connection, inclusion)  # an empty cohort is told as such
            _load_observations(connection, records)
            run_step(connection, "measurements")
            run_step(connection, "table_core30")
            empty = write_cohort(connection, out, features, ("sex", "age", "first_careunit"))
            return card(
                connection,
                inclusion,
                features,
                source=self.name,
                description="PhysioNet/CinC Challenge 2012, first 48 h of ICU stays at Beth Israel Deaconess, Boston",
                notes=NOTES,
                empty=empty,
            )


def _check_hours(inclusion: Inclusion) -> None:
    for name, hours in (("window_hours", inclusion.window_hours), ("min_los_hours", inclusion.min_los_hours)):
        if hours > RECORD_HOURS:
            raise BackdoorError(
                f"{name} is {hours:g}, but physionet2012 records cover {RECORD_HOURS} h; use {RECORD_HOURS} or less"
            )


def item_map() -> tuple[Item, ...]:
    """The challenge's parameters as items, numbered by their place in `records2012.CODES`, with our ranges."""
    from backdoor_cohorts.features import DICTIONARY, Item
    from backdoor_cohorts.records2012 import CODES

    entries = {entry.feature: entry for entry in DICTIONARY}
    return tuple(
        Item("record", number, feature, "as_is", 0, entries[feature].record_low, entries[feature].record_high)
        for number, feature in enumerate(CODES.values())
        if feature is not None
    )


def _load_candidates(connection: DuckDBPyConnection, records: Records, outcomes: dict[int, int | None]) -> None:
    """Create the table `candidates` with the columns that `sql/inclusion.sql` and `sql/table_core30.sql` use."""
    import pyarrow as pa

    described = records.descriptors
    sexes = {0.0: "F", 1.0: "M"}
    candidates = pa.table(
        {
            "stay_id": pa.array(list(described), pa.int64()),
            "subject_id": pa.array(list(described), pa.int64()),
            "label": pa.array([outcomes.get(record) for record in described], pa.int32()),
            "sex": pa.array([sexes.get(d.get("Gender", -1)) for d in described.values()], pa.string()),
            "age": pa.array([d.get("Age") for d in described.values()], pa.float64()).cast(pa.int64(), safe=False),
            "first_careunit": pa.array([UNITS.get(int(d.get("ICUType", 0))) for d in described.values()], pa.string()),
            "valid_times": pa.array([int(records.timed[record] > 0) for record in described], pa.int32()),
            "los_hours": pa.array([float(RECORD_HOURS)] * len(described), pa.float64()),
            # Alive at 48 h by the challenge's rule; Survival counts days from ICU admission, so 2 or more.
            "death_hours": pa.nulls(len(described), pa.float64()),
        }
    )
    connection.register("read_candidates", candidates)
    connection.execute("CREATE TABLE candidates AS SELECT * FROM read_candidates")
    connection.unregister("read_candidates")


def _load_observations(connection: DuckDBPyConnection, records: Records) -> None:
    """Fill `observations` with what lies in the window of the included stays."""
    import pyarrow as pa

    from backdoor_cohorts.records2012 import CODES

    number = {name: place for place, name in enumerate(CODES)}
    read = pa.table(
        {
            "stay_id": pa.array(records.record_id, pa.int64()),
            "itemid": pa.array([number[name] for name in records.parameter], pa.int64()),
            "minute": pa.array(records.minute, pa.int64()),
            "value": pa.array(records.value, pa.float64()),
        }
    )
    connection.register("read_observations", read)
    connection.execute(
        "INSERT INTO observations "
        "SELECT s.stay_id, s.subject_id, r.itemid, r.minute / 60.0 AS hours, r.value, CAST(NULL AS VARCHAR) AS remark "
        "FROM read_observations AS r INNER JOIN stays AS s ON r.stay_id = s.stay_id CROSS JOIN settings AS t "
        "WHERE r.minute < 60 * t.window_hours"
    )
    connection.unregister("read_observations")
