"""The part `set-a` of benchmarks/audits.py: what models of real stays leak of the patients they learned from."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attacks import build
from tables import Result, keep, kept_results

from backdoor_core import seeds
from backdoor_core.auditing import Signals
from backdoor_core.cohort.splits import PARTS, Splits, split_by_patient
from backdoor_core.cohort.storage import Cohort, Rows
from backdoor_core.contracts import Audit, Model
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.params import Params
from backdoor_core.privacy.findings import gap
from backdoor_core.privacy.judge import Run, judge, resamples
from backdoor_core.privacy.measured import Audited, ReferenceAnswers, measure, scores_of, utility
from backdoor_core.privacy.references import reference_tasks
from backdoor_core.privacy.verdict import FEW, verdict, widened
from backdoor_core.stages.audited import audited_stays
from backdoor_core.stages.data import Parts
from backdoor_core.study import Study, load_study
from backdoor_core.words import plain

REPOSITORY = Path(__file__).resolve().parents[1]
AUDITS = ("loss_threshold", "lira", "rmia", "blind")


@dataclass(frozen=True)
class Target:
    """A model that is audited."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    most_references: int = 512


TARGETS = (
    Target("mlp small", "mlp", {"hidden": (64, 32)}),
    Target("mlp large", "mlp", {"hidden": (512, 256, 128)}),
    Target("gbdt", "gbdt"),
    Target("lstm", "lstm", most_references=8),
)


def parts_of(cohort: Cohort, model: Model, params: Params) -> Parts:
    """The parts that a study with the params' seed draws."""
    rng = seeds.generator(params.seed, "splits")
    chosen = split_by_patient(cohort.stay_id, cohort.subject_id, cohort.label, params.splits, rng)
    rows = {part: np.flatnonzero(np.isin(cohort.stay_id, chosen[part])) for part in PARTS}
    view = cohort.view(model.modality)
    return Parts(cohort, Splits(**rows), *(Rows(view.take(r), cohort.label[r]) for r in rows.values()))


def signals_of(model: Model, parts: Parts, stays: Audited, params: Params, references: int) -> Signals:
    """What audits see of the model of a clean study, fitted together with its references."""
    member, tasks = reference_tasks(stays, parts.validation, references, params.seed)
    own = Task(
        train=parts.train,
        validation=parts.validation,
        fit_on=parts.train.view,
        seed=seeds.integer(params.seed, "training"),
    )
    target, *others = (done.victim for done in train_victims(model, [own, *tasks], params))
    answers = ReferenceAnswers.of(others, member, stays.view, parts.validation.view)
    return measure(stays, parts.validation, target, answers)


def audited(study: Study, cohort: Cohort, target: Target, seed: int, references: int) -> Result:
    """The scores of every audit of one model, and what the model is like."""
    started = time.perf_counter()
    params = study.params.model_copy(update={"seed": seed})
    model = study.make("model", target.model, {**params.options("model", target.model), **target.options})
    assert isinstance(model, Model)
    parts = parts_of(cohort, model, params)
    stays = audited_stays(parts)
    signals = signals_of(model, parts, stays, params, references)
    scores = {}
    for name in AUDITS:
        audit = study.component("audit", name)
        assert isinstance(audit, Audit)
        scores[name] = scores_of(audit, signals, seed).tolist()
    return {
        "target": target.name,
        "seed": seed,
        "references": references,
        "patients": stays.patients.tolist(),
        "member": stays.member.tolist(),
        "scores": scores,
        "loss": gap(np.asarray(signals.loss), stays.member),
        "auroc": utility(signals),
        "seconds": time.perf_counter() - started,
    }


def lines_of(results: Sequence[Result], params: Params) -> tuple[str, list[str]]:
    """Of one model over seeds: its line in the table of models, and the lines of its audits."""
    members = [np.array(r["member"]) for r in results]
    runs = {
        name: [
            Run(np.array(r["scores"][name]), member, np.array(r["patients"]))
            for r, member in zip(results, members, strict=True)
        ]
        for name in AUDITS
    }
    weights = resamples(runs["blind"], params.evaluate.replicates, seeds.generator(params.seed, "leak_bootstrap"))
    blind = judge(runs["blind"], weights)["auc"]
    name, lines = results[0]["target"], []
    for audit in AUDITS:
        control = audit == "blind"
        found = judge(runs[audit], weights, None if control else runs["blind"])
        point = next(point for point in found["tpr"] if point["fpr"] == FEW)
        low, high = point["clopper_pearson"]
        word = "control" if control else verdict(found, blind).word
        lead = "" if control else plain(found["over_blind"])
        areas = f"{plain(widened(blind) if control else found['auc'])} | {plain(found['auc_over_runs'])} | {lead}"
        lines.append(f"| {name} | {audit} | {areas} | {point['value']:.3f} [{low:.3f}, {high:.3f}] | {word} |")
    inside, outside, between, utility = (
        np.mean(values)
        for values in (
            *([r["loss"][key] for r in results] for key in ("members", "nonmembers", "gap")),
            [r["auroc"] for r in results],
        )
    )
    stays = f"{np.mean([m.sum() for m in members]):,.0f} | {np.mean([(~m).sum() for m in members]):,.0f}"
    head = f"| {name} | {len(results)} | {results[0]['references']} | {stays} "
    seconds = np.median([r["seconds"] for r in results])
    return f"{head}| {inside:.3f} | {outside:.3f} | {between:.3f} | {utility:.3f} | {seconds:.0f} |", lines


def tables_of(results: Sequence[Result], params: Params) -> str:
    """The table of models and the table of audits."""
    models = [
        "| model | seeds | references | members | non-members | loss of members | of non-members | gap | test AUROC "
        "| seconds a seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    audits = [
        "| model | audit | AUC [other patients] | AUC [other seeds] | AUC over the blind control's "
        f"| TPR at {FEW:.0%} FPR | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(target.name for target in TARGETS):
        if of_model := [r for r in results if r["target"] == name]:
            line, more = lines_of(sorted(of_model, key=lambda r: r["seed"]), params)
            models.append(line)
            audits += more
    return "\n".join([*models, "", *audits])


def set_a(args: argparse.Namespace) -> str:
    """Both tables of the models and seeds asked for; fits and scores what is not kept yet."""
    args.work.mkdir(parents=True, exist_ok=True)
    study = load_study(REPOSITORY)
    cohort = build(study, "set-a", args.data, 0, args.work)
    kept = args.work / "set-a.jsonl"
    results = kept_results(kept)
    wanted = {t.name: min(args.references, t.most_references) for t in TARGETS if t.name in args.models}
    for target in TARGETS:
        if target.name not in wanted:
            continue
        references = wanted[target.name]
        done = {r["seed"] for r in results if (r["target"], r["references"]) == (target.name, references)}
        for seed in sorted(set(range(args.seeds)) - done):
            found = audited(study, cohort, target, seed, references)
            keep(kept, [found])
            results.append(found)
            print(f"{target.name}, seed {seed}: {found['seconds']:.0f} s", file=sys.stderr, flush=True)
    chosen = [r for r in results if wanted.get(r["target"]) == r["references"] and r["seed"] < args.seeds]
    return tables_of(chosen, study.params)
