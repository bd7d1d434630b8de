"""A synthetic hospital in MIMIC-IV's raw layout, so that the very SQL that reads MIMIC-IV reads it too.

No record of a person is in it or behind it: the variables follow aggregated figures published for the
PhysioNet/CinC Challenge 2012 (`marginals.csv`), tied together by a few latent factors. Its rooms:

- `course`: who the subjects are, when they come, and how it ends
- `levels`: where each variable lies in a stay, and what is never measured
- `chart`, `output`, `labs`: the measurements, on grids of times (`sheets`)
- `drivers`, `catalogs`, `plans`: what is ordered, for whom and when
- `people`, `events` (measurements), `orders` (`pharmacy`, `care`, `cultures`): rows
- `schemas`, `tables`, `csv_copies`: files
"""

from backdoor_cohorts.simulate.csv_copies import write_csv_copies
from backdoor_cohorts.simulate.run import Format, Simulated, simulate

__all__ = ["Format", "Simulated", "simulate", "write_csv_copies"]
