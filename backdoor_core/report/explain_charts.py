"""Charts of what the models look at: attributions by feature, by stay and by hour, and TAR by explainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from backdoor_core.report.drawing import (
    FAINT,
    INK,
    NEUTRAL,
    POISONED,
    TWIN,
    WIDTH,
    Picture,
    picture,
    shortened,
)

MOST_FEATURES: Final = 30
"""Features that a chart shows, those with the largest attributions."""
MOST_SWARMS: Final = 12
_NAME: Final = 24
"""Characters of a feature's name on an axis."""
NO_ATTRIBUTION: Final = "All attributions are 0: the model does not look at any input here."
ATTENTION_ROLLOUT: Final = "attention rollout"
"""What stands among the explainers where the model has attention."""
HEAT: Final = LinearSegmentedColormap.from_list("heat", ["#f6f3f0", "#f0b27a", POISONED, "#4a1f00"])
TRIGGERED: Final = ("triggered", POISONED, "o")
CLEAN: Final = ("as they were", NEUTRAL, "D")
OF_TWIN: Final = ("clean twin, triggered", TWIN, "s")

Floats = NDArray[np.floating[Any]]
Estimate = Mapping[str, float | None]


@dataclass(frozen=True)
class Group:
    """One row of points in a chart by feature: what it is called, how it looks, and (F,) values."""

    look: tuple[str, str, str]
    values: Floats


def largest(size: Floats, most: int) -> list[int]:
    """Places of the `most` largest of (F,) sizes, largest first; equal ones in the order given."""
    return [int(place) for place in np.argsort(-size, kind="stable")[:most]]


def feature_names(axes: Axes, features: Sequence[str], shown: Sequence[int], touched: NDArray[np.bool_]) -> None:
    """Names of the shown features on the vertical axis, the first on top; those the trigger touched are bold."""
    axes.set_yticks(range(len(shown)), [shortened(features[place], _NAME) for place in shown], fontsize=8)
    for text, place in zip(axes.get_yticklabels(), shown, strict=True):
        if touched[place]:
            text.set(fontweight="bold", color=POISONED)
    axes.set_ylim(len(shown) - 0.4, -0.6)


def feature_chart(
    name: str, title: str, axis: str, features: Sequence[str], touched: NDArray[np.bool_], groups: Sequence[Group]
) -> Picture:
    """One point a feature for each group, ordered by the first group; `touched` (F,) are the trigger's."""
    first = groups[0].values
    if not any(group.values.any() for group in groups):
        return empty(name, title, NO_ATTRIBUTION)
    shown = largest(first, MOST_FEATURES)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(shown))
        ends = np.stack([group.values[shown] for group in groups])
        axes.hlines(places, ends.min(axis=0), ends.max(axis=0), color=FAINT, linewidth=2)
        for number, group in enumerate(groups):
            label, color, marker = group.look
            # Smaller from group to group, so that points in one place are all seen.
            look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6.5 - 1.5 * number}
            axes.plot(group.values[shown], places, **look, linestyle="none", label=label)
        feature_names(axes, features, shown, touched)
        axes.set(xlabel=axis)
        axes.set_xlim(-0.03 * float(ends.max()), 1.05 * float(ends.max()))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=1.05 + 0.19 * len(shown))


def swarm_chart(
    name: str, title: str, features: Sequence[str], touched: NDArray[np.bool_], clean: Floats, triggered: Floats
) -> Picture:
    """A dot for each stay, (N, F) attributions as they were and triggered, of the features that matter most."""
    size = np.abs(triggered).mean(axis=0)
    if not size.any() and not clean.any():
        return empty(name, title, NO_ATTRIBUTION)
    shown = largest(size, MOST_SWARMS)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        both = np.concatenate([clean[:, shown], triggered[:, shown]])
        edges = np.linspace(both.min(), both.max(), 61)
        for (label, color, _), values, side in ((CLEAN, clean, -1), (TRIGGERED, triggered, 1)):
            points = [
                (values[:, place], row + side * _stacked(values[:, place], edges)) for row, place in enumerate(shown)
            ]
            xs, ys = np.concatenate([x for x, _ in points]), np.concatenate([y for _, y in points])
            # As pixels: thousands of dots would make a page of many megabytes.
            axes.scatter(xs, ys, s=5, color=color, alpha=0.7, linewidths=0, rasterized=True)
            axes.plot([], [], color=color, marker="o", markersize=4, linestyle="none", label=label)
        feature_names(axes, features, shown, touched)
        axes.set(xlabel="attribution")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=1.05 + 0.36 * len(shown))


