"""MIMIC-IV (Johnson et al. 2023, Scientific Data 10:1), versions 2.0 and newer, and its open demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from backdoor_cohorts.engine import EngineName
from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion, Modality

NOTES = (
    "Age is anchor_age plus the years from anchor_year to the admission; ages above 89 are published as 91.",
    "A verbal response charted as 'No Response-ETT' (intubated) counts as not measured.",
)


class MimicIV(CohortSource):
    """ICU stays from a MIMIC-IV folder (or its open demo) as published."""

    name = "mimiciv"
    views: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})

    class Options(contracts.Options):
        """Where MIMIC-IV is, and what may be used to read it."""

        path: str = Field(description="folder with hosp/ and icu/ in it; tables as .parquet, .csv or .csv.gz")
        convert: bool = Field(
            False, description="convert to Parquet once, in a stage of its own; no effect on the result"
        )
        engine: EngineName = Field("duckdb", description="duckdb, or spark (extra [spark]); no effect on the result")
        threads: int = Field(2, ge=1, description="threads that read the tables; no effect on the result")
        memory: str = Field("2GB", description="memory for reading, such as 2GB; no effect on the result")
        spark_master: str = Field("local[2]", description="where Spark runs, such as local[2] or spark://host:7077")

    def _raw(self) -> Path:
        return self.context.root / Path(self.options.path).expanduser()

    def inputs(self) -> Sequence[Path]:
        """The raw files (see `raw.raw_files`). Raises `BackdoorError` where one that every cohort needs is missing."""
        from backdoor_cohorts.raw import raw_files

        return raw_files(self._raw())

    def conversion(self) -> Mapping[str, Any] | None:
        """The folder, where a conversion was asked for."""
        return {"path": self.options.path, "to": "parquet"} if self.options.convert else None

    def convert(self, out: Path) -> None:
        """The raw tables as Parquet, where the option `convert` asks for it; see `backdoor_cohorts.convert`."""
        if self.options.convert:
            from backdoor_cohorts.convert import convert

            convert(self._raw(), out / "mimiciv", threads=self.options.threads, memory=self.options.memory)

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """See `CohortSource.build`; nothing is random here."""
        from backdoor_cohorts.hospital import build_hospital

        converted = self.context.converted
        return build_hospital(
            converted / "mimiciv" if self.options.convert and converted else self._raw(),
            out,
            inclusion,
            source=self.name,
            description="MIMIC-IV, intensive care at Beth Israel Deaconess Medical Center, Boston",
            notes=NOTES,
            engine=self.options.engine,
            threads=self.options.threads,
            memory=self.options.memory,
            spark_master=self.options.spark_master,
        )
