"""Stage `audit`: which stays were the models trained on, and does a backdoor leak more."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from backdoor_core import seeds
from backdoor_core.attack.subgroups import groups_of
from backdoor_core.auditing import AuditCase, Population, References, Signals
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.console import progress, say
from backdoor_core.contracts import Audit, Booleans
from backdoor_core.files import write_json
from backdoor_core.learning.victim import TorchVictim, Victim, as_torch, load_victim
from backdoor_core.privacy.case import run_audit
from backdoor_core.privacy.findings import SIDES, audit_findings, gap
from backdoor_core.privacy.judge import Run, judge, resamples
from backdoor_core.privacy.signals import label_loss, raw_features
from backdoor_core.ranking import auroc
from backdoor_core.stages.audited import Audited, audited_stays
from backdoor_core.stages.data import Parts, load_parts
from backdoor_core.stages.poisoned import load_poisoning, triggered_test
from backdoor_core.statistics import Floats
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Run every chosen audit on the poisoned model and on its clean twin, and judge both on the same stays.

    A study without audits gets empty results.
    """
    results: dict[str, Any] = {"audits": {}, "note": None}
    scores: dict[str, dict[str, Floats]] = {}
    parts = load_parts(study)
    stays = audited_stays(parts)
    poisoning, manifest = load_poisoning(study, parts.train)
    # A poisoned stay is no member as it was: the model met it with the trigger.
    kept = np.ones(len(stays.label), dtype=np.bool_)
    if poisoning.mode == "replace":
        kept[poisoning.rows] = False
    if not study.params.audits:
        results["note"] = "the study chose no audit"
    else:
        results |= _audited(study, parts, stays, kept, scores)
        results["poisoned_stays"] = _poisoned_stays(study, parts, manifest)
    columns = {f"{name}.{side}": both[side] for name, both in scores.items() for side in SIDES}
    rows = stays.rows[kept]
    write_parquet(
        study.paths.run / "audit_scores.parquet",
        {"stay_id": parts.cohort.stay_id[rows], "member": stays.member[kept], **columns},
    )
    write_json(study.paths.run / "results_audit.json", results)


def _audited(
    study: Study, parts: Parts, stays: Audited, kept: Booleans, scores: dict[str, dict[str, Floats]]
) -> dict[str, Any]:
    params = study.params
    folders = {"poisoned": study.paths.run, "baseline": study.paths.baseline}
    victims = {
        side: load_victim(folder, study.model(), params.train.device, params.train.threads)
        for side, folder in folders.items()
    }
    measured = {side: _signals(study, parts, stays, kept, victims[side]) for side in SIDES}
    audits = study.audits()
    with progress("audits", len(audits)) as advance:
        for audit in audits:
            scores[audit.name] = _both(study, audit, measured)
            advance(audit.name)
    member, patients = stays.member[kept], stays.patients[kept]
    first = next(iter(scores.values()))
    weights = resamples(
        [Run(first["poisoned"], member, patients)],
        params.evaluate.replicates,
        seeds.generator(params.seed, "leak_bootstrap"),
    )
    statics = {name: column[stays.rows[kept]] for name, column in parts.cohort.statics.items()}
    subgroups = [(group.by, group.value, group.rows) for group in groups_of(statics)]
    controls = frozenset(audit.name for audit in audits if audit.controls)
    found = audit_findings(scores, controls, member, patients, weights, subgroups)
    for name, answer in found.items():
        auc, twin = answer["poisoned"]["auc"]["value"], answer["baseline"]["auc"]["value"]
        say(f"audit {name}: AUC {auc:.3f}, clean twin {twin:.3f}")
    return {
        "audits": found,
        "members": int(member.sum()),
        "nonmembers": int((~member).sum()),
        "references": params.audit.references,
        "loss": {side: gap(_loss(measured[side]), member) for side in SIDES},
        "auroc": {side: _auroc(measured[side], ~member) for side in SIDES},
    }


