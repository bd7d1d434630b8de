"""Sources of ICU stays for backdoor_core: synthetic, MIMIC-IV, PhysioNet 2012, MEDS and your own files."""

from __future__ import annotations

from collections.abc import Callable

from backdoor_cohorts.meds import Meds
from backdoor_cohorts.mimiciv import MimicIV
from backdoor_cohorts.parquet import OwnParquet
from backdoor_cohorts.physionet2012 import PhysioNet2012
from backdoor_cohorts.synthetic import Synthetic
from backdoor_core.contracts import CohortSource, hookimpl


@hookimpl
def register_cohorts(register: Callable[[type[CohortSource]], None]) -> None:
    """Register the sources."""
    for source in (Meds, MimicIV, OwnParquet, PhysioNet2012, Synthetic):
        register(source)
