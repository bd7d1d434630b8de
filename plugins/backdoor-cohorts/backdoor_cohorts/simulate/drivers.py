"""What drives the care of a stay: latent needs that decide which drugs, procedures and cultures are ordered.

All are about standard normal among the survivors, or a flag minus its usual share. They carry more than the
measured variables do (`OWN` parts), so that the orders of a stay are no copy of its laboratory values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backdoor_cohorts.simulate.chart import Support
from backdoor_cohorts.simulate.course import Course
from backdoor_cohorts.simulate.levels import INDEX, Levels
from backdoor_cohorts.simulate.people import care_unit
from backdoor_cohorts.simulate.streams import Pieces

Drivers = Mapping[str, NDArray[np.float32]]
"""Name of the driver -> (N,) its value in each stay."""

ILLNESS_OF_DEATHS = 1.6
"""How much more illness, in standard deviations, those have who die: no model of the orders alone can tell the
outcomes apart better than AUROC Phi(1.6 / sqrt 2) = 0.87, and what they show of it gives 0.77."""
OWN = {"infection": 0.8, "shock": 0.65, "renal": 0.7, "liver": 0.8}
NORMALS = {"needs": len(OWN)}
VENTILATED_SHARE = 0.6
UNITS = {"cardiac": (3, 4), "surgical": (2, 3, 5), "neuro": (6,)}
"""The care units (numbers in `people.CARE_UNITS`) of each specialty."""
UNIT_SHARES = {"cardiac": 0.3, "surgical": 0.45, "neuro": 0.05}


def simulate_drivers(course: Course, levels: Levels, support: Support, normal: Pieces) -> Drivers:
    """The drivers of the given stays from their draws (piece `NORMALS`)."""
    illness = course.severity + np.float32(ILLNESS_OF_DEATHS) * course.died
    own = {name: np.float32(share) * normal["needs"][:, k] for k, (name, share) in enumerate(OWN.items())}

    def level(name: str) -> NDArray[np.float32]:
        return levels.standard[:, INDEX[name]]

    unit = care_unit(course)
    return {
        "illness": illness,
        "infection": 0.4 * illness + 0.3 * level("wbc") + 0.2 * level("temperature") + own["infection"],
        "shock": 0.5 * illness - 0.3 * level("sbp") + 0.3 * level("lactate") + own["shock"],
        "renal": 0.25 * illness + 0.6 * level("creatinine") + own["renal"],
        "liver": 0.2 * illness + 0.55 * level("bilirubin_total") + own["liver"],
        "ventilated": ((support.ventilated_until > 0) - VENTILATED_SHARE).astype(np.float32),
        **{name: (np.isin(unit, rooms) - UNIT_SHARES[name]).astype(np.float32) for name, rooms in UNITS.items()},
    }
