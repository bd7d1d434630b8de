"""MIMIC-IV (Johnson et al. 2023, Scientific Data 10:1), versions 2.0 and newer, and its open demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion

NOTES = (
    "Age is anchor_age plus the years from anchor_year to the admission; ages above 89 are published as 91.",
    "The label is death in hospital (hospital_expire_flag), not in the ICU; deaths after discharge do not count.",
    "A verbal response charted as 'No Response-ETT' (intubated) counts as not measured.",
)


class MimicIV(CohortSource):
    """ICU stays from a MIMIC-IV folder (or its open demo) as published."""

    name = "mimiciv"

    class Options(contracts.Options):
        """Where MIMIC-IV is, and what may be used to read it."""

        path: str = Field(description="folder with hosp/ and icu/ in it; tables as .parquet, .csv or .csv.gz")
        threads: int = Field(2, ge=1, description="threads that read the tables; no effect on the result")
        memory: str = Field("2GB", description="memory for reading, such as 2GB; no effect on the result")

    def _raw(self) -> Path:
        return self.context.root / Path(self.options.path).expanduser()

    def inputs(self) -> Sequence[Path]:
        """The six raw files that are read. Raises `BackdoorError` where one is missing."""
        from backdoor_cohorts.raw import raw_files

        return raw_files(self._raw())

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """See `CohortSource.build`; nothing is random here."""
        from backdoor_cohorts.hospital import build_hospital

        return build_hospital(
            self._raw(),
            out,
            inclusion,
            source=self.name,
            description="MIMIC-IV, intensive care at Beth Israel Deaconess Medical Center, Boston",
            notes=NOTES,
            threads=self.options.threads,
            memory=self.options.memory,
        )
