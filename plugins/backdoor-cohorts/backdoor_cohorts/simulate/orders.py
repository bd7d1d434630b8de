"""What is done for the patients of a block: drugs, procedures, cultures, ingredients of infusions."""

from __future__ import annotations

import numpy as np

from backdoor_cohorts.simulate import drivers, plans
from backdoor_cohorts.simulate.care import write_ingredients, write_procedures
from backdoor_cohorts.simulate.catalogs import CatalogName
from backdoor_cohorts.simulate.chart import Support
from backdoor_cohorts.simulate.course import Course
from backdoor_cohorts.simulate.cultures import write_cultures
from backdoor_cohorts.simulate.levels import Levels
from backdoor_cohorts.simulate.pharmacy import write_prescriptions
from backdoor_cohorts.simulate.streams import Generators, draw
from backdoor_cohorts.simulate.tables import Tables

CATALOGS: tuple[CatalogName, ...] = ("drugs", "procedures", "ingredients", "cultures")


def write_orders(
    tables: Tables,
    streams: Generators,
    course: Course,
    levels: Levels,
    support: Support,
    hours: int,
    until: int,
) -> None:
    """Draw what is ordered in the stays, and append what of it begins before hour `until`.

    `streams` are the subjects' second ones; as for the measurements, every stay takes the same number of draws.
    """
    _, stays = np.unique(course.subject, return_counts=True)
    uniforms = {piece: size for name in CATALOGS for piece, size in plans.uniforms(name, hours).items()}
    normal, uniform = draw(streams, stays.tolist(), drivers.NORMALS, uniforms)
    needs = drivers.simulate_drivers(course, levels, support, normal)
    write_prescriptions(tables, course, needs, uniform, hours, until)
    write_procedures(tables, course, needs, support, uniform, hours, until)
    write_ingredients(tables, course, needs, uniform, hours, until)
    write_cultures(tables, course, needs, uniform, hours, until)