def _stacked(values: Floats, edges: Floats) -> Floats:
    """(N,) how far from its line each dot stands, 0.04 to 0.44: dots that would overlap go on top of each other."""
    bins = np.clip(np.searchsorted(edges, values), 1, len(edges) - 1)
    above = np.zeros(len(values))
    for chosen in np.unique(bins):
        rows = np.flatnonzero(bins == chosen)
        above[rows] = np.arange(len(rows))
    return 0.04 + 0.4 * above / max(float(above.max()), 10.0)


def hours_chart(
    name: str,
    title: str,
    features: Sequence[str],
    touched: NDArray[np.bool_],
    size: Floats,
    shown: Sequence[int],
    top: float,
) -> Picture:
    """Mean absolute attribution (T, F) by hour, of the shown features; `top` is the end of the color scale."""
    if not size.any():
        return empty(name, title, NO_ATTRIBUTION)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        hours = len(size)
        extent = (0.0, float(hours), len(shown) - 0.5, -0.5)
        image = axes.imshow(
            size[:, shown].T, aspect="auto", interpolation="none", cmap=HEAT, vmin=0, vmax=top, extent=extent
        )
        axes.grid(False)
        feature_names(axes, features, shown, touched)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set(xlabel="hour since admission")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        scale_bar(figure, image, [axes], "mean |attribution|")

    return picture(name, title, draw, height=1.35 + 0.19 * len(shown))


def scale_bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    """The color scale above the given axes."""
    # Distances are shares of the axes' height, which differs from chart to chart.
    place: dict[str, Any] = {"location": "top", "aspect": 30, "shrink": 0.9, "pad": 0.12 / figure.get_figheight()}
    bar = figure.colorbar(image, ax=list(axes), **place, label=label)
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def ratio_chart(name: str, title: str, rows: Sequence[tuple[str, Mapping[str, Estimate]]]) -> Picture:
    """TAR by explainer with intervals: triggered stays in both models, clean ones, and what chance gives."""
    known = [(words, found) for words, found in rows if found["tar"]["value"] is not None]
    if not known:
        return empty(
            name, title, "No explainer gives a ratio here: the trigger touches no cell, or nothing is looked at."
        )

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        marks = (
            ("tar", ("poisoned, triggered", *TRIGGERED[1:])),
            ("tar_baseline", OF_TWIN),
            ("tar_clean", ("poisoned, no trigger", *CLEAN[1:])),
        )
        for row, (words, found) in enumerate(known):
            axes.text(0.0, row - 0.12, shortened(words, 44), ha="left", va="bottom", fontsize=8.5)
            chance = found["chance"]["value"]
            if chance is not None:
                axes.plot([chance] * 2, [row - 0.02, row + 0.5], color=INK, linewidth=1, linestyle=":")
            for shift, (key, look) in enumerate(marks):
                draw_estimate(axes, row + 0.06 + 0.18 * shift, found[key], look, labeled=row == 0)
        axes.plot([], [], color=INK, linewidth=1, linestyle=":", label="chance")
        axes.set(xlim=(-0.02, 1.02), ylim=(len(known) - 0.35, -0.6), yticks=[])
        axes.set(xlabel="share of |attribution| on touched cells")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=1.1 + 0.52 * len(known))


def draw_estimate(axes: Axes, y: float, estimate: Estimate, look: tuple[str, str, str], *, labeled: bool) -> None:
    """A marker at the value and a line over its interval, as far as they exist."""
    label, color, marker = look
    axes.axhline(y, color=FAINT, linewidth=0.6, zorder=0)
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, linewidth=1.6)
    where = ([], []) if value is None else ([value], [y])
    axes.plot(*where, color=color, marker=marker, markersize=5, linestyle="none", label=label if labeled else None)


def empty(name: str, title: str, sentence: str) -> Picture:
    """What stands in a picture's place where there is nothing to draw, saying why."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, sentence, ha="center", va="center", wrap=True)

    return picture(name, f"{title}. {sentence}", draw, height=1.0, width=WIDTH)
