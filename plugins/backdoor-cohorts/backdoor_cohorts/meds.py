"""Any MEDS dataset with a label file (https://github.com/Medical-Event-Data-Standard/meds, version 0.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core import contracts
from backdoor_core.contracts import CohortCard, CohortSource, Inclusion, Modality
from backdoor_core.errors import BackdoorError


class Meds(CohortSource):
    """Any MEDS dataset with a label file, such as one that ACES extracted.

    MEDS knows subjects, not stays: a stay here is one row of the label file, (subject_id, prediction_time). Its
    stay_id is the column stay_id of the label file where there is one, else its place (from 1) among all rows by
    subject_id and prediction_time. What the views cover are the `window_hours` before the prediction time, which
    is within them, as MEDS allows; `intime` is where they begin, `outtime` is unknown.

    The label file decides who is in the cohort. `min_age` is applied where the dataset has MEDS_BIRTH events (age
    where the window begins; a subject without one is left out), `first_stay_only` keeps the earliest prediction of
    each subject, and a subject with a MEDS_DEATH at or before the prediction time is left out. `min_los_hours` and
    `inclusion.label` have nothing to work on; a gap belongs into the label file, so `gap_hours` must be 0.

    The events view holds every event of the window. The table view is there only if the option `table` maps
    features of the dictionary to codes: mean (urine_output: sum) of their values in the window, which must be in
    the unit of the dictionary; values outside its plausible range count as not measured.
    """

    name = "meds"
    views: ClassVar[frozenset[Modality]] = frozenset({"table", "events"})

    class Options(contracts.Options):
        """Where the dataset and the labels are."""

        path: str = Field(description="the dataset: a folder with data/ and metadata/ in it")
        labels: str = Field(
            description="Parquet file, or folder of such, with subject_id, prediction_time, boolean_value"
        )
        table: dict[str, list[str]] = Field(
            {}, description="features of the table view and their codes, such as {heart_rate: [HR//bpm]}; empty: none"
        )
        threads: int = Field(2, ge=1, description="threads that read the dataset; no effect on the result")
        memory: str = Field("2GB", description="memory for reading, such as 2GB; no effect on the result")

    def _paths(self) -> tuple[Path, Path, list[Path], list[Path]]:
        """Dataset, label path, data files, label files."""
        root, labels = (self.context.root / Path(p).expanduser() for p in (self.options.path, self.options.labels))
        if not (root / "data").is_dir():
            raise BackdoorError(f"{root / 'data'}: no such folder; expected a MEDS dataset with data/ and metadata/")
        data = sorted((root / "data").rglob("*.parquet"))
        if not data:
            raise BackdoorError(f"{root / 'data'}: no Parquet file in it; expected the events of a MEDS dataset")
        if not labels.exists():
            raise BackdoorError(f"{labels}: no such file or folder; expected labels as MEDS's LabelSchema")
        files = sorted(labels.rglob("*.parquet")) if labels.is_dir() else [labels]
        if not files:
            raise BackdoorError(f"{labels}: no Parquet file in it; expected labels as MEDS's LabelSchema")
        return root, labels, data, files

    def inputs(self) -> Sequence[Path]:
        """Data files, code metadata and label files. Raises `BackdoorError` where one is missing."""
        root, _, data, labels = self._paths()
        codes = root / "metadata" / "codes.parquet"
        return [*data, *([codes] if codes.is_file() else []), *labels]

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """See `CohortSource.build`; nothing is random here.

        Raises `BackdoorError` naming file and column where the dataset or the labels are not as MEDS says, and
        where `inclusion` asks for what a MEDS dataset does not tell.
        """
        from backdoor_cohorts.meds_cohort import build_meds

        root, place, data, labels = self._paths()
        return build_meds(out, inclusion, self.options, root, data, place, labels)
