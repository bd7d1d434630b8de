"""Charts of what the models leak: AUC by audit, and ROC curves on two logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from backdoor_core.report.drawing import INK, NEUTRAL, POISONED, TWIN, chart, shortened

SIDES: Final = {"poisoned": ("poisoned model", POISONED, "o"), "baseline": ("clean twin", TWIN, "s")}
_STYLES: Final = ("-", "--", "-.", ":")
_MOST_CURVES: Final = 4
_NAME: Final = 40
_LABEL: Final = 20


def auc_chart(audits: Mapping[str, Any]) -> str:
    """AUC of every audit in both models with intervals; dotted: a coin."""

    def draw(axes: Axes) -> None:
        for row, (name, found) in enumerate(audits.items()):
            words = f"{name} (control)" if found["control"] else name
            axes.text(0.0, row - 0.14, shortened(words, _NAME), ha="left", va="bottom", fontsize=8.5)
            for shift, (side, (label, color, marker)) in enumerate(SIDES.items()):
                auc = found[side]["auc"]
                if auc["value"] is None:
                    continue
                y = row + 0.06 + 0.2 * shift
                if auc["low"] is not None:
                    axes.plot([auc["low"], auc["high"]], [y, y], color=color, linewidth=1.4)
                shown = label if row == 0 else "_nolegend_"
                axes.plot([auc["value"]], [y], marker, color=color, markersize=5, linestyle="none", label=shown)
        axes.axvline(0.5, color=INK, linewidth=1, linestyle=":")
        axes.set(xlim=(-0.02, 1.02), ylim=(len(audits) - 0.35, -0.6), yticks=[], xlabel="AUC, members against others")
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return chart("audit_auc", "AUC of each membership audit, with 95% intervals", draw, height=1.3 + 0.5 * len(audits))


def roc_chart(audits: Mapping[str, Any]) -> str:
    """True against false positive rate of the audits that see a model, the first four, in both models."""
    shown = {name: found for name, found in audits.items() if not found["control"]}
    curves = list(shown.items())[:_MOST_CURVES]

    def draw(axes: Axes) -> None:
        lowest = 1.0
        for style, (name, found) in zip(_STYLES, curves, strict=False):
            for side, (_, color, _) in SIDES.items():
                points = [(p["fpr"], p["tpr"]) for p in found[side]["roc"] if p["fpr"] > 0 and p["tpr"] > 0]
                if not points:
                    continue
                fpr, tpr = zip(*points, strict=True)
                lowest = min(lowest, *fpr, *tpr)
                axes.plot(fpr, tpr, color=color, linestyle=style, linewidth=1.3, drawstyle="steps-post")
            axes.plot([], [], color=NEUTRAL, linestyle=style, label=shortened(name, _LABEL))
        axes.plot([lowest, 1], [lowest, 1], color=INK, linewidth=0.8, linestyle=":", label="a coin")
        axes.set(xscale="log", yscale="log", xlim=(lowest * 0.9, 1.1), ylim=(lowest * 0.9, 1.1))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        for axis in (axes.xaxis, axes.yaxis):
            # Powers of ten would be set as formulas, which the page does not read.
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(loc="lower right")

    words = "ROC of each membership audit on logarithmic axes, orange: poisoned model, blue: clean twin"
    return chart("audit_roc", words, draw, height=3.1)
