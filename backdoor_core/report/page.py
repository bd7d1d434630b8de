"""The report: what a study found, as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from backdoor_core.files import json_text
from backdoor_core.report import wording
from backdoor_core.report.attack_charts import SIDES
from backdoor_core.report.attack_section import PERFORMANCE, VERDICTS, attack_charts, groups
from backdoor_core.report.audit_section import leakage
from backdoor_core.report.charts import (
    Side,
    attrition_chart,
    calibration_chart,
    learning_chart,
    precision_recall_chart,
    roc_chart,
)
from backdoor_core.report.cleansing_section import FIGURES as CLEANSED, cleansing, cleansing_charts
from backdoor_core.report.detector_charts import RUN_LABELS
from backdoor_core.report.detector_section import (
    at_a_glance,
    chosen_names,
    detector_entry,
    overview_chart,
    ranked_names,
)
from backdoor_core.report.explain_section import explanation
from backdoor_core.report.notes_section import of_notes
from backdoor_core.report.plausibility_charts import (
    MOST_FEATURES,
    classifier_chart,
    distance_chart,
    percentile_chart,
)
from backdoor_core.report.templates import page_templates
from backdoor_core.words import OUTCOMES, percent

_HERE: Final = Path(__file__).parent
_EXAMPLES: Final = 3
_CELLS: Final = 8
_LABELS: Final = {"flip": "stays of another label, relabeled as the target", "clean": "stays of the target, label kept"}
_MODES: Final = {"replace": "the stays are changed in place", "add": "changed copies stand beside the stays"}


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
    cleansing: Mapping[str, Any]
    explanation: Mapping[str, Any]
    audit: Mapping[str, Any]
    predictions: Mapping[str, NDArray[Any]]
    scores: Mapping[str, NDArray[Any]]
    pictures: Mapping[str, str]
    """The SVG of each figure that the stages `explain` and `leakage` drew."""
    notes: Mapping[str, Any] | None = None
    """Of the language model; None where that was not studied."""


def build_page(findings: Findings) -> str:
    """The page. Equal findings give equal text; nothing in it is fetched or run when it is opened."""
    environment = page_templates()
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
    stay_ids = [stay["stay_id"] for stay in poisoned]
    names = _names(findings)
    calibrated = findings.config["params"]["detection"]["nulls"] > 0
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
        detectors=[
            detector_entry(name, findings.detection[name], findings.scores, stay_ids, calibrated) for name in names
        ],
        glance=at_a_glance(findings.detection, ranked_names(findings.detection, names), calibrated),
        calibrated=calibrated,
        cleansed=cleansing(findings.cleansing, findings.evaluation["baseline"]["clean"], _oracles(findings)),
        cleansed_figures=CLEANSED,
        explained=explanation(findings.explanation, findings.pictures),
        leak=leakage(findings.audit),
        noted=of_notes(findings.notes, findings.pictures),
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
    return chosen_names(findings.detection, findings.config["params"]["detectors"])


def _oracles(findings: Findings) -> dict[str, bool]:
    return {name: answer["oracle"] for name, answer in findings.detection.items()}


# ------------------------------------------------------------------------------------------------------ charts
def _charts(findings: Findings) -> dict[str, str]:
    label = findings.predictions["label"]
    probability = {side: findings.predictions[f"{side}.clean"] for side in SIDES}
    best = {side: int(findings.training[side]["best_epoch"] or 0) for side in SIDES}
    ranked = ranked_names(findings.detection, _names(findings))
    return {
        "roc": roc_chart(label, probability),
        "precision_recall": precision_recall_chart(label, probability),
        "calibration": calibration_chart(findings.evaluation["reliability"]),
        "learning": learning_chart(findings.curves, best) if any(best.values()) else "",
        "attrition": attrition_chart(findings.card["attrition"]),
        "detectors_auroc": overview_chart(findings.detection, ranked, "auroc", 0.5),
        "detectors_tpr": overview_chart(findings.detection, ranked, "tpr_at_1_fpr", 0.01),
        **cleansing_charts(findings.cleansing, findings.evaluation["baseline"]["clean"], _oracles(findings)),
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
