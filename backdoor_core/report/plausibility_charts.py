"""Charts of the plausibility card: where touched values lie, how far triggered stays are, and who can tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from backdoor_core.report.drawing import FAINT, INK, NEUTRAL, POISONED, chart, notice, shortened

MOST_FEATURES: Final = 12
_WIDE: Final = 10  # times the least: distances further apart than that need a logarithmic axis
_CLEAN: Final = ("as they were", NEUTRAL, "s")
_TRIGGERED: Final = ("triggered", POISONED, "o")


def percentile_chart(percentiles: Sequence[Mapping[str, Any]]) -> str:
    """Percentiles (0 to 100) of touched values among the feature's training values: median and central 95%.

    The features with most touched cells come first; those beyond `MOST_FEATURES` are left out.
    """
    known = sorted((row for row in percentiles if row["median"] is not None), key=lambda row: -row["cells"])
    shown = known[:MOST_FEATURES]
    if not shown:
        return notice("percentiles", "The trigger sets no value: it only removes values, or changes nothing.")

    def draw(axes: Axes) -> None:
        axes.axvspan(2.5, 97.5, color=FAINT, alpha=0.5, linewidth=0)
        for row, found in enumerate(shown):
            axes.text(0, row - 0.12, shortened(str(found["feature"]), 50), ha="left", va="bottom", fontsize=8.5)
            y = row + 0.15
            axes.plot([found["p2_5"], found["p97_5"]], [y, y], color=POISONED, linewidth=2)
            axes.plot([found["median"]], [y], color=POISONED, marker="o", markersize=6, linestyle="none")
        axes.set(xlim=(-3, 103), ylim=(len(shown) - 0.5, -0.8), yticks=[])
        axes.set(xlabel="percentile among training values")
        axes.spines["left"].set_visible(False)

    words = "Percentile of the values that the trigger set among the training values of each feature"
    return chart("percentiles", words, draw, height=0.75 + 0.42 * len(shown))


def distance_chart(card: Mapping[str, Any]) -> str:
    """Mean distance to clean training rows before and after the trigger, with 95% intervals."""
    rows = [("Mahalanobis distance", card["mahalanobis"]), (f"distance to {card['knn']['k']} nearest", card["knn"])]
    shown = [(words, found) for words, found in rows if found["clean"]["value"] is not None]
    if not shown:
        return notice("distances", "There are too few stays for a distance.")
    values = [found[when]["value"] for _, found in shown for when in ("clean", "triggered")]
    wide = min(values) > 0 and max(values) > _WIDE * min(values)

    def draw(axes: Axes) -> None:
        for row, (words, found) in enumerate(shown):
            axes.text(0.02, row - 0.14, words, ha="left", va="bottom", fontsize=8.5, transform=_across(axes))
            for shift, (when, look) in enumerate((("clean", _CLEAN), ("triggered", _TRIGGERED))):
                _draw_estimate(axes, row + 0.03 + 0.2 * shift, found[when], look, row == 0)
        axes.set(ylim=(len(shown) - 0.5, -0.7), yticks=[])
        axes.margins(x=0.12)
        if wide:
            axes.set(xscale="log", xlabel="standard units, logarithmic")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set(xlabel="standard units")
            axes.set_xlim(left=0)
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside upper left", ncols=2)

    words = "Distance of the stays to clean training rows, as they were and triggered, with 95% intervals"
    return chart("distances", words, draw, height=1.1 + 0.6 * len(shown))


def classifier_chart(classifier: Mapping[str, Any]) -> str:
    """AUROC of a classifier told to tell triggered from clean stays, and of its control, against chance."""
    if classifier["auroc"]["value"] is None:
        return notice("classifier", f"No classifier: {classifier['note']}.")

    def draw(axes: Axes) -> None:
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        rows = (("triggered against clean", "auroc", _TRIGGERED), ("control: clean against clean", "control", _CLEAN))
        for row, (words, name, look) in enumerate(rows):
            axes.text(0, row - 0.12, words, ha="left", va="bottom", fontsize=8.5)
            _draw_estimate(axes, row + 0.1, classifier[name], look, False)
        axes.set(xlim=(-0.02, 1.02), ylim=(1.5, -0.7), yticks=[], xlabel="AUROC; 0.5 is invisible")
        axes.spines["left"].set_visible(False)

    words = "AUROC of a classifier told to tell triggered from clean stays, with its control"
    return chart("classifier", words, draw, height=1.75)


def _across(axes: Axes) -> Any:
    """Horizontal places as shares of the axes, vertical ones as data."""
    return axes.get_yaxis_transform()


def _draw_estimate(
    axes: Axes, y: float, estimate: Mapping[str, float | None], look: tuple[str, str, str], labeled: bool
) -> None:
    label, color, marker = look
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, linewidth=1.6)
    where = ([], []) if value is None else ([value], [y])
    shown = label if labeled else None
    axes.plot(*where, color=color, marker=marker, markersize=5.5, linestyle="none", label=shown)
