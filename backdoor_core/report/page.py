"""The report: what a study found, as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from backdoor_core.files import json_text
from backdoor_core.report import wording
from backdoor_core.report.attack_charts import SIDES
from backdoor_core.report.attack_section import PERFORMANCE, VERDICTS, attack_charts, groups
from backdoor_core.report.charts import (
    Side,
    attrition_chart,
    calibration_chart,
    learning_chart,
    precision_recall_chart,
    roc_chart,
)
from backdoor_core.report.detector_charts import RUN_LABELS, RUNS, figure_chart, score_charts
from backdoor_core.report.plausibility_charts import (
    MOST_FEATURES,
    classifier_chart,
    distance_chart,
    percentile_chart,
)
from backdoor_core.words import OUTCOMES, percent

_HERE: Final = Path(__file__).parent
_EXAMPLES: Final = 3
_CELLS: Final = 8
_LABELS: Final = {"flip": "stays of another label, relabeled as the target", "clean": "stays of the target, label kept"}
_MODES: Final = {"replace": "the stays are changed in place", "add": "changed copies stand beside the stays"}
DETECTION: Final = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "tpr_at_1_fpr": "TPR at 1% FPR",
    "tpr_at_5_fpr": "TPR at 5% FPR",
    "recall": "Recall of its flags",
    "precision": "Precision of its flags",
    "fpr": "FPR of its flags",
    "flagged_share": "Flagged share",
}


@dataclass(frozen=True)
class Findings:
    """What the stages wrote, in their formats."""

    config: Mapping[str, Any]
    card: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Any]]
    manifest: Mapping[str, Any]
    training: Mapping[Side, Mapping[str, Any]]
    curves: Mapping[Side, NDArray[np.float64]]
    evaluation: Mapping[str, Any]
    detection: Mapping[str, Mapping[str, Any]]
    predictions: Mapping[str, NDArray[Any]]
    scores: Mapping[str, NDArray[Any]]


def build_page(findings: Findings) -> str:
    """The page. Equal findings give equal text; nothing in it is fetched or run when it is opened."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        estimate=wording.estimate,
        number=wording.number,
        percent=percent,
        options=wording.options,
        json=_json,
        hours=wording.hours,
        units=wording.units,
        share=wording.share,
    )
    # Cover stays carry the trigger too, under their true label: they are counted, not shown as poison.
    poisoned = [stay for stay in findings.manifest["stays"] if stay.get("role") != "cover"]
    page = environment.get_template("page.html.j2").render(
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        f=findings,
        attack=findings.evaluation["attack"],
        clean={"poisoned": findings.evaluation["clean"], "baseline": findings.evaluation["baseline"]["clean"]},
        performance=PERFORMANCE,
        outcomes=OUTCOMES[findings.card["inclusion"]["label"]],
        no_figure=wording.NO_FIGURE,
        verdict_name=VERDICTS[findings.evaluation["verdict"]["code"]],
        groups=groups(findings.evaluation),
        contrasts=_contrasts(findings.evaluation["plausibility"]),
        more_features=max(0, len(_percentiles(findings)) - MOST_FEATURES),
        charts={name: Markup(svg) for name, svg in _charts(findings).items()},
        detectors=[_detector(findings, name) for name in _names(findings)],
        run_labels=RUN_LABELS,
        labels=_LABELS,
        modes=_MODES,
        touched=touched_features(poisoned, findings.card["features"]),
        untouched=sum(not stay["touched"] for stay in poisoned),
        examples=[_example(stay) for stay in poisoned[:_EXAMPLES]],
        synthetic=findings.card["source"] == "synthetic",
    )
    return page.lstrip()


def _json(content: Any) -> str:
    return json_text(content).rstrip("\n")


def _names(findings: Findings) -> list[str]:
    """The detectors in the order of params.yaml, where it tells one."""
    chosen = [name for name in findings.config["params"]["detectors"] if name in findings.detection]
    return chosen + [name for name in findings.detection if name not in chosen]


