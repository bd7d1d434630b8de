"""Charts of a model of events: what layers attend to, what pooling heads weigh, and what their queries look for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from backdoor_core.report.drawing import INK, PAPER, Picture, picture
from backdoor_core.report.event_charts import (
    DIVERGING,
    MOST_HEADS,
    NO_EVENTS,
    SIDES,
    Hours,
    around_zero,
    color_bar,
    draw_heat,
    draw_hours,
    name_rows,
    name_types,
    numbers,
    span,
    stacked_parts,
    top_of,
)
from backdoor_core.report.explain_charts import draw_estimate, empty

MOST_LAYERS: Final = 4
"""Layers whose heatmaps are drawn, the first."""
MOST_TYPES: Final = 10
"""Types of events that a layer's heatmap shows beside the trigger's."""
_MOST_SHARES: Final = 24
_MOST_CODES: Final = 4


def layer_attention_chart(name: str, attention: Mapping[str, Any], types: Sequence[str], hours: Hours) -> Picture:
    """Of each layer hour by hour and type by type, without and with the trigger, and each head's local share."""
    title = "Attention of each layer by hour and by type of event, with the trigger and without it"
    if attention["near"]["value"] is None:
        return empty(name, title, NO_EVENTS)
    layers = min(attention["layers"], MOST_LAYERS)
    shares = attention["shift"][:_MOST_SHARES]
    first, last = span(hours)
    kept = _most_attended(numbers(attention["by_type"]["triggered"]))
    names = [types[place] for place in kept]
    heights = [0.8 + 1.4 * layers, 1.3 + max(1.6, 0.5 + 0.13 * len(names)) * layers, 1.1 + 0.22 * len(shares)]

    def draw(figure: Figure) -> None:
        parts = stacked_parts(figure, heights)
        for kind, part, height in zip(("by_hour", "by_type"), parts, heights[:2], strict=False):
            pair = [numbers(attention[kind][side])[:layers] for side in ("clean", "triggered")]
            if kind == "by_type":
                pair = [values[:, kept][:, :, kept] for values in pair]
            panels = part.subplots(layers, 2, squeeze=False, sharex=True, sharey=True)
            for (layer, column), axes in np.ndenumerate(panels):
                extent = (first, last, last, first) if kind == "by_hour" else None
                image = draw_heat(axes, pair[column][layer], (0.0, top_of(*pair)), extent)
                axes.set_title(f"layer {layer + 1}, {('as they were', 'triggered')[column]}", fontsize=8.5)
                if kind == "by_hour":
                    _hour_axes(axes)
                if kind == "by_type" and not column:
                    name_types(axes, names, columns=False)
                if kind == "by_type" and layer == layers - 1:
                    name_types(axes, names, columns=True)
            color_bar(part, image, list(panels.flat), f"mean weight on {_ATTENDED[kind]} attended to", height)
            part.supxlabel(f"{_ATTENDED[kind]} attended to", fontsize=9)
            part.supylabel(f"{_ATTENDED[kind]} that attends", fontsize=9)
        axes = parts[2].subplots()
        _shares(axes, shares, attention["near"]["value"])
        parts[2].legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=sum(heights))


_ATTENDED: Final = {"by_hour": "hour", "by_type": "type"}


def _most_attended(by_type: Any) -> list[int]:
    """Places of the `MOST_TYPES` types with the largest mean weight (L, K, K), and of the trigger's, in their order."""
    attending = ~np.isnan(by_type[0, :, 0])
    weight = by_type[:, attending].mean(axis=(0, 1))
    largest = np.argsort(-weight[:-1], kind="stable")[:MOST_TYPES]
    return [*sorted(largest.tolist()), len(weight) - 1]


def _hour_axes(axes: Any) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=7.5)


def _shares(axes: Any, shares: Sequence[Mapping[str, Any]], near: float) -> None:
    """Share of each head's weight on events of the same hour or so."""
    for row, head in enumerate(shares):
        for number, (side, look) in enumerate(SIDES.items()):
            draw_estimate(axes, row + 0.22 * (number - 1), head[f"local_{side}"], look, labeled=row == 0)
    axes.axvline(near, color=INK, linewidth=1, linestyle=":", label="all events alike")
    axes.set_yticks(range(len(shares)), [f"layer {head['layer']}, head {head['head']}" for head in shares], fontsize=8)
    axes.set(ylim=(len(shares) - 0.4, -0.6), xlim=(-0.02, 1.02), xlabel="local share of attention")


