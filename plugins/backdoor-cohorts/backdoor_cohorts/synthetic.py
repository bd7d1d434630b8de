"""The synthetic source: a simulated hospital, read by the same SQL as MIMIC-IV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import CohortCard, Inclusion, Modality, Options as BaseOptions, Simulator
from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing_directory

if TYPE_CHECKING:
    from backdoor_cohorts.simulate import Format

DESCRIPTION = (
    "Synthetic ICU stays: simulated, no record of a person is in them or behind them. Each variable has the mean, "
    "spread and missing share by outcome that are published for the PhysioNet/CinC Challenge 2012 (aggregated "
    "figures, ODC-By 1.0)."
)
NOTES = (
    "Synthetic data: a figure made with them is a statement about the method, not about patients.",
    "SpO2, chloride and INR have no published figure in the challenge; theirs were chosen by hand, and so was what "
    "is ordered for whom (drugs, procedures, cultures, ingredients).",
)
FORMATS = ("parquet", "csv.gz")


class Synthetic(Simulator):
    """A simulated hospital in MIMIC-IV's layout; needs no data."""

    name = "synthetic"
    views: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})

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
            # What no view holds need not be written; it changes nothing of the rest.
            simulate(
                raw,
                self.options.stays,
                seed,
                hours=self.options.hours,
                until=inclusion.window_hours,
                events="events" in inclusion.views,
            )
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

    def simulate(self, out: Path, stays: int, seed: int, *, format: Format = "parquet") -> Mapping[str, int]:
        """Write the raw tables of a hospital of any size into the new or empty folder `out`, in bounded memory.

        `out` gets ``hosp/`` and ``icu/`` in MIMIC-IV's layout, as files of `format` (``parquet`` or ``csv.gz``), or
        nothing where the simulation does not end. The hospital ends with stay number `stays` that passes the
        default inclusion; equal `stays`, `seed` and options give equal bytes.

        The answer is the number of rows by table.
        Raises `BackdoorError` where `stays` or `seed` is out of range, the format unknown, or `out` not empty.
        """
        if stays < 1:
            raise BackdoorError(f"stays: {stays}; must be 1 or more")
        if seed < 0:
            raise BackdoorError(f"seed: {seed}; must be 0 or more")
        if format not in FORMATS:
            raise BackdoorError(f"format: {format!r}; must be {' or '.join(FORMATS)}")
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise BackdoorError(f"{out}: exists already; give a new or an empty folder")
        from backdoor_cohorts.simulate import simulate

        with replacing_directory(out) as folder:
            return simulate(folder, stays, seed, hours=self.options.hours, format=format).rows
