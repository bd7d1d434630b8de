"""Charts of the two models and of the cohort: arrays to inline SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from backdoor_core.report.drawing import FAINT, INK, NEUTRAL, OTHERS, POISONED, TWIN, chart, notice
from backdoor_core.statistics import Floats, as_flags, as_numbers

Side = Literal["poisoned", "baseline"]
LABELS: Final[Mapping[Side, str]] = {"poisoned": "poisoned model", "baseline": "clean twin"}
COLORS: Final[Mapping[Side, str]] = {"poisoned": POISONED, "baseline": TWIN}
# A second cue beside color.
DASHES: Final[Mapping[Side, str]] = {"poisoned": "-", "baseline": "--"}
MARKERS: Final[Mapping[Side, str]] = {"poisoned": "o", "baseline": "s"}
_ONE_OUTCOME: Final = "The test part holds one outcome only: there is no curve."


# ------------------------------------------------------------------------------------------------------ points
def _cumulated(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """True and other rows at or above each distinct score, highest first."""
    flags = as_flags(truth, "truth")
    values = as_numbers(scores, "scores", len(flags))
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.flatnonzero(np.append(values[order][1:] != values[order][:-1], True))
    true = np.cumsum(flags[order])[last_of_tie].astype(np.float64)
    return true, last_of_tie + 1 - true


def roc_points(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rate at each distinct threshold, from (0, 0) to (1, 1); ties make a slope."""
    true, other = _cumulated(scores, truth)
    return np.append(0.0, other / other[-1]), np.append(0.0, true / true[-1])


def precision_recall_points(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """Recall and precision at each distinct threshold, highest first."""
    true, other = _cumulated(scores, truth)
    return true / true[-1], true / (true + other)


def _both_outcomes(truth: ArrayLike) -> bool:
    return len(np.unique(as_flags(truth, "truth"))) == 2


# ---------------------------------------------------------------------------------------------- the two models
def roc_chart(truth: ArrayLike, probability: Mapping[Side, ArrayLike]) -> str:
    """ROC of both models on the clean test part; `truth` (N,), `probability` (N,) of label 1."""
    if not _both_outcomes(truth):
        return notice("roc", _ONE_OUTCOME)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="chance")
        for side, values in probability.items():
            axes.plot(*roc_points(values, truth), color=COLORS[side], linestyle=DASHES[side], label=LABELS[side])
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_aspect("equal")
        axes.legend(loc="lower right")

    return chart("roc", "ROC curves of the poisoned model and its clean twin on the clean test part", draw, 3.6)


def precision_recall_chart(truth: ArrayLike, probability: Mapping[Side, ArrayLike]) -> str:
    """Precision against recall of both models on the clean test part, with the prevalence as chance."""
    if not _both_outcomes(truth):
        return notice("precision-recall", _ONE_OUTCOME)
    prevalence = float(as_flags(truth, "truth").mean())

    def draw(axes: Axes) -> None:
        axes.axhline(prevalence, color=INK, linewidth=0.8, linestyle=":", label="chance (prevalence)")
        for side, values in probability.items():
            recall, precision = precision_recall_points(values, truth)
            # Between two thresholds the precision is that of the later one: average precision adds these steps.
            axes.step(
                np.append(0.0, recall),
                np.append(precision[0], precision),
                where="pre",
                color=COLORS[side],
                linestyle=DASHES[side],
                label=LABELS[side],
            )
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_aspect("equal")
        axes.legend(loc="upper right")

    return chart("precision-recall", "Precision-recall curves of both models on the clean test part", draw, 3.6)


def calibration_chart(bins: Mapping[Side, Sequence[Mapping[str, Any]]]) -> str:
    """Reliability diagram of both models: observed share against mean probability, 95% Wilson intervals as bars.

    `bins` is `learning.performance.reliability` for each model. The axis tells how many stays a bin holds.
    """

    def draw(axes: Axes) -> None:
        top = min(1.0, 1.05 * max(max(b["mean"], b["high"]) for held in bins.values() for b in held) + 0.01)
        axes.plot([0, top], [0, top], color=INK, linewidth=0.8, linestyle=":", label="perfect")
        for side, held in bins.items():
            mean, rate = np.array([b["mean"] for b in held]), np.array([b["rate"] for b in held])
            low, high = np.array([b["low"] for b in held]), np.array([b["high"] for b in held])
            axes.vlines(mean, low, high, color=COLORS[side], linewidth=1, linestyle=DASHES[side], alpha=0.7)
            axes.plot(
                mean,
                rate,
                color=COLORS[side],
                label=LABELS[side],
                linestyle=DASHES[side],
                marker=MARKERS[side],
                markersize=4.5,
                linewidth=1.2,
            )
        axes.set(xlabel=f"mean predicted probability of label 1\n{_held(bins)}", ylabel="observed share of label 1")
        axes.set(xlim=(-0.02 * top, 1.02 * top), ylim=(-0.02 * top, 1.02 * top))
        axes.set_aspect("equal")
        axes.legend(loc="lower right")

    words = "Reliability of both models on the clean test part: equal-mass bins with 95% intervals"
    return chart("calibration", words, draw, 3.8)