# ------------------------------------------------------------------------------------------------------ pooling
def importance_chart(name: str, pooling: Mapping[str, Any], hours: Hours) -> Picture:
    """Pooling weight by hour of each head, of all three sides."""
    title = "Pooling weight by hour since admission, each pooling head"
    control = numbers(pooling["triggered"]["alike"])
    if np.isnan(control).all():
        return empty(name, title, NO_EVENTS)
    heads = min(pooling["triggered"]["heads"], MOST_HEADS)
    by_hour = {side: numbers(pooling[side]["by_hour"]) for side in SIDES}

    def draw(figure: Figure) -> None:
        panels = figure.subplots(heads, 1, squeeze=False, sharex=True, sharey=True)
        for head, axes in enumerate(panels[:, 0]):
            sides = {side: values[head] for side, values in by_hour.items()}
            draw_hours(axes, hours, sides, control, labeled=not head)
            axes.set_title(f"head {head + 1}", fontsize=8.5, loc="left")
        panels[-1, 0].set_xlabel("hour since admission")
        figure.supylabel("pooling weight", fontsize=9)
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=1.1 + 1.05 * heads)


def combined_chart(name: str, pooling: Mapping[str, Any], hours: Hours) -> Picture:
    """Pooling weight by hour, the mean over the heads."""
    title = "Pooling weight by hour since admission, mean over the pooling heads"
    control = numbers(pooling["triggered"]["alike"])
    if np.isnan(control).all():
        return empty(name, title, NO_EVENTS)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        sides = {side: numbers(pooling[side]["combined"]) for side in SIDES}
        draw_hours(axes, hours, sides, control, labeled=True)
        axes.set(xlabel="hour since admission", ylabel="pooling weight, mean of heads")
        figure.legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=2.9)


def specialization_chart(name: str, pooling: Mapping[str, Any], types: Sequence[str], hours: Hours) -> Picture:
    """What each pooling head takes by type and by hour and how alike heads are, in both models, and their entropy."""
    title = "Pooling heads by type, hour, similarity and entropy, in the poisoned model and its clean twin"
    if np.isnan(numbers(pooling["triggered"]["alike"])).all():
        return empty(name, title, NO_EVENTS)
    heads = min(pooling["triggered"]["heads"], MOST_HEADS)
    heights = [1.4 + 0.17 * len(types), 1.45 + 0.17 * heads, 1.45 + 0.25 * heads, 1.3 + 0.2 * heads]

    def draw(figure: Figure) -> None:
        parts = stacked_parts(figure, heights)
        for kind, part, height in zip(_SCALES, parts, heights[:3], strict=False):
            panels = part.subplots(1, 2, sharey=True)
            pair = [_beyond_alike(pooling[side], kind)[:heads] for side in ("triggered", "baseline")]
            for axes, values, words in zip(panels, pair, ("poisoned", "clean twin"), strict=True):
                image = _heads_heat(axes, kind, values, heads, around_zero(*pair), hours)
                axes.set_title(words, fontsize=8.5)
            if kind == "by_type":
                name_types(panels[0], types, columns=False)
            else:
                panels[0].set_ylabel("head", fontsize=8)
            color_bar(part, image, list(panels), _SCALES[kind], height)
        axes = parts[3].subplots()
        for number, (side, (label, color, marker)) in enumerate(SIDES.items()):
            entropy = numbers(pooling[side]["entropy"])[:heads]
            look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6.5 - 1.5 * number}
            axes.plot(entropy, np.arange(heads), **look, linestyle="none", label=label)
        axes.set_yticks(range(heads), [f"head {head + 1}" for head in range(heads)], fontsize=8)
        axes.set(ylim=(heads - 0.4, -0.6), xlim=(-0.02, 1.04), xlabel="entropy (1: all events alike, 0: one event)")
        parts[3].legend(loc="outside upper left", ncols=2)

    return picture(name, title, draw, height=sum(heights))


