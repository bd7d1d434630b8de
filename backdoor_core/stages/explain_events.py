"""The stage `explain` where the model reads events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from backdoor_core.contracts import Explainer
from backdoor_core.explanation.event_attribution import GROUPS
from backdoor_core.explanation.event_report import explain_events as explained_events
from backdoor_core.explanation.findings import event_findings
from backdoor_core.files import write_array, write_json
from backdoor_core.learning.loop import pick_device
from backdoor_core.learning.victim import TorchVictim
from backdoor_core.report import explain_figures
from backdoor_core.report.drawing import Picture
from backdoor_core.report.event_figures import event_figures
from backdoor_core.stages.data import Parts
from backdoor_core.stages.explaining import (
    NO_STAYS,
    about,
    load_victims,
    names_of_files,
    told_by_each,
    write_pictures,
)
from backdoor_core.stages.explaining_events import EventLooked, EventStays, explain_with, load_event_stays
from backdoor_core.study import Study
from backdoor_core.workers import cpus

_MOST_ALONE = 400
"""Stays times models, explained and drawn in less time than processes take to start."""


def explain_events(
    study: Study, parts: Parts, results: dict[str, Any], folder: Path, workers: int | None = None
) -> None:
    """Fill `results` and the new `folder`: attributions by event, the trigger's share, attention, and the figures.

    In `workers` processes, by default one for each CPU where there is enough to do.
    """
    victims = load_victims(study)
    poisoned = victims["poisoned"]
    if not isinstance(poisoned, TorchVictim):
        raise TypeError("events are read by networks")
    stays = load_event_stays(study, parts, poisoned)
    if not len(stays.clean):
        results["note"] = NO_STAYS
        return
    if workers is None:
        on_cpu = pick_device(study.params.train.device).type == "cpu"
        workers = cpus() if on_cpu and len(stays.clean) * len(victims) > _MOST_ALONE else 1
    cells = stays.cells()
    results |= about(study, "events", "events", stays.attacked, stays.features, cells.touched_codes)
    attributed: dict[str, EventLooked] = {}

    def tell(explainer: Explainer) -> tuple[dict[str, Any], dict[str, Picture]]:
        looked = attributed[explainer.name] = explain_with(study, stays, victims, explainer, workers)
        _write(folder, looked, explainer.name, names_of_files(study, explainer))
        found = event_findings(looked.by_event, looked.by_code, looked.answers, cells, stays.weights)
        drawn = explain_figures.explainer_figures(explainer.name, looked.signed, stays.features, cells.touched_codes)
        return found, drawn

    pictures = told_by_each(study, results, tell)
    write_json(folder / "explanations.json", _sidecar(study, stays))
    told = explained_events(
        {side: cast(TorchVictim, victims[side]) for side in ("poisoned", "baseline")},
        stays.clean,
        stays.triggered,
        stays.touched,
        attributed,
        stays.weights,
        study.params.poison.target,
    )
    results["events"] = told
    pictures = explain_figures.summary_figure(results) | event_figures(told, workers) | pictures
    results["figures"] = list(pictures)
    write_pictures(pictures, folder / "figures")


def _write(folder: Path, looked: EventLooked, name: str, endings: Sequence[str]) -> None:
    for kind, found in (("clean", looked.clean), ("poison", looked.triggered)):
        for ending in endings:
            write_array(folder / f"explanations_{kind}{ending}.npy", found.events)
            write_array(folder / f"explanations_{kind}_statics{ending}.npy", found.statics)
    write_array(folder / "baseline" / f"explanations_poison_{name}.npy", looked.baseline.events)
    write_array(folder / "baseline" / f"explanations_poison_statics_{name}.npy", looked.baseline.statics)


def _sidecar(study: Study, stays: EventStays) -> dict[str, Any]:
    """What the files of attributions hold, in which order; JSON-able."""
    names = list(study.params.explainers)
    return {
        "files": {
            "explanations_clean_<explainer>.npy": "the poisoned model, events of the stays as they are",
            "explanations_poison_<explainer>.npy": "the poisoned model, events of the same stays with the trigger",
            "explanations_clean_statics_<explainer>.npy": "likewise the static columns",
            "explanations_poison_statics_<explainer>.npy": "likewise the static columns",
            "baseline/explanations_poison_<explainer>.npy": "the clean twin, with the trigger",
            "explanations_clean.npy, explanations_poison.npy": f"those of {names[0]}, the first explainer",
        },
        "explainers": names,
        "explained": f"log-odds of label {study.params.poison.target}",
        "dtype": "float32",
        "axes": {"events": ["event", "part"], "statics": ["stay", "static column"]},
        "parts": list(GROUPS),
        "statics": list(stays.statics),
        "stay_id": stays.clean.stay_id.tolist(),
        "offsets": {"clean": stays.clean.offsets.tolist(), "triggered": stays.triggered.offsets.tolist()},
    }
