"""From the measurements of a block of stays to rows of chartevents, outputevents and labevents."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backdoor_cohorts.simulate import chart, labs, levels, output
from backdoor_cohorts.simulate.catalogs import read_rows
from backdoor_cohorts.simulate.course import Course
from backdoor_cohorts.simulate.schemas import TEXT
from backdoor_cohorts.simulate.sheets import Rows, rows_of
from backdoor_cohorts.simulate.streams import Generators, draw
from backdoor_cohorts.simulate.tables import (
    Tables,
    chosen,
    moments,
    number_texts,
    texts_by_item,
)

# What the chart says for a score of the coma scale, from the lowest; a verbal score of 0 is the ventilated patient's,
# whose valuenum MIMIC-IV gives as 1.
EYE_TEXTS = ("None", "To Pain", "To Speech", "Spontaneously")
VERBAL_TEXTS = (
    "No Response-ETT",
    "No Response",
    "Incomprehensible sounds",
    "Inappropriate Words",
    "Confused",
    "Oriented",
)
MOTOR_TEXTS = (
    "No response",
    "Abnormal extension",
    "Abnormal Flexion",
    "Flex-withdraws",
    "Localizes Pain",
    "Obeys Commands",
)
LAB_ID_STRIDE = 1 << 16
"""Ids that each stay has for its laboratory rows."""


def _items() -> tuple[dict[str, str], ...]:
    return read_rows("items")


@cache
def _units() -> dict[int, str]:
    return {int(row["itemid"]): row["unit"] for row in _items() if row["unit"]}


def write_dictionaries(tables: Tables, *, events: bool) -> None:
    """Append the items of the hospital to d_items and d_labitems, those of the order tables only with `events`."""
    lab = [row for row in _items() if row["table"] == "labevents"]
    tables.append(
        "hosp/d_labitems",
        {
            "itemid": [int(row["itemid"]) for row in lab],
            "label": [row["label"] for row in lab],
            "fluid": ["Blood"] * len(lab),
            "category": [row["category"] for row in lab],
        },
    )
    other = [{**row, "abbreviation": row["label"]} for row in _items() if row["table"] != "labevents"]
    if events:
        other += [{**row, "table": "procedureevents", "unit": "None"} for row in read_rows("procedures")]
        other += [{**row, "table": "ingredientevents", "category": "Ingredients"} for row in read_rows("ingredients")]
    tables.append(
        "icu/d_items",
        {
            "itemid": [int(row["itemid"]) for row in other],
            "label": [row["label"] for row in other],
            "abbreviation": [row.get("abbreviation", row["label"]) for row in other],
            "linksto": [row["table"] for row in other],
            "category": [row["category"] for row in other],
            "unitname": [row["unit"] or None for row in other],
        },
    )


def write_events(
    tables: Tables, streams: Generators, course: Course, hours: int, until: int
) -> tuple[levels.Levels, chart.Support]:
    """Draw what is measured in the stays, and append what of it is from before hour `until`.

    `streams` are those of the course's subjects, in order. Every stay takes the same number of draws, so a subject
    may be cut short without a change to its earlier stays. Gives what the orders depend on.
    """
    _, stays = np.unique(course.subject, return_counts=True)
    normals = {**levels.NORMALS, **chart.normals(hours), **output.normals(hours), **labs.normals(hours)}
    uniforms = {**chart.uniforms(hours), **output.uniforms(hours), **labs.uniforms(hours)}
    normal, uniform = draw(streams, stays.tolist(), normals, uniforms)
    level = levels.simulate_levels(course, normal)
    support = chart.simulate_support(course, level, uniform)
    for sheet in (
        chart.hourly_sheet(course, level, support, normal, uniform, hours),
        chart.four_hourly_sheet(course, level, support, normal, uniform, hours),
        chart.weight_sheet(course, level, normal, uniform, hours),
    ):
        _write_chart(tables, course, rows_of(sheet, course, until))
    _write_output(tables, course, rows_of(output.output_sheet(course, level, normal, uniform, hours), course, until))
    first_id = 0
    for order in labs.ORDERS:
        sheet = labs.lab_sheet(order, course, level, normal, uniform, hours)
        _write_labs(tables, course, rows_of(sheet, course, until), first_id)
        first_id += order.slots(hours) * len(order.tests)
    return level, support


def _write_chart(tables: Tables, course: Course, rows: Rows) -> None:
    tables.append(
        "icu/chartevents",
        {
            "subject_id": course.subject_id[rows.stay],
            "hadm_id": course.hadm_id[rows.stay],
            "stay_id": course.stay_id[rows.stay],
            "charttime": moments(rows.seconds),
            "storetime": moments(rows.stored),
            "itemid": rows.items,
            "value": _chart_texts(rows),
            "valuenum": np.where((rows.items == chart.VERBAL_ITEM) & (rows.values == 0), 1, rows.values),
            "valueuom": texts_by_item(rows.items, _units()),
            "warning": np.zeros(len(rows.stay), np.int64),
        },
    )


def _chart_texts(rows: Rows) -> pa.Array:
    """The value column: the number, or the words for a score of the coma scale."""
    if not np.isin(rows.items[:4], (chart.EYE_ITEM, chart.VERBAL_ITEM, chart.MOTOR_ITEM)).any():
        return number_texts(rows.values)
    texts = number_texts(rows.values).cast(TEXT)
    for item, words, lowest in (
        (chart.EYE_ITEM, EYE_TEXTS, 1),
        (chart.VERBAL_ITEM, VERBAL_TEXTS, 0),
        (chart.MOTOR_ITEM, MOTOR_TEXTS, 1),
    ):
        mask = rows.items == item
        scores = rows.values[mask].astype(np.int64) - lowest
        texts = pc.replace_with_mask(texts, pa.array(mask), chosen(words, scores).cast(TEXT))
    return texts


def _write_output(tables: Tables, course: Course, rows: Rows) -> None:
    tables.append(
        "icu/outputevents",
        {
            "subject_id": course.subject_id[rows.stay],
            "hadm_id": course.hadm_id[rows.stay],
            "stay_id": course.stay_id[rows.stay],
            "charttime": moments(rows.seconds),
            "storetime": moments(rows.stored),
            "itemid": rows.items,
            "value": rows.values,
            "valueuom": texts_by_item(rows.items, _units()),
        },
    )


def _write_labs(tables: Tables, course: Course, rows: Rows, first_id: int) -> None:
    number = (8 * course.subject + course.number)[rows.stay] * LAB_ID_STRIDE + first_id
    specimen = number + rows.slot
    # As in MIMIC-IV, some specimens are not linked to the admission.
    unlinked = (specimen * 2654435761 >> 16) % 20 == 0
    tables.append(
        "hosp/labevents",
        {
            "labevent_id": number + rows.cell,
            "subject_id": course.subject_id[rows.stay],
            "hadm_id": pa.array(course.hadm_id[rows.stay], mask=unlinked),
            "specimen_id": specimen,
            "itemid": rows.items,
            "charttime": moments(rows.seconds),
            "storetime": moments(rows.stored),
            "value": number_texts(rows.values),
            "valuenum": rows.values,
            "valueuom": texts_by_item(rows.items, _units()),
            "priority": chosen(("ROUTINE", "STAT"), rows.slot % 2),
        },
    )