def _signals(study: Study, parts: Parts, stays: Audited, kept: Booleans, victim: Victim) -> Signals:
    """What audits may see of one model, on the stays that are kept."""
    label, logits = stays.label[kept], victim.logits(stays.view)[kept]
    validation = parts.validation
    folder = study.paths.run / "references"
    member, reference, outside = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("member", "logits", "population_logits")
    )
    references = population = None
    if len(member):
        references = References(member[:, kept], label_loss(reference[:, kept], label), reference[:, kept])
        target = victim.logits(validation.view)
        population = Population(
            loss=label_loss(target, validation.label),
            reference_loss=label_loss(outside, validation.label),
            labels=validation.label,
            logits=target,
            reference_logits=outside,
        )
    untrained = _untrained(study, victim)
    return Signals(
        groups=stays.patients[kept],
        loss=label_loss(logits, label),
        logits=logits,
        labels=label,
        references=references,
        population=population,
        inputs=raw_features(stays.view)[kept],
        untrained_loss=None if untrained is None else label_loss(untrained.logits(stays.view)[kept], label),
        truth=stays.member[kept],
    )


def _untrained(study: Study, victim: Victim) -> Victim | None:
    """The same architecture and preprocessing with fresh weights; None for a model without a network."""
    if not isinstance(victim, TorchVictim):
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer(study.params.seed, "audit", 0))
        fresh = as_torch(study.model()).build(victim.preprocessor.spec)
    return victim.with_state(fresh.state_dict())


def _both(study: Study, audit: Audit, measured: dict[str, Signals]) -> dict[str, Floats]:
    """Scores by side, with the same random numbers for both models and whichever other audits the study chose."""

    def scored(side: str) -> Floats:
        rng = seeds.generator(study.params.seed, "audit", *audit.name.encode())
        return np.asarray(run_audit(audit, AuditCase(measured[side], rng)), dtype=np.float64)

    poisoned = scored("poisoned")
    # What never sees a model says the same of both.
    sighted = audit.requires - {"inputs", "texts", "truth"}
    return {"poisoned": poisoned, "baseline": scored("baseline") if sighted else poisoned}


def _poisoned_stays(study: Study, parts: Parts, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Are the poisoned stays themselves told from triggered ones that the model never met, by its loss alone?

    Members are the poisoned stays as the model met them, with trigger and label; non-members are test stays of another
    label with the same trigger and the target as label. For the twin neither are members: it is the control.
    """
    poisoning, _ = load_poisoning(study, parts.train)
    dirty = ~poisoning.cover
    others = parts.test.label != study.params.poison.target
    if not dirty.any() or not others.any():
        return None
    params = study.params
    triggered = triggered_test(study, parts.test.view, manifest["trigger"]["fitted"]).take(others)
    met = poisoning.view.take(dirty)
    patients = parts.cohort.subject_id
    groups = np.concatenate([patients[parts.splits.train][poisoning.rows[dirty]], patients[parts.splits.test][others]])
    member = np.arange(len(groups)) < int(dirty.sum())
    labels = np.full(len(groups), params.poison.target, dtype=np.int8)
    found: dict[str, Any] = {}
    weights = None
    for side, folder in (("poisoned", study.paths.run), ("baseline", study.paths.baseline)):
        victim = load_victim(folder, study.model(), params.train.device, params.train.threads)
        logits = np.concatenate([victim.logits(met), victim.logits(triggered)])
        one = Run(-label_loss(logits, labels), member, groups)
        if weights is None:
            rng = seeds.generator(params.seed, "leak_bootstrap", 1)
            weights = resamples([one], params.evaluate.replicates, rng)
        found[side] = judge([one], weights)["auc"]
    return {"members": int(member.sum()), "nonmembers": int((~member).sum()), **found}


def _loss(signals: Signals) -> Floats:
    return np.asarray(signals.loss, dtype=np.float64)


def _auroc(signals: Signals, rows: Booleans) -> float | None:
    """Utility: AUROC of the label on the stays that are no members."""
    assert signals.logits is not None
    assert signals.labels is not None
    value = float(auroc(signals.logits[rows], signals.labels[rows] == 1))
    return None if np.isnan(value) else value
