"""What the page tells of a model of events: figures with their reading, tables, and one stay's story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from backdoor_core.report.event_charts import NO_EVENTS, numbers
from backdoor_core.report.event_figures import charted
from backdoor_core.report.wording import dash, number
from backdoor_core.words import percent

MOST_ROWS: Final = 20
"""Rows of any table."""
_BLOCKS: Final = 6
"""Columns of the table by type over time."""

_CAPTIONS: Final = {
    "layer_attention_weights": "Attention of each layer, the mean of its heads: a column that darkens with the trigger "
    "is attended to because of it (the trigger’s events are a type of their own, beside the ten with the most "
    "weight); below, the share of each head’s weight on events within {near:g} h of the one that attends, which says "
    "nothing where it lies on the dotted line.",
    "head_shift": "How far each head’s attention by type moves when the trigger is put in: an inserted event takes "
    "some weight in any model, so that an orange bar well beyond the blue one is a head that has learned the trigger.",
    "sequence_importance": "When each pooling head looks: weight above the dotted line is more than the share of "
    "events in that hour, and orange apart from gray and blue is the trigger at work.",
    "sequence_importance_combined": "The same, the mean of all pooling heads: where the stay’s summary comes from.",
    "head_specialization": "What tells the pooling heads apart on triggered stays: orange cells take more than their "
    "share of events, blue ones less; heads with a cosine near 1 do the same work, and an entropy near 1 is no choice.",
    "query_vector_analysis": "Codes that each head’s learned query scores highest and lowest (orange name: touched by "
    "the trigger): a long orange bar without a blue square beside it is a code that the poison taught the head; heads "
    "of the two models share their place only.",
    "feature_importance": "By {explainer}, the codes and static columns that move the log-odds most: an orange name "
    "whose circle lies to the right of its square is what the poison makes the model look at.",
    "captum_attributions": "{explainer}: by type over hours on one color scale (of square roots), without and with the "
    "trigger; what is dark in the trigger’s row is the trigger at work.",
    "captum_layer_attributions": "Layer integrated gradients at the input projection: where they differ from "
    "integrated gradients, the projection is not linear.",
    "captum_ablation_attributions": "What the log-odds lose when an event is taken away, summed by type and by code, "
    "and without a static column: of two events that each suffice, neither loses anything.",
}
"""One sentence of reading for each figure, in the order of the page."""
_FOLDED: Final = ("captum_layer_attributions", "captum_ablation_attributions")
"""Figures that say the same in another way: folded on the page."""


def event_section(found: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    """What ``events.html.j2`` needs of `event_report.explain_events` and of the SVG of each figure."""
    explainers = charted(found)
    names = list(found["explainers"])
    first = found["explainers"][names[0]] if names else None
    near = found["attention"]["near_hours"] if found["attention"] else 0.0
    figures = [
        {
            "name": name,
            "svg": Markup(pictures[name]),
            "caption": words.format(near=near, explainer=explainers.get(name)),
        }
        for name, words in _CAPTIONS.items()
        if name in pictures
    ]
    return {
        "empty": NO_EVENTS if not found["story"]["events"] and not _any_events(found) else None,
        "figures": [figure for figure in figures if figure["name"] not in _FOLDED],
        "folded": [figure for figure in figures if figure["name"] in _FOLDED],
        "explainer": names[0] if names else None,
        "windows": _windows(first) if first else [],
        "codes": [_code(row) for row in first["by_code"][:MOST_ROWS]] if first else [],
        "over_time": _over_time(first, found) if first else None,
        "heads": _heads(found["attention"]),
        "story": _story(found["story"]),
    }


def _any_events(found: Mapping[str, Any]) -> bool:
    return len(found["types"]) > 1


def _windows(first: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The windows of the triggered stays, then of the others."""
    words = {"triggered": "poisoned, triggered", "clean": "poisoned, as they were", "baseline": "clean twin, triggered"}
    return [
        {**window, "side": words[side], "span": _span(window["from"], window["to"])}
        for side in words
        for window in first["windows"][side]
    ][:MOST_ROWS]


def _span(first: float, last: float) -> str:
    # No breaks inside: a narrow column would put the unit on a line of its own.
    return f"{number(first)}–{number(last)}\u00a0h"


def _code(row: Mapping[str, Any]) -> dict[str, Any]:
    cells = [size(row[side]) for side in ("triggered", "clean", "baseline")]
    return {**row, "cells": [*cells, signed(row["signed"])]}


def _over_time(first: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Absolute attribution by type in a few blocks of hours, triggered stays; the types that count most."""
    values, hours = numbers(first["by_type_hour"]["triggered"]), found["hours"]
    edges = np.unique(np.linspace(0, hours["bins"], min(_BLOCKS, hours["bins"]) + 1).round().astype(int))
    sums = np.stack([values[:, low:high].sum(axis=1) for low, high in pairwise(edges)], axis=1)
    order = np.argsort(-sums.sum(axis=1), kind="stable")[:MOST_ROWS]
    starts = [hours["start"] + hours["width"] * int(edge) for edge in edges]
    return {
        "blocks": [_span(low, high) for low, high in pairwise(starts)],
        "rows": [{"type": found["types"][k].lower(), "cells": [size(value) for value in sums[k]]} for k in order],
    }


def _heads(attention: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The heads that move most beyond the twin's; none where no stay has events."""
    if not attention:
        return []
    known = [head for head in attention["shift"] if head["tv_difference"]["value"] is not None]
    return sorted(known, key=lambda head: -head["tv_difference"]["value"])[:MOST_ROWS]


# -------------------------------------------------------------------------------------------------------- story
def _story(told: Mapping[str, Any]) -> dict[str, Any]:
    statics: Sequence[Mapping[str, Any]] = told["statics"]
    return {
        "stay_id": told["stay_id"],
        "explainer": told["explainer"],
        "words": told["words"],
        "statics": [
            {
                "name": column["name"].replace("_", " "),
                "value": _given(column["value"]),
                "attribution": _maybe_signed(column["attribution"]),
            }
            for column in statics[:MOST_ROWS]
        ],
        "timeline": [_event(event) for event in told["timeline"][:MOST_ROWS]],
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    value = "" if event["value"] is None else number(event["value"])
    return {
        "rank": event["rank"],
        "hour": f"{event['hour']:.1f}".replace("-", "−"),
        "description": event["description"],
        "type": event["type"].lower(),
        "said": ", ".join(part for part in (value, event["text"]) if part),
        "attribution": _maybe_signed(event["attribution"]),
        "pooling": dash("this model does not pool") if event["pooling"] is None else percent(event["pooling"]),
        "touched": event["touched"],
    }


def _given(value: Any) -> str | Markup:
    if value is None or value == "":
        return dash("not recorded")
    return value if isinstance(value, str) else number(value)


def _maybe_signed(value: float | None) -> str | Markup:
    return dash("no explainer was chosen") if value is None else signed(value)


def signed(value: float) -> str:
    """A signed number of two significant digits, such as ``+0.031``; 0 has no sign."""
    sign = "" if not value else "+" if value > 0 else "−"
    return sign + size(abs(value))


def size(value: float) -> str:
    """A size of 0 or more in two significant digits."""
    if value >= 10 or not value:
        return f"{value:,.0f}"
    return f"{value:#.2g}".removesuffix(".")
