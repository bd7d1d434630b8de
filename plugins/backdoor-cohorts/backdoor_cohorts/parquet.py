"""A user's own table of stays, with an hourly series where there is one, from Parquet or CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion, Modality
from backdoor_core.errors import BackdoorError


class Column(contracts.Options):
    """What is known of one column; all of it may be left out."""

    column: str | None = Field(None, description="its name in the file, where that is not the name of the feature")
    unit: str = Field("", description="its unit")
    low: float | None = Field(None, description="lowest plausible value; lower counts as not measured")
    high: float | None = Field(None, description="highest plausible value; higher counts as not measured")
    description: str = Field("", description="what it is")

    @model_validator(mode="after")
    def _check_range(self) -> Column:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        return self


class OwnParquet(CohortSource):
    """Your own table of stays and, if you have one, their series (Parquet or CSV).

    The rows are taken as the cohort: who is in it, when the window ends and what the label means was decided when
    the file was made. Of the inclusion rules only those are applied for which a column is mapped: `min_age` with
    ``static: {age: ...}``, `min_los_hours` and `gap_hours` with `intime` and `outtime`, `first_stay_only` with
    `intime`. The card counts each and says which could not be applied. `inclusion.label` names nothing here: the
    label is the column `label`. A feature without `low` and `high` has the range that the file shows. A series
    may hold several rows an hour (hour 3.5 lies in hour 3): their mean is taken, as everywhere.
    """

    name = "parquet"
    views: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})

    class Options(contracts.Options):
        """The files and their columns."""

        table: str = Field(description=".parquet, .csv or .csv.gz with one row a stay: ids, label, features")
        stay_id: str = Field("stay_id", description="column with the number of the stay, in both files")
        subject_id: str | None = Field(
            "subject_id", description="column with the number of the patient; null: each stay is of another patient"
        )
        label: str = Field("label", description="column with the outcome, 0 or 1")
        intime: str | None = Field(None, description="column with the time of ICU admission")
        outtime: str | None = Field(None, description="column with the time of ICU discharge")
        static: dict[str, str] = Field(
            {}, description="columns known at admission that are kept apart, such as {age: age_years, race: ethnicity}"
        )
        features: dict[str, Column | None] = Field(
            {}, description="features of the table by name; empty: every other numeric column"
        )
        series: str | None = Field(None, description=".parquet, .csv or .csv.gz with one row a stay and hour")
        hour: str = Field("hour", description="column of the series with the hours since ICU admission")
        series_features: dict[str, Column | None] = Field(
            {}, description="features of the series by name; empty: every other numeric column"
        )

    def _path(self, name: str) -> Path:
        path = self.context.root / Path(name).expanduser()
        if not path.is_file():
            raise BackdoorError(f"{path}: no such file; expected a .parquet, .csv or .csv.gz file")
        return path

    def inputs(self) -> Sequence[Path]:
        """The one or two files. Raises `BackdoorError` where one is missing."""
        return [self._path(name) for name in (self.options.table, self.options.series) if name is not None]

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """See `CohortSource.build`; nothing is random here. The files are read into memory.

        Raises `BackdoorError` naming file and column where an id is empty, no whole number or (stay_id of the
        table) there twice; a label is empty or not 0 or 1; a feature is not numeric or infinite; a column or a
        rule's column is missing; the series holds a stay that the table lacks.
        """
        from backdoor_cohorts.own import build_own

        paths = self.inputs()
        return build_own(out, inclusion, self.options, paths[0], paths[1] if len(paths) > 1 else None)
