"""The figures of a sweep as files: attack, lift, clean performance and detection against the poisoning rate."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from backdoor_core.report.drawing import FAINT, INK, NEUTRAL, NULL, POISONED, TWIN, Picture, picture
from backdoor_core.report.explain_charts import empty

MOST_SERIES: Final = 24
"""Series that a figure shows, the first of the grid; the page of the sweep shows all."""
_COLUMNS: Final = 3
_PANEL: Final = (2.7, 2.1)
"""Inches of one panel, width and height."""
_TICKS: Final = 6
# Okabe and Ito's palette once more; where it is used up, the marker tells detectors apart.
_COLORS: Final = (POISONED, TWIN, NULL, "#cc79a7", "#e69f00", "#56b4e9", NEUTRAL)
_MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">", "p")
_DETECTOR: Final = re.compile(r"detect\.(.+)(?<!\.null)\.tpr_at_1_fpr")
_CLEAN: Final = {"auroc": "AUROC", "auprc": "AUPRC", "ece": "ECE"}
_NO_CELL: Final = "No cell is done: there is nothing to draw."
_RATE: Final = "poisoned share of the training stays"
_BAND: Final = "clean retrains (null): middle 95%"

_POISONED: Final = {"color": POISONED, "marker": "o", "markersize": 4, "linewidth": 1.4}
_TWIN: Final = {"color": TWIN, "marker": "s", "markersize": 4, "linewidth": 1.4, "linestyle": "--"}
_OF_NULL: Final[Mapping[str, Any]] = {"linewidth": 1.0, "linestyle": "--"}

Look = Mapping[str, Any]
"""Keyword arguments of a matplotlib line."""
Group = Mapping[str, Any]
Floats = NDArray[np.float64]
DrawPanel = Callable[[Axes, "Series"], None]


@dataclass(frozen=True)
class Series:
    """Groups of one model, trigger and set of parameters, by ascending rate."""

    name: str
    groups: tuple[Group, ...]

    def metric(self, name: str) -> Floats:
        """(groups, 3) mean and t-interval over seeds, NaN where there is none."""
        found = [group["metrics"].get(name) or {} for group in self.groups]
        return np.array([[metric.get(key) for key in ("mean", "t_low", "t_high")] for metric in found], dtype=float)

    @property
    def null_asr(self) -> Floats:
        """(groups, 2) middle 95% of the ASR of clean retrains, NaN where there is none."""
        return np.array([[group["null_asr"][key] for key in ("low", "high")] for group in self.groups], dtype=float)

    @property
    def null_lift(self) -> Floats:
        """(groups, 2) middle 95% of the lift of clean retrains, NaN where there is none."""
        return np.array([[group["null_lift"][key] for key in ("low", "high")] for group in self.groups], dtype=float)


class RateAxis:
    """Places of poisoning rates: their logarithm, and for 0 a place of its own at the left."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = sorted(set(rates))
        positive = np.log10([rate for rate in self.rates if rate > 0])
        spread = float(positive[-1] - positive[0]) if len(positive) else 0.0
        self.step = spread / max(len(positive) - 1, 1) or 0.5
        self.zero = (float(positive[0]) if len(positive) else 0.0) - self.step
        self.ends = (
            self.zero if 0 in self.rates else float(positive[0]),
            float(positive[-1]) if len(positive) else self.zero,
        )

    def at(self, rates: Sequence[float]) -> Floats:
        """(n,) places."""
        return np.array([np.log10(rate) if rate > 0 else self.zero for rate in rates])

    def draw(self, axes: Axes) -> None:
        """Ticks, limits and label."""
        skipped = -(-len(self.rates) // _TICKS)
        shown = self.rates[::-1][::skipped][::-1]
        if 0 in self.rates:
            shown = [0.0, *(rate for rate in shown if rate > 0)]
            if len(self.rates) > 1:
                axes.axvline(self.zero + 0.5 * self.step, color=FAINT, linewidth=1.2, linestyle=":")
        axes.set_xticks(self.at(shown), [f"{100 * rate:.3g}%" if rate else "0" for rate in shown], fontsize=8)
        axes.set_xlim(self.ends[0] - 0.35 * self.step, self.ends[1] + 0.35 * self.step)
        axes.grid(False, axis="x")


def sweep_figures(aggregated: Mapping[str, Any]) -> dict[str, Picture]:
    """Figures by the names of their files, from the content of aggregated_metrics.json. Equal content, equal bytes.

    ``attack_success``, ``lift``, ``clean_performance`` and ``detector_tpr``, each with a panel for every model, trigger
    and set of parameters, of which the first `MOST_SERIES` are shown. Intervals are 95% t-intervals over seeds.
    """
    series = _series(aggregated["groups"])
    shown, detectors = series[:MOST_SERIES], _detectors(aggregated["groups"])
    some = "" if len(series) <= MOST_SERIES else f"; the first {MOST_SERIES} of {len(series)} combinations"
    over = f"against the poisoning rate, with 95% t-intervals over seeds{some}"
    titles = {
        "attack_success": f"Attack success rate of poisoned model and clean twin {over}",
        "lift": f"ASR lift of the poisoned model over its clean twin {over}",
        "clean_performance": f"Clean performance of poisoned model and clean twin {over}",
        "detector_tpr": f"True positive rate of the detectors at 1% false positives {over}; dashed: their null runs",
    }
    if not shown:
        return {name: empty(name, title, _NO_CELL) for name, title in titles.items()}
    rate = RateAxis([group["rate"] for one in shown for group in one.groups])
    limits = _lift_limits(shown)
    found = {
        "attack_success": _panels("attack_success", titles, shown, rate, "ASR", _attack(rate)),
        "lift": _panels("lift", titles, shown, rate, "ASR lift", _lift(rate, limits)),
        "clean_performance": _performance("clean_performance", titles["clean_performance"], shown, rate),
    }
    reason = _no_detection(shown, detectors)
    if reason:
        return {**found, "detector_tpr": empty("detector_tpr", titles["detector_tpr"], reason)}
    drawn = _panels(
        "detector_tpr", titles, shown, rate, "TPR at 1% FPR", _detection(rate, detectors), len(detectors) + 1
    )
    return {**found, "detector_tpr": drawn}


def _series(groups: Sequence[Group]) -> list[Series]:
    """Those with a finished cell, in the order of the grid."""
    together: dict[str, list[Group]] = {}
    for group in groups:
        varied = [f"{key}={value}" for key, value in group["parameters"].items()]
        if group["seeds"]:
            together.setdefault(", ".join([group["model"], group["trigger"], *varied]), []).append(group)
    return [Series(name, tuple(sorted(of, key=lambda group: group["rate"]))) for name, of in together.items()]


def _detectors(groups: Sequence[Group]) -> dict[str, str]:
    """What every detector is called in the legend, in the order in which they first come."""
    found: dict[str, str] = {}
    for group in groups:
        for name in (match[1] for metric in group["metrics"] if (match := _DETECTOR.fullmatch(metric))):
            told = (group["metrics"].get(f"detect.{name}.oracle") or {}).get("mean") == 1
            found[name] = f"{name} (oracle)" if told else found.get(name, name)
    return found


def _no_detection(series: Sequence[Series], detectors: Mapping[str, str]) -> str | None:
    if not detectors:
        return "No detector ran."
    known = any(np.isfinite(one.metric(f"detect.{name}.tpr_at_1_fpr")).any() for one in series for name in detectors)
    return None if known else "Nothing was poisoned: there is no true positive rate."


# ------------------------------------------------------------------------------------------------------- panels
def _panels(
    name: str,
    titles: Mapping[str, str],
    series: Sequence[Series],
    rate: RateAxis,
    label: str,
    draw_panel: DrawPanel,
    entries: int = 3,
) -> Picture:
    """A panel for each of the series, which share both axes; the legend, of some `entries`, above them."""
    columns = 2 if len(series) == 4 else min(len(series), _COLUMNS)
    rows = -(-len(series) // columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place >= len(series):
                axes.set_axis_off()
                continue
            draw_panel(axes, series[place])
            rate.draw(axes)
            axes.set_title(
                "\n".join(textwrap.wrap(series[place].name, 38, max_lines=2, placeholder=" …")), fontsize=8.5
            )
            axes.tick_params(labelbottom=True)
            if place % columns == 0:
                axes.set_ylabel(label)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.supxlabel(_RATE, fontsize=8)
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=8)

    height = 0.7 + _PANEL[1] * rows + 0.18 * -(-entries // columns)
    return picture(name, titles[name], draw, height, max(_PANEL[0] * columns + 0.4, 3.9))


def _attack(rate: RateAxis) -> DrawPanel:
    def draw(axes: Axes, series: Series) -> None:
        twin = series.metric("asr_baseline")
        _band(axes, rate, series, series.null_asr)
        _line(axes, rate, series, twin, _TWIN, "clean twin", -0.04)
        _line(axes, rate, series, series.metric("asr"), _POISONED, "poisoned model", 0.04)
        axes.set_ylim(-0.04, 1.04)

    return draw


def _lift(rate: RateAxis, limits: tuple[float, float]) -> DrawPanel:
    def draw(axes: Axes, series: Series) -> None:
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        _band(axes, rate, series, series.null_lift)
        for place, group in zip(rate.at([g["rate"] for g in series.groups]), series.groups, strict=True):
            values = group["null_lift"]["values"]
            axes.plot([place] * len(values), values, color=NULL, marker=".", markersize=3, linestyle="none", alpha=0.6)
        _line(axes, rate, series, series.metric("asr_lift"), _POISONED, "poisoned model less twin")
        axes.set_ylim(*limits)

    return draw


def _lift_limits(series: Sequence[Series]) -> tuple[float, float]:
    nulls = [value for one in series for group in one.groups for value in group["null_lift"]["values"]]
    values = np.concatenate([nulls, *(one.metric("asr_lift").ravel() for one in series)])
    # An interval of two seeds may be wider than all lifts there are.
    known = np.clip(values[np.isfinite(values)], -1.0, 1.0)
    low, high = float(known.min(initial=0.0)), float(known.max(initial=0.1))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _detection(rate: RateAxis, detectors: Mapping[str, str]) -> DrawPanel:
    def draw(axes: Axes, series: Series) -> None:
        for place, (name, label) in enumerate(detectors.items()):
            color = _COLORS[place % len(_COLORS)]
            shape: Look = {"color": color, "marker": _MARKERS[place % len(_MARKERS)], "markersize": 4, "linewidth": 1.4}
            null, found = (series.metric(f"detect.{name}.{run}tpr_at_1_fpr") for run in ("null.", ""))
            null[:, 1:] = np.nan
            dodge = 0.2 * ((place + 0.5) / len(detectors) - 0.5)
            _line(axes, rate, series, null, {"color": color, **_OF_NULL}, dodge=dodge)
            _line(axes, rate, series, found, shape, label, dodge)
        axes.plot([], [], label="dashed: their null runs", **{"color": NEUTRAL, **_OF_NULL})
        axes.set_ylim(-0.04, 1.04)

    return draw


def _performance(name: str, title: str, series: Sequence[Series], rate: RateAxis) -> Picture:
    """A row for each of the series and a column for each figure, which share their axes down the columns."""

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(series), len(_CLEAN), squeeze=False, sharex=True, sharey="col")
        for row, one in zip(grid, series, strict=True):
            for axes, (metric, label) in zip(row, _CLEAN.items(), strict=True):
                _line(axes, rate, one, one.metric(f"{metric}.baseline"), _TWIN, "clean twin", -0.04)
                _line(axes, rate, one, one.metric(metric), _POISONED, "poisoned model", 0.04)
                rate.draw(axes)
                axes.set_ylabel(label)
                axes.yaxis.set_major_locator(MaxNLocator(4))
            row[1].set_title("\n".join(textwrap.wrap(one.name, 80)), fontsize=8.5)
        figure.supxlabel(_RATE, fontsize=8)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=8)

    return picture(name, title, draw, 0.75 + 1.8 * len(series), 2.7 * len(_CLEAN))


