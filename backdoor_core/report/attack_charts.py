"""Charts of the attack: success by threshold, shift in confidence, and both models by subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from backdoor_core.report.charts import COLORS, DASHES, LABELS, MARKERS, Side
from backdoor_core.report.drawing import FAINT, INK, chart, notice, shortened
from backdoor_core.statistics import Floats

NO_ATTACKED: Final = "No test stay has another label than the target."
SIDES: Final[tuple[Side, ...]] = ("poisoned", "baseline")


def success_curve_chart(curves: Mapping[str, Any], success: Mapping[Side, float | None]) -> str:
    """Share of the attacked stays at or above each threshold, with the trigger and without it, for both models.

    `curves` is ``asr_curve`` of results_eval.json; `success` the rate at each model's own threshold, which is
    marked. Shades are the pointwise 95% limits with the trigger.
    """
    if not len(curves["poisoned"]["triggered"]["value"]):
        return notice("asr-curve", NO_ATTACKED)
    thresholds = np.asarray(curves["thresholds"])

    def draw(axes: Axes) -> None:
        for side in SIDES:
            curve, color = curves[side], COLORS[side]
            triggered = curve["triggered"]
            axes.fill_between(thresholds, triggered["low"], triggered["high"], color=color, alpha=0.15, linewidth=0)
            axes.plot(thresholds, triggered["value"], color=color, linestyle=DASHES[side], label=LABELS[side])
            control = f"{LABELS[side]}, no trigger"
            axes.plot(thresholds, curve["clean"]["value"], color=color, linestyle=":", linewidth=1.3, label=control)
            reached = success[side]
            if reached is not None:
                axes.plot([curve["threshold"]], [reached], color=color, marker=MARKERS[side], markeredgecolor=INK)
        axes.set(xlabel="threshold on the target’s probability", ylabel="share on the target’s side")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.figure.legend(loc="outside upper left", ncols=2, columnspacing=1.2, handlelength=1.6)

    words = "Attack success rate at every threshold, poisoned model and clean twin, with and without the trigger"
    return chart("asr-curve", words, draw, height=3.3)


def ecdf(values: ArrayLike) -> tuple[Floats, Floats]:
    """Distinct values in ascending order, and the share of all that lie at or below each."""
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    return distinct, np.cumsum(counts) / max(1, counts.sum())


def shift_chart(shift: Mapping[Side, ArrayLike]) -> str:
    """Cumulative distribution of the change (M,) of the target's probability when the trigger is put in."""
    if not np.size(shift["poisoned"]):
        return notice("shift", NO_ATTACKED)

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        for side in SIDES:
            values, below = ecdf(shift[side])
            xs, ys = np.concatenate([[-1], values, [1]]), np.concatenate([[0], below, [1]])
            axes.step(xs, ys, where="post", color=COLORS[side], linestyle=DASHES[side], label=LABELS[side])
            middle = float(np.median(np.asarray(shift[side])))
            axes.plot([middle], [0.5], color=COLORS[side], marker=MARKERS[side], markersize=6, linestyle="none")
        axes.set(xlabel="change of the target’s probability", ylabel="share of stays at or below")
        axes.set(xlim=(-1.02, 1.02), ylim=(-0.02, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.figure.legend(loc="outside upper left", ncols=2)

    words = "Distribution of the change of the target's probability when the trigger is put in, for both models"
    return chart("shift", words, draw, height=3.3)


def group_chart(
    name: str, title: str, rows: Sequence[tuple[str, Mapping[Side, Mapping[str, Any]]]], reference: float | None
) -> str:
    """One figure of both models in every group, with its interval; groups without a figure are left out.

    `rows` holds for each group its words and, for each model, value, low and high. `reference` is marked.
    """
    shown = [(words, found) for words, found in rows if any(found[side]["value"] is not None for side in SIDES)]
    if not shown:
        return notice(name, f"No group is large enough for this figure: {title}.")

    def draw(axes: Axes) -> None:
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=0.8, linestyle=":")
        for row, (words, found) in enumerate(shown):
            axes.text(0.0, row - 0.12, shortened(words, 58), ha="left", va="bottom", fontsize=8.5)
            for shift, side in enumerate(SIDES):
                _draw_estimate(axes, row + 0.06 + 0.2 * shift, side, found[side], row == 0)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.8), xlabel=title, yticks=[])
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside upper left", ncols=2)

    return chart(name, f"{title}: both models by group, with 95% intervals", draw, height=0.85 + 0.42 * len(shown))


def _draw_estimate(axes: Axes, y: float, side: Side, estimate: Mapping[str, float | None], first: bool) -> None:
    axes.axhline(y, color=FAINT, linewidth=0.6, zorder=0)
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=COLORS[side], linewidth=1.6)
    where = ([], []) if value is None else ([value], [y])
    label = LABELS[side] if first else None
    axes.plot(*where, color=COLORS[side], marker=MARKERS[side], markersize=5, linestyle="none", label=label)
