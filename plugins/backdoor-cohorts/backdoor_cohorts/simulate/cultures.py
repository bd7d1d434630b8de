"""Microbiology: what is sent, what grows, and what it is susceptible to; known days later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit

from backdoor_cohorts.simulate.catalogs import Catalog, catalog, read_rows
from backdoor_cohorts.simulate.course import DAY, Course
from backdoor_cohorts.simulate.drivers import Drivers
from backdoor_cohorts.simulate.plans import Occasions, lognormal_seconds, plan
from backdoor_cohorts.simulate.streams import Pieces
from backdoor_cohorts.simulate.tables import Tables, chosen, moments

POSITIVE_WEIGHT = 0.4
"""What a unit of infection adds to the log odds that something grows."""
RESISTANT_SHARE, INTERMEDIATE_SHARE = 0.22, 0.05
DATE_ONLY_SHARE = 0.03
"""Specimens of which only the day is known (charttime is null)."""
CELLS = 1 << 10
"""Ids of specimens that each stay has; each specimen has as many rows as a panel of antibiotics can have."""
PANEL = 3


@dataclass(frozen=True)
class Organism:
    """What can grow, with the antibiotics it is tested against."""

    itemid: int
    name: str
    antibiotics: tuple[tuple[int, str], ...]


def organisms() -> list[Organism]:
    """The organisms of organisms.csv."""
    found = []
    for row in read_rows("organisms"):
        pairs = (pair.split(" ", 1) for pair in row["antibiotics"].split(";") if pair)
        found.append(Organism(int(row["org_itemid"]), row["org_name"], tuple((int(i), name) for i, name in pairs)))
    return found


def write_cultures(tables: Tables, course: Course, drivers: Drivers, uniform: Pieces, hours: int, until: int) -> None:
    """Append microbiologyevents: one row for each specimen where nothing grew, one for each antibiotic where it did."""
    entries = catalog("cultures")
    found = plan("cultures", course, drivers, uniform, hours, until=until, clock=60, before=True)
    organism = _grown(entries, found, drivers["infection"])
    known = organisms()
    tested = np.array([max(len(o.antibiotics), 1) for o in known] + [1])[organism]  # the last place: nothing grew
    row = np.repeat(np.arange(len(found.stay)), tested)
    test = np.arange(len(row)) - np.repeat(np.cumsum(tested) - tested, tested)
    specimen = (8 * course.subject + course.number)[found.stay] * CELLS + found.cell
    days = entries.numbers("days")[found.entry] * DAY
    stored = (found.seconds + lognormal_seconds(found.extras[:, 1], days, 0.35)) // 60 * 60
    grown, entry = (organism < len(known))[row], found.entry[row]
    negative = entries.texts("negative")
    tables.append(
        "hosp/microbiologyevents",
        {
            "microevent_id": (specimen[row] * PANEL) + test,
            "subject_id": course.subject_id[found.stay][row],
            "hadm_id": course.hadm_id[found.stay][row],
            "micro_specimen_id": specimen[row],
            "chartdate": moments(found.seconds // DAY * DAY).take(pa.array(row)),
            "charttime": moments(np.where(found.extras[:, 2] < DATE_ONLY_SHARE, -1, found.seconds)).take(pa.array(row)),
            "spec_itemid": entries.numbers("spec_itemid").astype(np.int64)[entry],
            "spec_type_desc": chosen(entries.texts("spec_type_desc"), entry),
            "test_seq": np.ones(len(row), np.int64),
            "storedate": moments(stored // DAY * DAY).take(pa.array(row)),
            "storetime": moments(stored).take(pa.array(row)),
            "test_itemid": entries.numbers("test_itemid").astype(np.int64)[entry],
            "test_name": chosen(entries.texts("test_name"), entry),
            "org_itemid": pa.array(np.array([o.itemid for o in known] + [0])[organism][row], mask=~grown),
            "org_name": chosen([*(o.name for o in known), None], organism[row]),
            "isolate_num": pa.array(np.ones(len(row), np.int64), mask=~grown),
            "comments": chosen([*negative, None], np.where(grown, len(negative), entry)),
            **_susceptibility(known, organism[row], test, found.extras[row, 3]),
        },
    )


def _grown(entries: Catalog, found: Occasions, infection: NDArray[np.float32]) -> NDArray[np.int64]:
    """(rows,) which organism grew, by number; the number after the last where none did."""
    luck = found.extras[:, 0].astype(np.float64)
    with np.errstate(divide="ignore"):  # some tests are never positive
        base = logit(entries.numbers("positive"))
    chance = expit(base[found.entry] + POSITIVE_WEIGHT * infection[found.stay])
    names = [o.name for o in organisms()]
    listed = np.array([names.index(name) for parts in entries.lists("organisms") for name in parts])
    # The luck of a positive result, stretched to 0..1 again; the first organisms of a list are the commonest.
    within = np.square(luck / np.maximum(chance, 1e-12))
    positive = luck < chance
    picks = np.full(len(luck), len(names))
    picks[positive] = listed[entries.places("organisms", found.entry[positive], within[positive])]
    return picks


def _susceptibility(
    known: list[Organism], organism: NDArray[np.int64], test: NDArray[np.int64], luck: NDArray[np.float32]
) -> dict[str, pa.Array]:
    """Antibiotic and S, I or R of each row; null where nothing was tested."""
    panel: list[tuple[int, str] | None] = []
    for one in known:
        panel += [*one.antibiotics, *[None] * (PANEL - len(one.antibiotics))]
    panel += [None] * PANEL
    place = organism * PANEL + test
    tested = np.array([pair is not None for pair in panel])[place]
    one_luck = (luck * PANEL + test / PANEL) % 1  # each antibiotic of a specimen its own
    verdict = np.searchsorted([RESISTANT_SHARE, RESISTANT_SHARE + INTERMEDIATE_SHARE], one_luck, side="right")
    return {
        "ab_itemid": pa.array(np.array([pair[0] if pair else 0 for pair in panel])[place], mask=~tested),
        "ab_name": chosen([pair[1] if pair else None for pair in panel], place),
        "interpretation": chosen(("R", "I", "S", None), np.where(tested, verdict, 3)),
    }
