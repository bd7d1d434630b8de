"""Stage `leakage`: what the language models leak of the notes they were trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.console import progress, say
from backdoor_core.files import read_json, replacing_directory, write_json
from backdoor_core.language.leak import Audited, Model, audit_models, compare
from backdoor_core.language.references import ReferenceLosses
from backdoor_core.language.results import experiment_log, metadata, report_text, write_scores
from backdoor_core.language.work import CANARIES, Read, Scored, read_corpus, run_all, score_one
from backdoor_core.notes_params import Recipe
from backdoor_core.privacy.judge import resamples
from backdoor_core.privacy.one_run import judge_canaries
from backdoor_core.report.notes_charts import comparison_plots
from backdoor_core.stages.finetune import tasks_of
from backdoor_core.study import Study, note_references_needed


def run(study: Study) -> None:
    """Score the audited notes, run and judge every audit, and write figures, scores, plots and a report in words."""
    params, notes = study.params.notes, study.paths.notes
    training: list[dict[str, Any]] = read_json(notes / "models" / "training.json")["models"]
    read = read_corpus(params, study.paths.root, notes / "corpus")
    recipes = _audit(study, read, training)
    patients = read.notes.subject_id[read.notes.audited]
    audits = study.note_audits()
    controls = frozenset(audit.name for audit in audits if audit.controls)
    runs = next(iter(recipes.values())).runs(audits[0].name, patients)
    rng = seeds.generator(study.params.seed, "notes_bootstrap")
    compared = compare(recipes, controls, patients, resamples(runs, study.params.evaluate.replicates, rng))
    for recipe, found in compared["recipes"].items():
        found["privacy"] = _privacy(recipe, training, notes / "models")
    references: list[dict[str, Any]] = read_json(notes / "references" / "references.json")["models"]
    about = metadata(study, read_json(notes / "corpus" / "card.json"), training, references)
    counted = {"references": note_references_needed(study)}
    results = {"study": about["study"], "corpus": about["corpus"], **counted, **compared}
    with replacing_directory(notes / "leakage") as folder:
        for recipe, audited in recipes.items():
            texts = read.notes.texts if params.texts else None
            write_scores(folder / f"mia_{recipe}.csv", audited, read.notes.record_id, read.notes.audited, texts)
        write_json(folder / "comparison.json", results)
        write_json(folder / "metadata.json", about)
        (folder / "experiment.log").write_text(experiment_log(results, training, references), encoding="utf-8")
        (folder / "REPORT.md").write_text(report_text(results), encoding="utf-8")
        (folder / "plots").mkdir()
        drawn = comparison_plots(results, {name: _losses(audited) for name, audited in recipes.items()})
        (folder / "plots" / "comparison_plots.svg").write_text(drawn.svg, encoding="utf-8")
        (folder / "plots" / "comparison_plots.png").write_bytes(drawn.png)
    say(f"leakage: {notes / 'leakage' / 'REPORT.md'}")


def _audit(study: Study, read: Read, training: list[dict[str, Any]]) -> dict[str, Audited]:
    params, rows = study.params.notes, read.notes.audited
    texts = [read.seen(params.max_tokens)[row] for row in rows]
    patients, audits = read.notes.subject_id[rows], study.note_audits()
    copies = params.neighbors if any("neighbors" in audit.requires for audit in audits) else 0
    every = tasks_of(study, study.paths.notes / "models")
    tasks = [replace(task, neighbors=copies) for task in every if not task.canaries]
    kept = {(one["recipe"], one["seed"]): one["kept_epoch"] for one in training if not one["canaries"]}
    with progress("scoring", len(tasks)) as advance:
        workers = params.workers if params.device == "cpu" else 1
        scored = run_all(score_one, tasks, workers, lambda task, _: advance(task.name))
    by_task = {(task.recipe, task.number): found for task, found in zip(tasks, scored, strict=True)}

    def model(recipe: Recipe, number: int) -> Model:
        found: Scored = by_task[recipe, number]
        member, epoch = read.notes.member[number, rows], kept[recipe, number]
        outside = ReferenceLosses.load(study.paths.notes / "references", recipe)
        references, population = outside.signals(read.notes, found.nll[epoch])
        return Model(member, found.tokens, found.nll[:, rows], epoch, found.neighbor_loss, references, population)

    answers: dict[str, Audited] = {}
    with progress("audits", len(params.recipe)) as advance:
        for recipe in params.recipe:
            models = [model(recipe, number) for number in range(params.seeds)]
            answers[recipe] = audit_models(audits, models, patients, texts, study.params.seed)
            advance(recipe)
    return answers


def _losses(audited: Audited) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    loss = np.concatenate([model.loss for model in audited.models])
    return loss, np.concatenate([model.member for model in audited.models])


def _privacy(recipe: str, training: list[dict[str, Any]], models: Path) -> dict[str, Any] | None:
    """Opacus' epsilon of a private recipe, beside the lower bound from the run with canaries."""
    if recipe != "dp":
        return None
    promised = [one["privacy"] for one in training if one["recipe"] == recipe and not one["canaries"]]
    run = next((one["privacy"] for one in training if one["canaries"]), None)
    if run is None:
        return {"promised": promised, "one_run": None}
    scores, coins = np.load(models / recipe / "canaries" / CANARIES, allow_pickle=False)
    bound = judge_canaries(scores, coins == 1, run["delta"])
    return {"promised": promised, "one_run": {"promised": run, **bound.as_dict()}}
