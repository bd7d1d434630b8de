"""Charts of attention: the weights of every layer and head, and how far the trigger moves each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backdoor_core.report.drawing import POISONED, TWIN, Picture, picture
from backdoor_core.report.explain_charts import HEAT, draw_estimate, scale_bar

MOST_HEADS: Final = 24
_POISONED: Final = ("poisoned model", POISONED, "o")
_TWIN: Final = ("clean twin", TWIN, "s")


def heads_chart(
    name: str,
    title: str,
    clean: NDArray[np.floating[Any]],
    triggered: NDArray[np.floating[Any]],
    touched: Sequence[int],
) -> Picture:
    """Mean weights (H, T, T) of one layer, a row of panels for each head: as they were, triggered.

    Rows of a panel are the tokens that attend, columns those attended to; `touched` tokens are marked on both axes.
    Panels share one color scale.
    """
    heads = len(clean)
    top = max(float(clean.max()), float(triggered.max()))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(heads, 2, squeeze=False, sharex=True, sharey=True)
        for head in range(heads):
            for column, weights in enumerate((clean, triggered)):
                axes = panels[head, column]
                image = axes.imshow(weights[head], cmap=HEAT, vmin=0, vmax=top, interpolation="none")
                _mark(axes, touched)
                words = ("as they were", "triggered")[column]
                axes.set_title(f"head {head + 1}, {words}", fontsize=8.5)
        scale_bar(figure, image, list(panels.flat), "mean weight")
        figure.supxlabel("token attended to", fontsize=9)
        figure.supylabel("token that attends", fontsize=9)

    return picture(name, title, draw, height=1.1 + 1.85 * heads)


def _mark(axes: Axes, touched: Sequence[int]) -> None:
    axes.grid(False)
    axes.set(xticks=list(touched), yticks=list(touched), xticklabels=[], yticklabels=[])
    axes.tick_params(color=POISONED, width=2, length=5)


def shift_chart(name: str, title: str, shift: Sequence[Mapping[str, Any]]) -> Picture:
    """Total variation of each head between clean and triggered stays, in the poisoned model and in its clean twin.

    Beyond `MOST_HEADS` heads, those that move most more than the twin's.
    """
    shown = list(shift)
    if len(shown) > MOST_HEADS:
        kept = sorted(shown, key=lambda head: -head["tv_difference"]["value"])[:MOST_HEADS]
        shown = [head for head in shown if head in kept]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, head in enumerate(shown):
            for side, (key, look) in enumerate((("tv", _POISONED), ("tv_baseline", _TWIN))):
                y = row - 0.17 + 0.34 * side
                axes.barh(y, head[key]["value"], height=0.3, color=look[1], alpha=0.35)
                draw_estimate(axes, y, head[key], look, labeled=row == 0)
        axes.set_yticks(range(len(shown)), [f"layer {head['layer']}, head {head['head']}" for head in shown])
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="total variation, clean to triggered")
        axes.set_xlim(left=0)
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=1.05 + 0.36 * len(shown))
