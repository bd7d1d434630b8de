"""What the charts of a model of events share: series of hours, bars of three sides, and heatmaps with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from backdoor_core.explanation.event_bins import TRIGGER
from backdoor_core.report.drawing import INK, NEUTRAL, POISONED, TWIN, shortened
from backdoor_core.report.explain_charts import HEAT

NO_EVENTS: Final = "The explained stays have no events."
DIVERGING: Final = LinearSegmentedColormap.from_list("diverging", [TWIN, "#f6f3f0", POISONED])
SIDES: Final = {
    "triggered": ("poisoned, triggered", POISONED, "o"),
    "clean": ("poisoned, as they were", NEUTRAL, "D"),
    "baseline": ("clean twin, triggered", TWIN, "s"),
}
"""How the poisoned model with and without the trigger and its twin look in every chart."""
MOST_ROWS: Final = 15
MOST_HEADS: Final = 8
"""Pooling heads that a chart shows, the first."""
NAME: Final = 22
"""Characters of a name on an axis."""

Floats = NDArray[np.floating[Any]]
Hours = Mapping[str, Any]
"""`start`, `width` and `bins`, as `EventBins.as_json` tells them."""


def numbers(values: Any) -> Floats:
    """Nested lists of JSON as an array, NaN where there is None."""
    return np.array(values, dtype=np.float64)


def span(hours: Hours) -> tuple[int, int]:
    """First and last hour of the bins."""
    return hours["start"], hours["start"] + hours["width"] * hours["bins"]


def draw_hours(axes: Axes, hours: Hours, sides: Mapping[str, Floats], control: Floats, *, labeled: bool) -> None:
    """A step line over the bins for each side, and a dotted one for what chance gives."""
    first, last = span(hours)
    edges = np.linspace(first, last, hours["bins"] + 1)
    for number, (name, values) in enumerate(sides.items()):
        label, color, _ = SIDES[name]
        # Thinner from side to side, so that lines in one place are all seen.
        look: dict[str, Any] = {"color": color, "linewidth": 2.4 - 0.6 * number, "baseline": None}
        axes.stairs(values, edges, **look, label=label if labeled else None)
    label_alike = "all events alike" if labeled else None
    axes.stairs(control, edges, color=INK, linewidth=1, linestyle=":", baseline=None, label=label_alike)
    axes.set(xlim=(first, last), ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))


def draw_sides(axes: Axes, names: Sequence[str], sides: Mapping[str, Floats], marked: Sequence[bool]) -> None:
    """A row for each name with one point a side; `marked` names are the trigger's."""
    for number, (name, values) in enumerate(sides.items()):
        label, color, marker = SIDES[name]
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6.5 - 1.5 * number}
        axes.plot(values, np.arange(len(names)), **look, linestyle="none", label=label)
    name_rows(axes, names, marked)
    top = max((float(np.nanmax(values, initial=0.0)) for values in sides.values()), default=0.0) or 1.0
    axes.set_xlim(-0.03 * top, 1.06 * top)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def name_rows(axes: Axes, names: Sequence[str], marked: Sequence[bool]) -> None:
    """Names on the vertical axis, the first on top; `marked` ones are bold and orange."""
    axes.set_yticks(range(len(names)), [shortened(name, NAME) for name in names], fontsize=8)
    for text, mark in zip(axes.get_yticklabels(), marked, strict=True):
        if mark:
            text.set(fontweight="bold", color=POISONED)
    axes.set_ylim(len(names) - 0.4, -0.6)


def draw_heat(
    axes: Axes,
    values: Floats,
    limits: tuple[float, float],
    extent: tuple[float, float, float, float] | None = None,
    cmap: Colormap = HEAT,
    *,
    even: bool = True,
) -> AxesImage:
    """(rows, columns) as colors, the first row on top; nothing where NaN. `extent` is left, right, bottom, top.

    Colors follow the square root of a value where they are not `even`.
    """
    norm = PowerNorm(1.0 if even else 0.5, *(limits if limits[0] < limits[1] else (0.0, 1.0)))
    image = axes.imshow(values, cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    if extent is not None:
        image.set_extent(extent)
    axes.grid(False)
    return image


def name_types(axes: Axes, types: Sequence[str], *, columns: bool) -> None:
    """Types of events along one axis; the trigger's bin is bold and orange."""
    words = [shortened(kind.lower(), 12) for kind in types]
    if columns:
        axes.set_xticks(range(len(types)), words, rotation=90, fontsize=7.5)
        labels = axes.get_xticklabels()
    else:
        axes.set_yticks(range(len(types)), words, fontsize=7.5)
        labels = axes.get_yticklabels()
    for text, kind in zip(labels, types, strict=True):
        if kind == TRIGGER:
            text.set(fontweight="bold", color=POISONED)


def around_zero(*values: Floats) -> tuple[float, float]:
    """Limits of a diverging scale that hold all values, with 0 in the middle."""
    top = top_of(*(np.abs(part) for part in values)) or 1.0
    return -top, top


def top_of(*values: Floats) -> float:
    """The largest number of all, 0 where there is none."""
    return max((float(np.nanmax(part, initial=0.0)) for part in values), default=0.0)


def stacked_parts(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    """Parts of a figure on top of each other, each with room for its own legend and color scale."""
    found: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    return [part for row in found for part in row]


def color_bar(figure: SubFigure, image: AxesImage, axes: Sequence[Axes], label: str, height: float) -> None:
    """The color scale above the axes of a part of a figure that is `height` inches high."""
    place: dict[str, Any] = {"location": "top", "aspect": 30, "shrink": 0.9, "pad": 0.12 / height}
    bar = figure.colorbar(image, ax=list(axes), **place, label=label)
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
