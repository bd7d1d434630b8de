"""Stage `explain`: what both models look at, on attacked test stays with and without the trigger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backdoor_core import seeds
from backdoor_core.contracts import Explainer, GridView
from backdoor_core.explanation.attention import Attended, compare_attention
from backdoor_core.explanation.case import Explained, make_case, run_explainer
from backdoor_core.explanation.findings import explainer_findings
from backdoor_core.explanation.head_shift import attention_figures, rollout_looked
from backdoor_core.explanation.trigger_ratio import Looked, touched_features
from backdoor_core.files import replacing_directory, write_array, write_json
from backdoor_core.learning.victim import TorchVictim, Victim
from backdoor_core.report import explain_figures
from backdoor_core.report.drawing import Picture
from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.stages.explain_events import explain_events
from backdoor_core.stages.explaining import (
    NO_STAYS,
    References,
    Stays,
    about,
    load_stays,
    load_victims,
    make_references,
    names_of_files,
    sidecar,
    told_by_each,
    write_pictures,
)
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Attribute the target's log-odds with every chosen explainer, measure the trigger's share, and draw it all.

    Explained are the poisoned model, its clean twin and, with the trigger alone, the clean retrains of the stage
    `nulls`. A study without explainers gets empty results.
    """
    results: dict[str, Any] = {"explainers": {}, "attention": None, "events": None, "figures": [], "note": None}
    with replacing_directory(study.paths.run / "explain") as folder:
        if not study.params.explainers:
            results["note"] = "the study chose no explainer"
        else:
            _explain(study, shared or load_shared(study), results, folder)
    write_json(study.paths.run / "results_explain.json", results)


def _explain(study: Study, shared: Shared, results: dict[str, Any], folder: Path) -> None:
    params, parts = study.params, shared.parts
    if study.model().modality == "events":
        explain_events(study, parts, results, folder, shared.workers)
        return
    stays = load_stays(study, parts)
    if not len(stays.clean):
        results["note"] = NO_STAYS
        return
    touched = touched_features(stays.touched)
    results |= about(study, stays.clean.modality, params.explain.baseline, stays.attacked, stays.features, touched)
    victims = load_victims(study)
    references = make_references(study, parts, victims)

    def tell(explainer: Explainer) -> tuple[dict[str, Any], dict[str, Picture]]:
        looked, answers = _looked(study, stays, victims, references, explainer)
        _write(folder, looked, explainer.name, names_of_files(study, explainer))
        found = explainer_findings(looked, answers, stays.touched, stays.weights)
        return found, explain_figures.explainer_figures(explainer.name, looked, stays.features, stays.touched)

    pictures = told_by_each(study, results, tell)
    write_json(folder / "explanations.json", sidecar(study, stays))
    if "attention" in study.model().capabilities:
        results["attention"], drawn = _attend(victims, stays, params.explain.rows_at_once, folder)
        pictures |= drawn
    pictures = explain_figures.summary_figure(results) | pictures
    results["figures"] = list(pictures)
    write_pictures(pictures, folder / "figures")


def _looked(
    study: Study, stays: Stays, victims: dict[str, Victim], references: References, explainer: Explainer
) -> tuple[Looked, list[Explained]]:
    """Attributions of the stays by every model, each measured from its own view of the reference rows."""
    params = study.params

    def explained(name: str, view: GridView) -> Explained:
        # Every model and kind of stay has the same random numbers, and whichever other explainers were chosen.
        rng = seeds.generator(params.seed, "explanation", *explainer.name.encode())
        case = make_case(victims[name], view, references[name], params.poison.target, params.explain, rng)
        return run_explainer(explainer, case)

    answers = [explained("poisoned", stays.triggered), explained("poisoned", stays.clean)]
    answers += [explained(name, stays.triggered) for name in victims if name != "poisoned"]
    triggered, clean, baseline, *retrains = (answer.values for answer in answers)
    return Looked(triggered, clean, baseline, tuple(retrains)), answers


def _attend(
    victims: dict[str, Victim], stays: Stays, rows_at_once: int, folder: Path
) -> tuple[dict[str, Any], dict[str, Picture]]:
    """Attention of both models; the poisoned model's weights are written."""
    attended: dict[str, Attended] = {}
    for name in ("poisoned", "baseline"):
        victim = victims[name]
        if not isinstance(victim, TorchVictim):
            raise TypeError("attention is of networks")
        inputs = [victim.inputs(view) for view in (stays.clean, stays.triggered)]
        attended[name] = compare_attention(victim.network, inputs[0], inputs[1], rows_at_once)
    poisoned, twin = attended["poisoned"], attended["baseline"]
    touched = touched_features(stays.touched)
    found = attention_figures(poisoned, twin, stays.features, touched, stays.weights)
    write_array(folder / "attn_clean.npy", poisoned.clean)
    write_array(folder / "attn_poison.npy", poisoned.triggered)
    axes = ["layer", "head", "attending token", "attended token"]
    told = {
        "model": "poisoned",
        "files": {"attn_clean.npy": "the stays as they are", "attn_poison.npy": "the same with the trigger"},
        "shape": list(poisoned.clean.shape),
        "dtype": str(poisoned.clean.dtype),
        "axes": axes if poisoned.averaged else ["stay", *axes],
        "averaged_over_stays": poisoned.averaged,
        "tokens": found["tokens"],
        "stay_id": stays.clean.stay_id.tolist(),
    }
    write_json(folder / "attn.json", told)
    rollout = rollout_looked(poisoned, twin, len(stays.features))
    return found, explain_figures.attention_figures(poisoned, rollout, found["shift"], stays.features, touched)


def _write(folder: Path, looked: Looked, name: str, endings: Sequence[str]) -> None:
    for kind, values in (("clean", looked.clean), ("poison", looked.triggered)):
        for ending in endings:
            write_array(folder / f"explanations_{kind}{ending}.npy", values)
    write_array(folder / "baseline" / f"explanations_poison_{name}.npy", looked.baseline)
