"""The figure of the stage `leakage`: losses, ROC, leak by epoch, and leak against use, by recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from backdoor_core.report.drawing import NEUTRAL, NULL, OTHERS, POISONED, TWIN, Picture, picture

COLORS: Final = {"baseline": POISONED, "regularized": TWIN, "dp": NULL}
_MARKS: Final = {"baseline": "o", "regularized": "s", "dp": "D"}
_BINS: Final = 40

Losses = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
"""By recipe: NLL of the audited notes of all seeds, and whether each is a member's."""


def shown_audit(results: Mapping[str, Any]) -> str | None:
    """The audit that the figure shows: the first that is no control."""
    recipe = next(iter(results["recipes"].values()))
    return next((name for name, found in recipe["audits"].items() if not found["control"]), None)


def comparison_plots(results: Mapping[str, Any], losses: Losses) -> Picture:
    """All panels as one figure."""
    audit = shown_audit(results)

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(2, 6)
        span = 6 // len(losses)
        for place, (recipe, (loss, member)) in enumerate(losses.items()):
            axes = figure.add_subplot(grid[0, place * span : (place + 1) * span])
            _distributions(axes, recipe, loss, member)
        panels = [figure.add_subplot(grid[1, 2 * place : 2 * place + 2]) for place in range(3)]
        _roc(panels[0], results, audit)
        _epochs(panels[1], results)
        _trade(panels[2], results, audit)

    said = (
        f"NLL of members and non-members, ROC curve of {audit}, AUC by epoch, and AUC against held-out NLL, by recipe"
    )
    return picture("comparison_plots", said, draw, height=6.0, width=10.0)


def _distributions(axes: Axes, recipe: str, loss: NDArray[Any], member: NDArray[Any]) -> None:
    edges = np.histogram_bin_edges(loss, _BINS).tolist()
    axes.hist(loss[~member], edges, density=True, color=OTHERS, label="non-members")
    axes.hist(loss[member], edges, density=True, histtype="step", color=COLORS[recipe], linewidth=1.7, label="members")
    axes.set(title=recipe, xlabel="NLL of a note (nats a token)", yticks=[])
    axes.legend()


def _roc(axes: Axes, results: Mapping[str, Any], audit: str | None) -> None:
    smallest = 1.0
    for recipe, found in results["recipes"].items():
        if audit is None or not found["audits"][audit]["roc"]:
            continue
        curve, band = found["audits"][audit]["roc"], found["audits"][audit]["band"]
        smallest = min(smallest, curve[0]["fpr"])
        rates = [point["fpr"] for point in curve]
        axes.plot(
            rates, [p["tpr"] or np.nan for p in curve], color=COLORS[recipe], label=recipe, drawstyle="steps-post"
        )
        sure = [point for point in band if point["low"] is not None]
        low, high = ([max(point[end], smallest / 10) for point in sure] for end in ("low", "high"))
        axes.fill_between([p["fpr"] for p in sure], low, high, color=COLORS[recipe], alpha=0.15, linewidth=0)
    axes.plot([smallest, 1], [smallest, 1], color=NEUTRAL, linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1.05), title=f"ROC, {audit}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
        axis.set_minor_formatter(NullFormatter())
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")


def _epochs(axes: Axes, results: Mapping[str, Any]) -> None:
    for recipe, found in results["recipes"].items():
        points = [point for point in found["curve"] if point["auc"]["low"] is not None]
        epochs = [point["epoch"] for point in points]
        value, low, high = ([point["auc"][key] for point in points] for key in ("value", "low", "high"))
        axes.plot(epochs, value, color=COLORS[recipe], marker=_MARKS[recipe], markersize=3.5, label=recipe)
        axes.fill_between(epochs, low, high, color=COLORS[recipe], alpha=0.15, linewidth=0)
    axes.axhline(0.5, color=NEUTRAL, linestyle=":", linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title="Leak by epoch", xlabel="epoch", ylabel="AUC of the NLL")
    axes.legend()


def _trade(axes: Axes, results: Mapping[str, Any], audit: str | None) -> None:
    for recipe, found in results["recipes"].items():
        if audit is None or (leak := found["audits"][audit]["auc"])["low"] is None:
            continue
        use, curve = found["utility"]["held_out_nll"], found["curve"][1:]
        course = [point["held_out_nll"] for point in curve], [point["auc"]["value"] for point in curve]
        axes.plot(*course, color=COLORS[recipe], alpha=0.4, linewidth=1)
        across, up = ([[f["value"] - f["low"]], [f["high"] - f["value"]]] for f in (use, leak))
        axes.errorbar(
            use["value"], leak["value"], up, across, _MARKS[recipe], color=COLORS[recipe], capsize=2, label=recipe
        )
    axes.axhline(0.5, color=NEUTRAL, linestyle=":", linewidth=1)
    axes.set(title="Leak against use", xlabel="held-out NLL", ylabel=f"AUC of {audit}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
