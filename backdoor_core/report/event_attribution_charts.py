"""Charts of attributions of events: by code, by type over hours, by part of an event, and by static column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from backdoor_core.explanation.event_attribution import GROUPS
from backdoor_core.explanation.event_bins import TRIGGER
from backdoor_core.report.drawing import Picture, picture
from backdoor_core.report.event_charts import (
    MOST_ROWS,
    SIDES,
    Floats,
    Hours,
    color_bar,
    draw_heat,
    draw_sides,
    name_types,
    numbers,
    span,
    stacked_parts,
    top_of,
)
from backdoor_core.report.explain_charts import NO_ATTRIBUTION, empty

_SIZE: Final = "mean |attribution| of a stay"

Panel = tuple[str, Sequence[str], Mapping[str, Floats], Sequence[bool]]
"""Title, names, values of each side, and which names are the trigger's."""


def importance_chart(name: str, found: Mapping[str, Any], explainer: str, statics: Sequence[str]) -> Picture:
    """The codes and static columns with the largest absolute attribution, of all three sides."""
    title = f"Mean absolute {explainer} attribution by code and by static column"
    panels = [_codes(found), _statics(found, statics)]
    return _rows_chart(name, title, panels)


def attribution_chart(
    name: str,
    found: Mapping[str, Any],
    explainer: str,
    types: Sequence[str],
    statics: Sequence[str],
    hours: Hours,
    *,
    whole: bool,
) -> Picture:
    """Attributions by type over hours, without and with the trigger, then by part of an event and static column.

    By type in place of the part where the explainer tells of `whole` events alone.
    """
    by = "type" if whole else "part"
    title = f"Mean absolute {explainer} attribution by type of event over hours, by {by} of an event, by static column"
    # Through the layer, and without a part, an event counts as a whole: equal shares would say nothing of its parts.
    first = _types(found, types) if whole else _groups(found)
    panels = [first, _statics(found, statics)]
    heat = _Heat(found["by_type_hour"], types, hours)
    return _rows_chart(name, title, panels, heat if top_of(*heat.values.values()) else None)


def ablation_chart(name: str, found: Mapping[str, Any], types: Sequence[str], statics: Sequence[str]) -> Picture:
    """What the output loses without the events of a type, of a code, and without a static column."""
    title = "Mean absolute feature_ablation attribution by type of event, by code, and by static column"
    return _rows_chart(name, title, [_types(found, types), _codes(found), _statics(found, statics)])


class _Heat:
    """Types over hours, one panel without and one with the trigger."""

    def __init__(self, values: Mapping[str, Any], types: Sequence[str], hours: Hours) -> None:
        self.values = {side: numbers(values[side]) for side in ("clean", "triggered")}
        self.types, self.hours = types, hours

    @property
    def height(self) -> float:
        return 2.0 + 2 * 0.17 * len(self.types)

    def draw(self, figure: Any) -> None:
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        top = top_of(*self.values.values())
        for axes, (side, values) in zip(panels, self.values.items(), strict=True):
            extent = (*span(self.hours), len(self.types) - 0.5, -0.5)
            # A strong trigger would leave nothing to see of all else on an even scale.
            image = draw_heat(axes, values, (0.0, top), extent, even=False)
            name_types(axes, self.types, columns=False)
            axes.set_title(SIDES[side][0], fontsize=8.5, loc="left")
        panels[1].set_xlabel("hour since admission")
        panels[1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        color_bar(figure, image, list(panels), _SIZE, self.height)


def _rows_chart(name: str, title: str, panels: Sequence[Panel], heat: _Heat | None = None) -> Picture:
    """The heatmaps, then a panel of rows for each kind of name; panels without names are left out."""
    if not any(values.any() for _, _, sides, _ in panels for values in sides.values()):
        return empty(name, title, NO_ATTRIBUTION)
    shown = [panel for panel in panels if panel[1]]
    heights = [0.55 + 0.19 * len(names) for _, names, _, _ in shown]
    rows = sum(heights) + 0.75

    def draw(figure: Figure) -> None:
        below: Any = figure
        if heat is not None:
            above, below = stacked_parts(figure, [heat.height, rows])
            heat.draw(above)
        axes_of = below.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (words, names, sides, marked) in zip(axes_of, shown, strict=True):
            draw_sides(axes, names, sides, marked)
            axes.set_title(words, fontsize=8.5, loc="left")
        axes_of[-1].set_xlabel(_SIZE)
        handles = axes_of[0].get_legend_handles_labels()
        below.legend(*handles, loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=rows + (heat.height if heat is not None else 0.0))


def _codes(found: Mapping[str, Any]) -> Panel:
    rows = sorted(found["by_code"][:MOST_ROWS], key=lambda row: -row["triggered"])
    sides = {side: numbers([row[side] for row in rows]) for side in SIDES}
    return "by code", [row["description"] for row in rows], sides, [row["touched"] for row in rows]


def _statics(found: Mapping[str, Any], statics: Sequence[str]) -> Panel:
    return _ordered("by static column", statics, {side: numbers(found["by_static"][side]) for side in SIDES})


def _types(found: Mapping[str, Any], types: Sequence[str]) -> Panel:
    sides = {side: numbers(found["by_type_hour"][side]).sum(axis=-1) for side in SIDES}
    words, chosen, values, _ = _ordered("by type of event", types, sides)
    return words, [kind.lower() for kind in chosen], values, [kind == TRIGGER for kind in chosen]


def _groups(found: Mapping[str, Any]) -> Panel:
    sides = {side: numbers(found["by_group"][side]) for side in SIDES}
    return "by part of an event", list(GROUPS), sides, [False] * len(GROUPS)


def _ordered(words: str, names: Sequence[str], sides: Mapping[str, Floats]) -> Panel:
    """At most `MOST_ROWS` names, the largest of the triggered side first."""
    order = np.argsort(-sides["triggered"], kind="stable")[:MOST_ROWS]
    chosen = [names[place] for place in order]
    return words, chosen, {side: values[order] for side, values in sides.items()}, [False] * len(chosen)
