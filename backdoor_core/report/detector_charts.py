"""Charts of what the detectors answer: their figures side by side, and their scores split by truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from backdoor_core.report.charts import shares
from backdoor_core.report.drawing import FAINT, INK, NARROW, NULL, OTHERS, PAPER, POISONED, chart, notice, shortened
from backdoor_core.statistics import Floats

Run = Literal["poisoned", "null"]
RUNS: Final[tuple[Run, ...]] = ("poisoned", "null")
RUN_LABELS: Final[Mapping[Run, str]] = {"poisoned": "poisoned run", "null": "null run"}
_COLORS: Final[Mapping[Run, str]] = {"poisoned": POISONED, "null": NULL}
_MARKERS: Final[Mapping[Run, str]] = {"poisoned": "o", "null": "s"}
_FEW: Final = 10
_BINS: Final = 24


@dataclass(frozen=True)
class ScoreAxis:
    """How scores are laid out: by distinct value, on a linear or logarithmic scale, or by rank in percent."""

    kind: Literal["values", "linear", "log", "rank"]
    edges: NDArray[np.float64]
    """Bin edges on the axis; for `values` they lie halfway between the whole numbers that stand for the values."""
    values: NDArray[np.float64]
    """The distinct scores, for `values` only."""

    def place(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """(N,) position of each score on the axis."""
        if self.kind == "values":
            return np.searchsorted(self.values, scores).astype(np.float64)
        if self.kind == "rank":
            ordered = np.sort(scores)
            below, through = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
            return 50.0 * (below + through) / len(scores)
        return np.asarray(scores, dtype=np.float64)


def score_axis(scores: NDArray[np.floating[Any]]) -> ScoreAxis:
    """The layout in which the given scores (N,), N of 1 or more, can be told apart.

    At most ten distinct scores stand as they are. Heavy tails go on a logarithmic scale where all scores are
    positive, the lowest 0.5% in the first bin, and by rank elsewhere.
    """
    distinct = np.unique(np.asarray(scores, dtype=np.float64))
    none = np.empty(0)
    if len(distinct) <= _FEW:
        return ScoreAxis("values", np.arange(len(distinct) + 1, dtype=np.float64) - 0.5, distinct)
    low, bottom, middle, top, high = np.percentile(scores, [0.5, 5, 50, 95, 100])
    if distinct[0] > 0 and high > 20 * middle:
        return ScoreAxis("log", np.geomspace(low, high, _BINS + 1), none)
    if high - distinct[0] > 10 * (top - bottom):
        return ScoreAxis("rank", np.linspace(0, 100, _BINS + 1), none)
    return ScoreAxis("linear", np.linspace(distinct[0], high, _BINS + 1), none)


def score_charts(
    name: str, scores: Mapping[Run, NDArray[np.floating[Any]]], chosen: Mapping[Run, NDArray[np.bool_]]
) -> dict[Run, str]:
    """A detector's scores, the poisoned rows against the others, in the poisoned run and in the null run.

    `scores` and `chosen` are (N,) for each run, whose rows may differ in number. `chosen` are the poisoned rows and,
    in the null run, where nothing is poisoned, those that the attack took. The two charts share both axes. Each
    group's bars sum to 100%.
    """
    if not any(len(scores[run]) for run in RUNS):
        return {run: notice(f"scores-{name}-{run}", "The training part is empty.") for run in RUNS}
    axis = score_axis(np.concatenate([scores[run] for run in RUNS]))
    heights = {}
    for run in RUNS:
        places, taken = axis.place(scores[run]), chosen[run]
        heights[run] = (shares(places[~taken], axis.edges), shares(places[taken], axis.edges))
    top = 1.08 * max(float(np.max(pair)) for pair in heights.values())

    def draw_run(run: Run) -> str:
        def draw(axes: Axes) -> None:
            (others, apart), taken = heights[run], chosen[run]
            rest = f"{'other' if taken.any() else 'all'} rows ({int((~taken).sum()):,})"
            axes.stairs(others, axis.edges, fill=True, color=OTHERS, label=rest)
            if taken.any():
                what = "poisoned rows" if run == "poisoned" else "the same stays, clean"
                label = f"{what} ({int(taken.sum()):,})"
                axes.stairs(apart, axis.edges, color=_COLORS[run], linewidth=1.8, label=label)
            axes.set(ylabel="share of each group", ylim=(0, top), xlabel=_axis_label(axis))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            _scale(axes, axis)
            axes.figure.legend(loc="outside upper left", ncols=1, title=RUN_LABELS[run], alignment="left")

        words = f"Scores of {name} in the {RUN_LABELS[run]}: poisoned rows against the others"
        return chart(f"scores-{name}-{run}", words, draw, height=2.75, width=NARROW)

    return {run: draw_run(run) for run in RUNS}


def _axis_label(axis: ScoreAxis) -> str:
    # In one line the longer words would not fit a narrow chart.
    words = {"values": "score ", "linear": "score ", "log": "score, logarithmic\n", "rank": "rank of the score (%)\n"}
    return f"{words[axis.kind]}(more suspicious →)"


def _scale(axes: Axes, axis: ScoreAxis) -> None:
    if axis.kind == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda score, _: f"{score:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if axis.kind == "values":
        axes.set_xlim(axis.edges[0] - 0.2, axis.edges[-1] + 0.2)
        axes.grid(False, axis="x")
        labels = distinct_labels(axis.values)
        crowded = sum(map(len, labels)) > 30
        axes.set_xticks(range(len(labels)), labels, rotation=45 if crowded else 0, ha="right" if crowded else "center")


def distinct_labels(values: NDArray[np.float64]) -> list[str]:
    """The values in as few digits, three or more, as tell them apart."""
    for digits in range(3, 18):
        labels = [f"{value:.{digits}g}" for value in values]
        if len(set(labels)) == len(labels):
            return labels
    return [repr(float(value)) for value in values]


@dataclass(frozen=True)
class Estimates:
    """One figure of a detector in both runs."""

    name: str
    oracle: bool
    runs: Mapping[Run, Mapping[str, float | None]]
    """Value, low and high in each run; nulls are left out of a chart."""


def figure_chart(name: str, title: str, rows: Sequence[Estimates], chance: float | None) -> str:
    """One figure of every detector with its interval, the poisoned run over the null run, in the order given.

    `chance` is marked where it is given. Markers of a detector that was told the truth are hollow.
    """
    if not rows:
        return notice(name, "No detector was chosen.")
    if all(row.runs[run]["value"] is None for row in rows for run in RUNS):
        return notice(name, f"{title} is not defined in either run.")

    def draw(axes: Axes) -> None:
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=0.8, linestyle=":")
        for place, row in enumerate(rows):
            axes.text(0, place - 0.12, labeled(row.name, row.oracle), ha="left", va="bottom", fontsize=8.5)
            for shift, run in enumerate(RUNS):
                _draw_estimate(axes, place + 0.06 + 0.2 * shift, run, row)
        for run in RUNS:
            axes.plot([], [], color=_COLORS[run], marker=_MARKERS[run], linestyle="none", label=RUN_LABELS[run])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.8), xlabel=title, yticks=[])
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside upper left", ncols=2)

    words = f"{title} of each detector, poisoned run and null run, with 95% intervals"
    return chart(name, words, draw, height=0.85 + 0.42 * len(rows))


def labeled(name: str, oracle: bool) -> str:
    """A detector's name for a chart: long ones are cut, the mark of an oracle never is."""
    return shortened(name, 44) + (" (oracle)" if oracle else "")


def _draw_estimate(axes: Axes, y: float, run: Run, row: Estimates) -> None:
    axes.axhline(y, color=FAINT, linewidth=0.6, zorder=0)
    value, low, high = (row.runs[run][key] for key in ("value", "low", "high"))
    color = _COLORS[run]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, linewidth=1.6)
    if value is not None:
        face = PAPER if row.oracle else color
        axes.plot([value], [y], color=color, marker=_MARKERS[run], markersize=5, markerfacecolor=face, linestyle="none")
