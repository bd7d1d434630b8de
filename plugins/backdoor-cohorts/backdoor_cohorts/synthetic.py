"""The synthetic source: a simulated hospital, read by the same SQL as MIMIC-IV."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import Field

from backdoor_core.contracts import CohortCard, CohortSource, Inclusion
from backdoor_core.contracts import Options as BaseOptions
from backdoor_core.errors import BackdoorError

DESCRIPTION = (
    "Synthetic ICU stays: simulated, no record of a person is in them or behind them. Each variable has the mean, "
    "spread and missing share by outcome that are published for the PhysioNet/CinC Challenge 2012 (aggregated "
    "figures, ODC-By 1.0)."
)
NOTES = (
    "Synthetic data: a figure made with them is a statement about the method, not about patients.",
    "SpO2, chloride and INR have no published figure in the challenge; theirs were chosen by hand.",
)


class Synthetic(CohortSource):
    """A simulated hospital in MIMIC-IV's layout; needs no data."""

    name = "synthetic"

    class Options(BaseOptions):
        """Options of the synthetic source."""

        stays: int = Field(10_000, ge=50, description="stays that pass the default inclusion (24 hours, adults)")
        hours: int = Field(48, ge=24, le=168, description="hours from ICU admission with measurements")
        threads: int = Field(2, ge=1, description="threads of DuckDB")
        memory: str = Field("2GB", description="memory limit of DuckDB")

    options: Options

    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """Simulate raw tables beside `out` and build the cohort from them.

        The seed of the hospital is one draw of `rng`. Raises `BackdoorError` where `inclusion` asks for a longer
        window than is simulated.
        """
        if inclusion.window_hours > self.options.hours:
            raise BackdoorError(
                f"cohorts.synthetic.hours: {self.options.hours} hours are simulated, but the window has "
                f"{inclusion.window_hours}; set hours to {inclusion.window_hours} or more"
            )
        from backdoor_cohorts.hospital import build_hospital
        from backdoor_cohorts.simulate import simulate

        seed = int(rng.integers(2**63))
        with TemporaryDirectory(prefix=".synthetic-", dir=out.parent) as folder:
            raw = Path(folder)
            simulate(raw, self.options.stays, seed, hours=self.options.hours)
            return build_hospital(
                raw,
                out,
                inclusion,
                source=self.name,
                description=DESCRIPTION,
                notes=NOTES,
                threads=self.options.threads,
                memory=self.options.memory,
            )