_SCALES: Final = {
    "by_type": "weight less share of events",
    "by_hour": "weight less share of events",
    "similarity": "cosine of two heads",
}


def _beyond_alike(pooling: Mapping[str, Any], kind: str) -> Any:
    """(P, ...) weights less those of a head that weighs all events alike; similarities as they are."""
    control = {"by_type": pooling["type_alike"], "by_hour": pooling["alike"]}
    values = numbers(pooling[kind])
    return values - numbers(control[kind]) if kind in control else values


def _heads_heat(axes: Any, kind: str, values: Any, heads: int, limits: tuple[float, float], hours: Hours) -> Any:
    labels = [str(head + 1) for head in range(heads)]
    if kind != "by_type":
        axes.set_yticks(range(heads), labels, fontsize=7.5)
    if kind == "by_hour":
        image = draw_heat(axes, values, limits, (*span(hours), heads - 0.5, -0.5), DIVERGING)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_xlabel("hour", fontsize=8)
        return image
    axes.set_xticks(range(heads), labels, fontsize=7.5)
    axes.set_xlabel("head", fontsize=8)
    if kind == "by_type":
        return draw_heat(axes, values.T, limits, cmap=DIVERGING)
    for (row, column), value in np.ndenumerate(values[:, :heads]):
        color = PAPER if value > 0.5 else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=color)
    return draw_heat(axes, values[:, :heads], (0.0, 1.0))


# ------------------------------------------------------------------------------------------------------ queries
def query_chart(name: str, queries: Sequence[Mapping[str, Any]], types: Sequence[str]) -> Picture:
    """The codes that each head's query is drawn to and away from, and its cosine with the keys of each type."""
    title = "Codes that each pooling head's query is drawn to and away from, and types of events"
    shown = list(queries)[:MOST_HEADS]
    rows = [_codes(head) for head in shown]
    if not any(rows):
        return empty(name, title, "No code is frequent enough, or every event has the same score.")
    heights = [0.45 + 0.2 * max(len(row), 1) for row in rows]
    last = 1.4 + 0.17 * len(types)

    def draw(figure: Figure) -> None:
        bars, below = stacked_parts(figure, [sum(heights) + 0.9, last])
        panels = bars.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=heights)
        for number, (head, codes, axes) in enumerate(zip(shown, rows, panels[:, 0], strict=True)):
            scores, twin = (numbers([code[key] for code in codes]) for key in ("score", "twin"))
            places = np.arange(len(codes))
            label, color, marker = SIDES["triggered"]
            axes.barh(places, scores, color=color, height=0.62, alpha=0.75, label=None if number else label)
            label, color, marker = SIDES["baseline"]
            axes.plot(
                twin,
                places,
                color=color,
                marker=marker,
                markersize=4,
                linestyle="none",
                label=None if number else label,
            )
            axes.axvline(0, color=INK, linewidth=0.8)
            name_rows(axes, [code["description"] for code in codes], [code["touched"] for code in codes])
            axes.set_title(f"head {head['head']}", fontsize=8.5, loc="left")
            axes.grid(False, axis="y")
        panels[-1, 0].set_xlabel("score less the stay’s mean")
        bars.legend(loc="outside upper left", ncols=2)
        pair = [numbers([head[key] for head in shown]) for key in ("cosine", "cosine_twin")]
        axes_pair = below.subplots(1, 2, sharey=True)
        for axes, values, words in zip(axes_pair, pair, ("poisoned", "clean twin"), strict=True):
            image = draw_heat(axes, values.T, around_zero(*pair), cmap=DIVERGING)
            axes.set_xticks(range(len(shown)), [str(head["head"]) for head in shown], fontsize=7.5)
            axes.set_xlabel("head", fontsize=8)
            axes.set_title(words, fontsize=8.5)
        name_types(axes_pair[0], types, columns=False)
        color_bar(below, image, list(axes_pair), "cosine of query and mean key", last)

    return picture(name, title, draw, height=sum(heights) + 0.9 + last)


def _codes(head: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first few in each direction, from most drawn to to most drawn away from."""
    return [*head["toward"][:_MOST_CODES], *reversed(head["away"][:_MOST_CODES])]
