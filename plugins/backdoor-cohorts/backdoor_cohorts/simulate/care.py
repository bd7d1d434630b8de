"""Orders of the ICU as rows: procedureevents and ingredientevents."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backdoor_cohorts.simulate.catalogs import catalog
from backdoor_cohorts.simulate.chart import Support
from backdoor_cohorts.simulate.course import HOUR, Course
from backdoor_cohorts.simulate.drivers import Drivers
from backdoor_cohorts.simulate.plans import Fixed, Occasions, lognormal_seconds, plan
from backdoor_cohorts.simulate.streams import Pieces
from backdoor_cohorts.simulate.tables import Tables, chosen, moments

MINUTE = 60
VENTILATION_ITEM, INTUBATION_ITEM, EXTUBATION_ITEM, ARTERIAL_LINE_ITEM = 225792, 224385, 227194, 225752
INTUBATED_HERE_SHARE = 0.25
"""Share of the ventilated who come to the ICU without the tube."""
FILING_MINUTES = 12
"""Median time until something that has ended is filed."""
ORDER_STRIDE = 1 << 12
"""Order ids that each stay has in each table."""


def write_procedures(
    tables: Tables, course: Course, drivers: Drivers, support: Support, uniform: Pieces, hours: int, until: int
) -> None:
    """Append procedureevents.

    As in MIMIC-IV, what lasts is filed when it ends, and its value is how long it lasted, in minutes: known at
    `endtime`, not at `starttime`.
    """
    entries = catalog("procedures")
    fixed = _support_procedures(course, support, uniform)
    found = plan("procedures", course, drivers, uniform, hours, until=until, clock=MINUTE, fixed=fixed)
    lasting = np.array([kind == "process" for kind in entries.texts("kind")])[found.entry]
    last = lognormal_seconds(found.extras[:, 0], entries.numbers("hours")[found.entry] * HOUR, 0.8) // MINUTE * MINUTE
    ventilation = found.entry == entries.place_of(VENTILATION_ITEM)
    off = (course.entered + support.ventilated_until)[found.stay] // MINUTE * MINUTE
    end = np.where(ventilation, off, found.seconds + last)
    end = np.maximum(np.minimum(end, found.end_of_stay // MINUTE * MINUTE), found.seconds + MINUTE)
    end = np.where(lasting, end, found.seconds + MINUTE)
    minutes = np.where(lasting, (end - found.seconds) // MINUTE, 1).astype(np.float64)
    tables.append(
        "icu/procedureevents",
        {
            **_ids(course, found, 0),
            "starttime": moments(found.seconds),
            "endtime": moments(end),
            "storetime": moments(end + _filing(found)),
            "itemid": entries.numbers("itemid").astype(np.int64)[found.entry],
            "value": minutes,
            "valueuom": chosen(("None", "min"), lasting.astype(np.int64)),
            "ordercategoryname": chosen(entries.texts("order"), found.entry),
            "ordercategorydescription": chosen(("Task", "ContinuousProcess"), lasting.astype(np.int64)),
            "isopenbag": lasting.astype(np.int64),
            "continueinnextdept": np.zeros(len(found.stay), np.int64),
            "statusdescription": chosen(("FinishedRunning",), np.zeros(len(found.stay), np.int64)),
            "ORIGINALAMOUNT": minutes,
            "ORIGINALRATE": np.ones(len(found.stay)),
        },
    )


def _support_procedures(course: Course, support: Support, uniform: Pieces) -> dict[int, Fixed]:
    """Procedures that go with the organ support that the chart shows."""
    entries = catalog("procedures")
    onset = uniform.take("procedures_has", len(entries), 2)[:, :, 1]
    ventilated = support.ventilated_until > 0
    soon = (onset[:, entries.place_of(VENTILATION_ITEM)] * 20 * MINUTE).astype(np.int64)
    here = onset[:, entries.place_of(INTUBATION_ITEM)] < INTUBATED_HERE_SHARE
    line = (onset[:, entries.place_of(ARTERIAL_LINE_ITEM)] * HOUR).astype(np.int64)
    return {
        entries.place_of(VENTILATION_ITEM): (ventilated, soon),
        entries.place_of(INTUBATION_ITEM): (ventilated & here, soon),
        entries.place_of(EXTUBATION_ITEM): (ventilated, support.ventilated_until),
        entries.place_of(ARTERIAL_LINE_ITEM): (support.arterial, line),
    }


def write_ingredients(
    tables: Tables, course: Course, drivers: Drivers, uniform: Pieces, hours: int, until: int
) -> None:
    """Append ingredientevents: what the infusions, feeds and blood products hold, bag by bag."""
    entries = catalog("ingredients")
    found = plan("ingredients", course, drivers, uniform, hours, until=until, clock=MINUTE)
    last = lognormal_seconds(found.extras[:, 0], entries.numbers("hours")[found.entry] * HOUR, 0.5) // MINUTE * MINUTE
    end = np.minimum(found.seconds + last, found.end_of_stay // MINUTE * MINUTE)
    end = np.maximum(end, found.seconds + MINUTE)
    scatter = np.exp(0.6 * (found.extras[:, 1].astype(np.float64) * 2 - 1))
    rate = np.round(entries.numbers("rate")[found.entry] * scatter, 1)
    amount = np.round(rate * (end - found.seconds) / HOUR, 2)
    stopped = (found.extras[:, 2] < 0.15).astype(np.int64)
    tables.append(
        "icu/ingredientevents",
        {
            **_ids(course, found, 1),
            "starttime": moments(found.seconds),
            "endtime": moments(end),
            "storetime": moments(end + _filing(found)),
            "itemid": entries.numbers("itemid").astype(np.int64)[found.entry],
            "amount": amount,
            "amountuom": chosen(entries.texts("unit"), found.entry),
            "rate": rate,
            "rateuom": chosen(("mL/hour",), np.zeros(len(found.stay), np.int64)),
            "statusdescription": chosen(("FinishedRunning", "ChangeDose/Rate"), stopped),
            "originalamount": amount,
            "originalrate": rate,
        },
    )


def _filing(found: Occasions) -> NDArray[np.int64]:
    return lognormal_seconds(found.extras[:, -1], FILING_MINUTES * MINUTE, 1.0)


def _ids(course: Course, found: Occasions, table: int) -> dict[str, NDArray[np.int64] | pa.Array]:
    order = ((8 * course.subject + course.number)[found.stay] * 2 + table) * ORDER_STRIDE + found.cell
    return {
        "subject_id": course.subject_id[found.stay],
        "hadm_id": course.hadm_id[found.stay],
        "stay_id": course.stay_id[found.stay],
        "caregiver_id": 10_000 + found.cell % 97,
        "orderid": order,
        "linkorderid": order,
    }
