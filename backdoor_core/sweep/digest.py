"""A finished cell's own files in a few flat figures: what tables, statistics and the report are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.contracts import Booleans
from backdoor_core.files import read_json
from backdoor_core.sweep.rows import ROC_POINTS

ROC_FPR = np.linspace(0, 1, ROC_POINTS) ** 2
"""Denser where detectors are used."""
_RANKED = ("auroc", "average_precision", "partial_auroc", "tpr_at_1_fpr", "tpr_at_5_fpr")
_FLAGS = ("recall", "precision", "fpr", "flagged_share")

Figures = dict[str, float | int | None]


def figures_of(folder: Path) -> Figures:
    """Every figure of the cell in `folder`, by the names that docs/sweeps.md lists; null where it does not exist."""
    evaluation = read_json(folder / "results_eval.json")
    manifest = read_json(folder / "poison.json")
    figures: Figures = {
        "poisoned_stays": manifest["poisoned_stays"],
        "train_stays": manifest["training_stays"],
        "test_stays": evaluation["test"]["stays"],
        "attacked_stays": evaluation["test"]["attacked"],
    }
    for name, estimate in evaluation["clean"].items():
        figures |= _flat(name, estimate)
    for name, estimate in evaluation["baseline"]["clean"].items():
        figures |= _flat(f"{name}.baseline", estimate)
    for name, estimate in evaluation["attack"].items():
        figures |= _flat(name, estimate)
    figures |= _plausibility(evaluation["plausibility"])
    figures |= _detection(read_json(folder / "results_detect.json"))
    if (folder / "results_explain.json").is_file():
        figures |= _explanation(read_json(folder / "results_explain.json"))
    if (folder / "results_cleanse.json").is_file():
        figures |= _cleansing(read_json(folder / "results_cleanse.json"))
    return figures


def rocs_of(folder: Path) -> dict[str, dict[str, list[float]]]:
    """ROC curve of every detector, on the poisoned and on the null run: its true positive rate at each of `ROC_FPR`.

    On the null run the rows to be found are those that the attack took. Empty where there is none.
    """
    scores = read_parquet(folder / "detect" / "scores.parquet")
    stays = read_json(folder / "poison.json")["stays"]
    taken = [stay["stay_id"] for stay in stays if stay["role"] != "cover"]
    in_null = scores["in_null"].astype(np.bool_)
    truth = {"poisoned": scores["poisoned"].astype(np.bool_), "null": np.isin(scores["stay_id"], taken) & in_null}
    rows = {"poisoned": np.ones_like(in_null), "null": in_null}
    names = [name.removesuffix(".poisoned.score") for name in scores if name.endswith(".poisoned.score")]
    return {
        name: {run: roc(scores[f"{name}.{run}.score"][rows[run]], truth[run][rows[run]]) for run in truth}
        for name in names
    }


def roc(scores: NDArray[Any], truth: Booleans) -> list[float]:
    """(101,) highest true positive rate at a false positive rate of at most each of `ROC_FPR`, to six digits."""
    if not truth.any() or truth.all():
        return []
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    tpr = np.append(0.0, np.cumsum(truth[order])[ends] / truth.sum())
    fpr = np.append(0.0, np.cumsum(~truth[order])[ends] / (~truth).sum())
    reached = np.searchsorted(fpr, ROC_FPR, side="right") - 1
    return [round(float(value), 6) for value in tpr[reached]]


def _flat(name: str, estimate: Mapping[str, Any] | None) -> Figures:
    found = estimate or {"value": None, "low": None, "high": None}
    return {name: found["value"], f"{name}.low": found["low"], f"{name}.high": found["high"]}


def _plausibility(card: Mapping[str, Any] | None) -> Figures:
    if card is None:
        return {}
    figures = _flat("told_apart", card["classifier"]["auroc"])
    for name in ("mahalanobis", "knn", "missingness"):
        figures |= _flat(name, card[name]["difference"])
    return figures


def _detection(results: Mapping[str, Any]) -> Figures:
    figures: Figures = {}
    for detector, found in results.items():
        figures[f"detect.{detector}.oracle"] = int(found["oracle"])
        for run, prefix in (("poisoned", f"detect.{detector}"), ("null", f"detect.{detector}.null")):
            for name in (*_RANKED, *_FLAGS):
                figures |= _flat(f"{prefix}.{name}", found[run][name])
            for name in _FLAGS:
                figures |= _flat(f"{prefix}.calibrated.{name}", found[run]["calibrated"][name])
    return figures


def _explanation(results: Mapping[str, Any]) -> Figures:
    figures: Figures = {}
    for explainer, found in results["explainers"].items():
        for name, suffix in (("tar", ""), ("tar_baseline", ".baseline"), ("tar_lift", ".lift")):
            figures |= _flat(f"tar.{explainer}{suffix}", found["figures"].get(name))
    return figures


def _cleansing(results: Mapping[str, Any]) -> Figures:
    figures: Figures = {}
    for how, found in {**results["filters"], **results["repairs"]}.items():
        for name in ("removed", "poisoned_removed"):
            if name in found:
                figures[f"cleanse.{how}.{name}"] = found[name]
        # What as many stays removed at random leave is the control of what a filter leaves.
        for prefix, of in ((f"cleanse.{how}", found["figures"]), (f"cleanse.{how}.random", found.get("random"))):
            for name, estimate in (of or {}).items():
                if name != "asr_baseline":
                    figures |= _flat(f"{prefix}.{name}", estimate)
    return figures
