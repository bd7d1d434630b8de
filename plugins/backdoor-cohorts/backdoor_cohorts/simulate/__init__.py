"""A synthetic hospital in MIMIC-IV's raw layout, so that the very SQL that reads MIMIC-IV reads it too.

No record of a person is in it or behind it: the variables follow aggregated figures published for the
PhysioNet/CinC Challenge 2012 (`marginals.csv`), tied together by a few latent factors. Its rooms:

- `course`: who the subjects are, when they come, and how it ends
- `levels`: where each variable lies in a stay, and what is never measured
- `chart`, `output`, `labs`: the measurements, on grids of times (`sheets`)
- `people`, `events`: rows; `tables`: Parquet files
"""

from backdoor_cohorts.simulate.run import Simulated, simulate

__all__ = ["Simulated", "simulate"]
