"""Orders of the hospital as rows: prescriptions."""

from __future__ import annotations

import numpy as np

from backdoor_cohorts.simulate.catalogs import catalog
from backdoor_cohorts.simulate.course import HOUR, Course
from backdoor_cohorts.simulate.drivers import Drivers
from backdoor_cohorts.simulate.plans import lognormal_seconds, plan
from backdoor_cohorts.simulate.streams import Pieces
from backdoor_cohorts.simulate.tables import Tables, chosen, moments

MEDIAN_HOURS = 40
"""Median time for which a drug is prescribed."""
ORDER_STRIDE = 1 << 12


def write_prescriptions(
    tables: Tables, course: Course, drivers: Drivers, uniform: Pieces, hours: int, until: int
) -> None:
    """Append prescriptions: on full hours, as in MIMIC-IV, some from before the ICU."""
    entries = catalog("drugs")
    found = plan("drugs", course, drivers, uniform, hours, until=until, clock=HOUR, before=True)
    doses = entries.lists("doses")
    gone = np.where(course.death >= 0, course.death, course.discharged)[found.stay]
    stop = np.minimum(found.seconds + lognormal_seconds(found.extras[:, 0], MEDIAN_HOURS * HOUR, 1.0), gone)
    order = (8 * course.subject + course.number)[found.stay] * ORDER_STRIDE + found.cell
    dose = entries.places("doses", found.entry, found.extras[:, 1])
    tables.append(
        "hosp/prescriptions",
        {
            "subject_id": course.subject_id[found.stay],
            "hadm_id": course.hadm_id[found.stay],
            "pharmacy_id": order,
            "starttime": moments(found.seconds),
            "stoptime": moments(np.maximum(stop // HOUR * HOUR, found.seconds)),
            "drug_type": chosen(entries.texts("type"), found.entry),
            "drug": chosen(entries.texts("drug"), found.entry),
            "formulary_drug_cd": chosen(entries.texts("code"), found.entry),
            "ndc": chosen(("0",), np.zeros(len(found.stay), np.int64)),
            "prod_strength": chosen(entries.texts("strength"), found.entry),
            "dose_val_rx": chosen([text for parts in doses for text in parts], dose),
            "dose_unit_rx": chosen(entries.texts("unit"), found.entry),
            "doses_per_24_hrs": np.floor(1 + 4 * found.extras[:, 2].astype(np.float64)),
            "route": chosen(entries.texts("route"), found.entry),
        },
    )
