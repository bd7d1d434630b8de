"""What the page tells of the detectors: figures and flags of both runs, filter bias, and their charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from backdoor_core.report.attack_section import group_name
from backdoor_core.report.detector_charts import RUNS, Estimates, Run, figure_chart, score_charts

SCORES: Final = {
    "auroc": "AUROC",
    "partial_auroc": "Partial AUROC, FPR up to 5%",
    "average_precision": "Average precision",
    "tpr_at_1_fpr": "TPR at 1% FPR",
    "tpr_at_5_fpr": "TPR at 5% FPR",
}
FLAGS: Final = {
    "recall": "Recall",
    "precision": "Precision",
    "fpr": "False positive rate",
    "flagged_share": "Flagged share",
}
_GLANCE: Final[tuple[tuple[Run, str], ...]] = (("poisoned", "recall"), ("poisoned", "fpr"), ("null", "flagged_share"))

Answers = Mapping[str, Mapping[str, Any]]
"""results_detect.json."""


def chosen_names(answers: Answers, chosen: Sequence[str]) -> list[str]:
    """The detectors in the order of params.yaml, where it tells one."""
    known = [name for name in chosen if name in answers]
    return known + [name for name in answers if name not in known]


def ranked_names(answers: Answers, names: Sequence[str]) -> list[str]:
    """By the AUROC in the poisoned run, the highest first and those without one last."""

    def place(name: str) -> tuple[bool, float]:
        value = answers[name]["poisoned"]["auroc"]["value"]
        return value is None, -(value or 0.0)

    return sorted(names, key=place)


def overview_chart(answers: Answers, names: Sequence[str], figure: str, chance: float) -> str:
    """One figure of every detector in both runs."""
    rows = [
        Estimates(name, answers[name]["oracle"], {run: answers[name][run][figure] for run in RUNS}) for name in names
    ]
    return figure_chart(f"detectors-{figure}", SCORES[figure], rows, chance)


def at_a_glance(answers: Answers, names: Sequence[str], calibrated: bool) -> list[dict[str, Any]]:
    """For each detector recall and FPR of its flags and the null run's flagged share: own rule, then calibrated."""
    rows = []
    for name in names:
        answer = answers[name]
        flags: list[dict[Run, Any]] = [{run: answer[run] for run in RUNS}]
        if calibrated:
            flags.append({run: answer[run]["calibrated"] for run in RUNS})
        cells = [kind[run][figure] for kind in flags for run, figure in _GLANCE]
        rows.append({"name": name, "oracle": answer["oracle"], "scope": answer["scope"], "cells": cells})
    return rows


def detector_entry(
    name: str, answer: Mapping[str, Any], scores: Mapping[str, NDArray[Any]], stay_ids: Sequence[int], calibrated: bool
) -> dict[str, Any]:
    """Everything that the page shows of one detector. `stay_ids` are the poisoned stays."""
    labels = sorted({label for run in RUNS for label in answer[run]["by_label"]})
    return {
        "name": name,
        "oracle": answer["oracle"],
        "scope": answer["scope"],
        "scores": _figures(SCORES, {run: answer[run] for run in RUNS}),
        "rows": [answer[run]["rows"] for run in RUNS],
        "flags": _flags(answer, calibrated),
        "by_label": [(label, _of_label({run: answer[run]["by_label"].get(label) for run in RUNS})) for label in labels],
        "bias": _bias(answer),
        "details": {run: answer[run]["details"] for run in RUNS},
        "charts": _score_charts(name, scores, stay_ids),
    }


def _score_charts(name: str, scores: Mapping[str, NDArray[Any]], stay_ids: Sequence[int]) -> list[Markup]:
    """Scores of both runs. Copies that the attack appended are no rows of the null run: there the stays they copy
    are set apart."""
    within = scores["in_null"].astype(np.bool_)
    values: dict[Run, NDArray[Any]] = {
        "poisoned": scores[f"{name}.poisoned.score"],
        "null": scores[f"{name}.null.score"][within],
    }
    chosen = np.isin(scores["stay_id"][within], np.asarray(stay_ids, dtype=np.int64))
    charts = score_charts(name, values, {"poisoned": scores["poisoned"].astype(np.bool_), "null": chosen})
    return [Markup(charts[run]) for run in RUNS]


def _figures(names: Mapping[str, str], answers: Mapping[str, Mapping[str, Any] | None]) -> list[tuple[str, list[Any]]]:
    """A row for each figure, a cell for each run; None for a run without any row of the label."""
    return [(words, [_cell(answer, key) for answer in answers.values()]) for key, words in names.items()]


def _cell(answer: Mapping[str, Any] | None, key: str) -> Any:
    return None if answer is None else answer[key]


def _flags(answer: Mapping[str, Any], calibrated: bool) -> dict[str, Any]:
    """Figures of the flags, four cells a row: own rule in both runs, then calibrated in both."""
    columns = [answer[run] for run in RUNS]
    if calibrated:
        columns += [answer[run]["calibrated"] for run in RUNS]
    return {
        "figures": [(words, [column[key] for column in columns]) for key, words in FLAGS.items()],
        "counts": [column["flagged"] for column in columns],
    }


def _of_label(answers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    flags = {key: f"{words} of its own flags" for key, words in FLAGS.items()}
    return {
        "figures": _figures({**SCORES, **flags}, answers),
        "counts": [
            (words, [_cell(answer, key) for answer in answers.values()])
            for key, words in (("rows", "Rows"), ("flagged", "Flagged by its own rule"))
        ],
    }


def _bias(answer: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, list[Any]]]]]:
    """Groups of patients with the false positive rate in both runs; None where a run lacks the group."""
    both = {run: answer[run]["bias"] for run in RUNS}
    found = []
    for by in dict.fromkeys([*both["poisoned"], *both["null"]]):
        named = {run: both[run].get(by, {}) for run in RUNS}
        values = dict.fromkeys([*named["poisoned"], *named["null"]])
        rows = [(group_name({"group": by, "value": v}), [named[run].get(v) for run in RUNS]) for v in values]
        found.append((by, rows))
    return found