def _held(bins: Mapping[Side, Sequence[Mapping[str, Any]]]) -> str:
    """How many bins there are and how many stays each holds."""
    stays = sorted({b["stays"] for held in bins.values() for b in held})
    counts = sorted({len(held) for held in bins.values()})
    each = f"{stays[0]:,}" if len(stays) == 1 else f"{stays[0]:,} to {stays[-1]:,}"
    return f"{' and '.join(map(str, counts))} bin{'s' if counts[-1] > 1 else ''} of {each} stays"


def shares(values: ArrayLike, edges: NDArray[np.floating[Any]]) -> Floats:
    """Share of the values in each bin, values beyond the edges in the outer bins; zeros where there is none."""
    numbers = np.clip(np.asarray(values, dtype=np.float64), edges[0], edges[-1])
    counts = np.histogram(numbers, bins=edges)[0]
    return counts / max(len(numbers), 1)


def response_charts(
    clean: Mapping[Side, Floats], triggered: Mapping[Side, Floats], threshold: Mapping[Side, float]
) -> dict[Side, str]:
    """Probability of the target on the attacked test stays, with and without the trigger: one chart per model.

    All arrays (M,) hold the probability of the target label; `threshold` is the one of the target's side. The
    charts share both axes.
    """
    edges = np.linspace(0, 1, 26)
    pairs = {side: (shares(clean[side], edges), shares(triggered[side], edges)) for side in triggered}
    top = 1.08 * max(float(np.max(pair)) for pair in pairs.values()) or 1.0

    def draw_side(side: Side) -> str:
        if not len(triggered[side]):
            return notice(f"response-{side}", "No test stay has another label than the target.")

        def draw(axes: Axes) -> None:
            without, with_trigger = pairs[side]
            axes.stairs(without, edges, fill=True, color=OTHERS, label="without trigger")
            axes.stairs(with_trigger, edges, color=COLORS[side], linewidth=1.8, label="with trigger")
            axes.axvline(threshold[side], color=INK, linewidth=1, linestyle=":", label="decision threshold")
            axes.set(xlabel="probability of the target label", ylabel="share of attacked test stays")
            axes.set(xlim=(-0.01, 1.01), ylim=(0, top))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.figure.legend(loc="outside upper left", ncols=1)

        words = f"Probability of the target label from the {LABELS[side]}, with and without the trigger"
        return chart(f"response-{side}", words, draw, height=3.3)

    return {side: draw_side(side) for side in triggered}


def learning_chart(curves: Mapping[Side, NDArray[np.floating[Any]]], best_epoch: Mapping[Side, int]) -> str:
    """Loss against epoch; each curve is (epochs, 3 or more) of epoch, training and validation loss."""

    def draw(axes: Axes) -> None:
        for side, curve in curves.items():
            color, best = COLORS[side], curve[curve[:, 0] == best_epoch[side]]
            thin = {"linewidth": 1.1, "linestyle": ":"}
            axes.plot(curve[:, 0], curve[:, 1], color=color, label=f"{LABELS[side]}, training", **thin)  # type: ignore[arg-type]
            axes.plot(
                curve[:, 0], curve[:, 2], color=color, linestyle=DASHES[side], label=f"{LABELS[side]}, validation"
            )
            axes.plot(best[:, 0], best[:, 2], color=color, marker=MARKERS[side], linestyle="none")
        axes.set(xlabel="epoch", ylabel="mean cross-entropy per stay (nats)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.figure.legend(loc="outside upper left", ncols=1)

    return chart("learning", "Learning curves of both models; a marker stands at the epoch that was kept", draw, 3.7)


# -------------------------------------------------------------------------------------------------- the cohort
def attrition_chart(steps: Sequence[Mapping[str, Any]]) -> str:
    """Bars of the stays left after each rule with the number removed; each step has `rule` and `stays`."""
    if not steps:
        return notice("attrition", "The cohort's source tells no inclusion steps.")
    stays = [int(step["stays"]) for step in steps]
    rules = [textwrap.wrap(str(step["rule"]), 52, max_lines=2, placeholder=" …") or ["–"] for step in steps]

    def draw(axes: Axes) -> None:
        for row, (left, before, lines) in enumerate(zip(stays, [stays[0], *stays[:-1]], rules, strict=True)):
            axes.barh(row, before, height=0.3, color=FAINT)
            axes.barh(row, left, height=0.3, color=NEUTRAL)
            axes.text(0, row - 0.22, "\n".join(lines), ha="left", va="bottom", fontsize=8.5)
            removed = "" if row == 0 else f", {before - left:,} removed" if left < before else ", none removed"
            axes.text(0, row + 0.19, f"{left:,} stays{removed}", ha="left", va="top", fontsize=8.5)
        axes.set(xlim=(0, max(stays[0], 1)), ylim=(len(stays) - 0.4, -0.75))
        axes.set_axis_off()

    words = "; ".join(f"{step['rule']}: {count:,} stays left" for step, count in zip(steps, stays, strict=True))
    return chart("attrition", f"Inclusion, step by step. {words}", draw, height=0.2 + 0.68 * len(steps))
