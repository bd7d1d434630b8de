"""Where the parts of a sweep lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backdoor_core.study import Paths

RUNS = "runs"
BENCHMARKS = "benchmarks"


@dataclass(frozen=True)
class CellPaths(Paths):
    """Those of a study whose cohort, split and clean models are shared with others."""

    shared_cohort: Path
    clean: Path
    """Folder of split, clean twin, clean retrains and their scores."""
    own: Path
    """Folder of what depends on trigger and poison."""

    @property
    def cohort(self) -> Path:
        """Folder of the cohort's views and card."""
        return self.shared_cohort

    @property
    def splits(self) -> Path:
        """Which stays belong to which part."""
        return self.clean / "splits.json"

    @property
    def run(self) -> Path:
        """Folder of everything that the cell finds out."""
        return self.own

    @property
    def baseline(self) -> Path:
        """The clean twin."""
        return self.clean / "baseline"

    @property
    def nulls(self) -> Path:
        """The clean retrains, one folder each."""
        return self.clean / "nulls"

    @property
    def null_scores(self) -> Path:
        """What the detectors say of the clean retrains."""
        return self.clean / "null_scores.parquet"