# ------------------------------------------------------------------------------------------------------ charts
def _charts(findings: Findings) -> dict[str, str]:
    label = findings.predictions["label"]
    probability = {side: findings.predictions[f"{side}.clean"] for side in SIDES}
    best = {side: int(findings.training[side]["best_epoch"] or 0) for side in SIDES}
    return {
        "roc": roc_chart(label, probability),
        "precision_recall": precision_recall_chart(label, probability),
        "calibration": calibration_chart(findings.evaluation["reliability"]),
        "learning": learning_chart(findings.curves, best) if any(best.values()) else "",
        "attrition": attrition_chart(findings.card["attrition"]),
        "detectors_auroc": _overview(findings, "auroc", 0.5),
        "detectors_tpr": _overview(findings, "tpr_at_1_fpr", 0.01),
        **attack_charts(findings.evaluation, findings.predictions, findings.manifest["target"]),
        **_plausibility(findings),
    }


def _plausibility(findings: Findings) -> dict[str, str]:
    card = findings.evaluation["plausibility"]
    if card is None or not card["touched"]["cells"]:
        return {}
    return {
        "percentiles": percentile_chart(card["percentiles"]) if _percentiles(findings) else "",
        "distances": distance_chart(card),
        "classifier": classifier_chart(card["classifier"]),
    }


def _percentiles(findings: Findings) -> list[Mapping[str, Any]]:
    card = findings.evaluation["plausibility"]
    return [] if card is None else [row for row in card["percentiles"] if row["median"] is not None]


def _contrasts(card: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    names = {
        "mahalanobis": "Mahalanobis distance",
        "knn": "Distance to the nearest training rows",
        "missingness": "Log-likelihood of what is missing (nats)",
    }
    return [] if card is None else [(words, card[key]) for key, words in names.items()]


def _overview(findings: Findings, figure: str, chance: float) -> str:
    figures = []
    for name in _names(findings):
        answer = findings.detection[name]
        shown = f"{name} (oracle)" if answer["oracle"] else name
        figures.append((shown, {run: answer[run][figure] for run in RUNS}))
    return figure_chart(f"detectors-{figure}", DETECTION[figure], figures, chance)


# --------------------------------------------------------------------------------------------------- detectors
def _detector(findings: Findings, name: str) -> dict[str, Any]:
    answer = findings.detection[name]
    scores = {run: findings.scores[f"{name}.{run}.score"] for run in RUNS}
    charts = score_charts(name, scores, findings.scores["poisoned"].astype(np.bool_))
    labels = sorted({label for run in RUNS for label in answer[run]["by_label"]})
    return {
        "name": name,
        "oracle": answer["oracle"],
        "table": _paired({run: answer[run] for run in RUNS}),
        "by_label": [(label, _paired({run: answer[run]["by_label"].get(label) for run in RUNS})) for label in labels],
        "details": {run: answer[run]["details"] for run in RUNS},
        "charts": [Markup(charts[run]) for run in RUNS],
    }


def _paired(answers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """Counts and figures of both runs, row by row; None for a run without any row of the label."""
    given = [answer for answer in answers.values() if answer is not None]
    keys = [key for key in DETECTION if any(key in answer for answer in given)]

    def cells(key: str) -> list[Any]:
        return [answer.get(key) if answer is not None else None for answer in answers.values()]

    return {
        "counts": [("Rows", cells("rows")), ("Flagged", cells("flagged"))],
        "figures": [(DETECTION[key], cells(key)) for key in keys],
    }


# ------------------------------------------------------------------------------------------------- the attack
def touched_features(stays: Sequence[Mapping[str, Any]], features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every feature that the trigger changed in one of the manifest's `stays`, with their number, most first."""
    counts = Counter(name for stay in stays for name in stay["touched"])
    units = {feature["name"]: feature["unit"] for feature in features}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "unit": units.get(name, ""), "stays": stays} for name, stays in ordered]


def _example(stay: Mapping[str, Any]) -> dict[str, Any]:
    cells = list(stay["touched"].items())
    return {"label": stay["label"], "cells": cells[:_CELLS], "more": max(0, len(cells) - _CELLS)}
