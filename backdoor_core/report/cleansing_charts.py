"""Charts of cleansing: what a filter leaves of the attack, and of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from backdoor_core.report.detector_charts import labeled
from backdoor_core.report.drawing import FAINT, INK, NEUTRAL, PAPER, POISONED, TWIN, chart, notice

Estimate = Mapping[str, float | None]


@dataclass(frozen=True)
class Outcome:
    """One figure of the model after a filter or a repair; estimates have value, low and high."""

    name: str
    oracle: bool
    after: Estimate
    control: Estimate | None
    """After removing as many stays at random; None for perfect removal and for repairs, which remove none."""


def outcome_chart(name: str, title: str, outcomes: Sequence[Outcome], undefended: Estimate, twin: float | None) -> str:
    """One figure after each filter, its random control and each repair, beside the undefended model and the twin.

    Figures that are not defined are left out. Markers of a filter that was told the truth are hollow.
    """
    if not outcomes:
        return notice(name, "No filter removes anything.")
    if all(outcome.after["value"] is None for outcome in outcomes):
        return notice(name, f"{title} is not defined after any filter.")

    def draw(axes: Axes) -> None:
        _draw_references(axes, undefended, twin)
        across = axes.get_yaxis_transform()
        for row, outcome in enumerate(outcomes):
            words = labeled(outcome.name, outcome.oracle)
            axes.text(0.01, row - 0.12, words, ha="left", va="bottom", fontsize=8.5, transform=across)
            face = PAPER if outcome.oracle else INK
            _draw_estimate(axes, row + 0.06, outcome.after, INK, "o", face)
            if outcome.control is not None:
                _draw_estimate(axes, row + 0.26, outcome.control, NEUTRAL, "s", NEUTRAL)
        axes.plot([], [], color=INK, marker="o", linestyle="none", label="filter or repair")
        axes.plot([], [], color=NEUTRAL, marker="s", linestyle="none", label="as many at random")
        axes.margins(x=0.06)
        axes.set(ylim=(len(outcomes) - 0.4, -0.8), xlabel=title, yticks=[])
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside upper left", ncols=2)

    words = f"{title} after each filter and repair, and after removing as many stays at random, with 95% intervals"
    return chart(name, words, draw, height=1.05 + 0.42 * len(outcomes))


def _draw_references(axes: Axes, undefended: Estimate, twin: float | None) -> None:
    value, low, high = undefended["value"], undefended["low"], undefended["high"]
    if low is not None and high is not None:
        axes.axvspan(low, high, color=POISONED, alpha=0.13, linewidth=0)
    if value is not None:
        axes.axvline(value, color=POISONED, linewidth=1.3, label="undefended")
    if twin is not None:
        axes.axvline(twin, color=TWIN, linewidth=1.3, linestyle="--", label="clean twin")


def _draw_estimate(axes: Axes, y: float, estimate: Estimate, color: str, marker: str, face: str) -> None:
    axes.axhline(y, color=FAINT, linewidth=0.6, zorder=0)
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, linewidth=1.6)
    if value is not None:
        axes.plot([value], [y], color=color, marker=marker, markersize=5, markerfacecolor=face, linestyle="none")
