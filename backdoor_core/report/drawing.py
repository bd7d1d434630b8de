"""What all charts share: palette, style, and a matplotlib figure as a small inline SVG with stable bytes."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays apart under the common color vision deficiencies.
POISONED: Final = "#d55e00"
TWIN: Final = "#0072b2"
NULL: Final = "#009e73"
OTHERS: Final = "#b4bac2"
INK: Final = "#24292f"
FAINT: Final = "#d8dce1"
NEUTRAL: Final = "#6e7781"
PAPER: Final = "#fefefe"
"""Of hollow markers. Not quite white, which matplotlib itself uses."""

# The page may give each of these another shade, on a dark screen say; alone, the SVG falls back on the literal.
_VARIABLES: Final = {
    POISONED: "poisoned",
    TWIN: "twin",
    NULL: "null",
    OTHERS: "others",
    INK: "ink",
    FAINT: "faint",
    NEUTRAL: "neutral",
    PAPER: "paper",
}

WIDTH: Final = 3.9
"""Inches. Shown at 360 to 480 CSS pixels, 9-point text is then 11 to 15 pixels high."""
NARROW: Final = 3.0
"""Inches, for charts that stand in a narrow column of 260 pixels or more."""

_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "savefig.facecolor": "none",
    # The page's font draws the text: it can be selected and searched, and a page of charts stays small.
    "svg.fonttype": "none",
    "text.color": INK,
    # A name with two dollar signs is a name, not a formula.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "{http://www.w3.org/1999/xlink}href"
_PLACES: Final = ("d", "height", "transform", "width", "x", "y")
_NUMBER: Final = re.compile(r"-?\d+\.\d+")
_REFERRING: Final = ("href", "clip-path")
_REFERENCE: Final = re.compile(r"#([\w.-]+)")
_DPI: Final = 200
"""Of pictures as PNG, and of what an SVG holds as pixels."""
_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))

Draw = Callable[[Axes], None]
DrawFigure = Callable[[Figure], None]


def chart(name: str, description: str, draw: Draw, height: float = 2.9, width: float = WIDTH) -> str:
    """The SVG of one chart with one pair of axes, `width` by `height` inches, that `draw` fills.

    `name` must differ between the charts of a page: the identifiers inside the SVG begin with it.
    `description` is read out in place of the picture. Equal input gives equal bytes.
    """
    (svg,) = _saved(lambda figure: draw(figure.add_subplot()), (width, height), ["svg"])
    return _inline(name, svg, description)


@dataclass(frozen=True)
class Picture:
    """A figure that stands alone as well as on the page."""

    svg: str
    png: bytes
    """200 dots an inch on white."""


def picture(name: str, description: str, draw: DrawFigure, height: float, width: float = WIDTH) -> Picture:
    """As `chart`, for a figure that `draw` divides into axes itself, as SVG and PNG. Equal input gives equal bytes."""
    svg, png = _saved(draw, (width, height), ["svg", "png"], _DPI)
    # Alone, the file has no page to take its font from.
    alone = _inline(name, svg, description).replace("<svg ", '<svg font-family="DejaVu Sans, Verdana, sans-serif" ', 1)
    return Picture(alone, png)


def _saved(
    draw: DrawFigure,
    size: tuple[float, float],
    kinds: Sequence[Literal["svg", "png"]],
    dpi: int | None = None,
) -> list[bytes]:
    saved = []
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # matplotlib measures text with its own font, but the reader's draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for kind in kinds:
            buffer = io.BytesIO()
            if kind == "svg":
                figure.savefig(buffer, format="svg", dpi=dpi or "figure", metadata=_METADATA)
            else:
                figure.savefig(
                    buffer, format="png", dpi=dpi or "figure", metadata={"Software": None}, facecolor="white"
                )
            saved.append(buffer.getvalue())
            # The next one keeps the places that were found for the first: to find them takes as long as to draw.
            figure.set_layout_engine("none")
    return saved


def notice(name: str, sentence: str) -> str:
    """A chart's place where there is nothing to draw, saying why."""

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, sentence, ha="center", va="center", wrap=True)

    return chart(name, sentence, draw, height=1.0)


def shortened(text: str, most: int) -> str:
    """`text`, cut to `most` characters with an ellipsis where it is longer."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _inline(name: str, svg: bytes, description: str) -> str:
    """The SVG for use inside a page: no fixed size, no metadata, themable colors, only the identifiers in use.

    A layout's places differ in their last bits from one drawing to the next, for its sums depend on where in memory the
    figure's parts lie: places are rounded, and identifiers, which matplotlib makes of places, are counted.
    """
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    elements = list(root.iter())
    for element in elements:
        if reference := element.attrib.pop(_XLINK, None):
            element.set("href", reference)
    _count_identifiers(name, elements)
    for element in elements:
        for key in set(_PLACES).intersection(element.keys()):
            element.set(key, _NUMBER.sub(lambda number: f"{float(number[0]) + 0.0:.6g}", element.attrib[key]))
        if style := element.get("style"):
            element.set("style", _themed(style))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"role": "img", "aria-label": description, "stroke-linejoin": "round", "stroke-linecap": "butt"})
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _count_identifiers(name: str, elements: Sequence[ET.Element]) -> None:
    used = {match for element in elements for key in _REFERRING for match in _REFERENCE.findall(element.get(key, ""))}
    counted: dict[str, str] = {}
    for element in elements:
        identifier = element.attrib.pop("id", None)
        if identifier is not None and identifier in used:
            element.set("id", counted.setdefault(identifier, f"{name}-{len(counted)}"))
    for element in elements:
        for key in set(_REFERRING).intersection(element.keys()):
            element.set(key, _REFERENCE.sub(lambda match: f"#{counted[match[1]]}", element.attrib[key]))


def _themed(style: str) -> str:
    # The font's family is the page's: dropping it here lets the text inherit.
    style = re.sub(r"font: ([\d.]+px) [^;]+", r"font-size: \1", style)
    for color, variable in _VARIABLES.items():
        style = re.sub(rf"(fill|stroke): {color}", rf"\1: var(--{variable}, {color})", style)
    return style