# -------------------------------------------------------------------------------------------------------- marks
def _line(
    axes: Axes, rate: RateAxis, series: Series, found: Floats, look: Look, label: str | None = None, dodge: float = 0.0
) -> None:
    """Means along the rate with their intervals, broken between 0 and the others; (groups, 3).

    `dodge`, a share of the distance between rates, keeps intervals apart.
    """
    rates = np.array([group["rate"] for group in series.groups], dtype=float)
    places = rate.at(rates.tolist()) + dodge * rate.step
    for part in (rates == 0, rates > 0):
        known = part & np.isfinite(found[:, 0])
        axes.plot(places[known], found[known, 0], **look)
    sure = np.isfinite(found).all(axis=1)
    axes.vlines(places[sure], found[sure, 1], found[sure, 2], color=look["color"], linewidth=1.0)
    axes.plot([], [], **look, label=label)


def _band(axes: Axes, rate: RateAxis, series: Series, limits: Floats) -> None:
    """What clean retrains do by chance: (groups, 2) low and high; level on both sides of a rate that stands alone."""
    rates = np.array([group["rate"] for group in series.groups], dtype=float)
    look: dict[str, Any] = {"color": NULL, "alpha": 0.25, "linewidth": 0}
    for part in (rates == 0, rates > 0):
        known = part & np.isfinite(limits).all(axis=1)
        places, ends = rate.at(rates[known].tolist()), limits[known]
        if len(places) == 1:
            places, ends = places + 0.2 * rate.step * np.array([-1, 1]), np.repeat(ends, 2, axis=0)
        axes.fill_between(places, ends[:, 0], ends[:, 1], **look)
    axes.fill_between([], [], [], **look, label=_BAND)
