"""Stage `audit`: which stays were the models trained on, and does a backdoor leak more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.attack.poison import Poisoning
from backdoor_core.attack.selection import takes_target
from backdoor_core.attack.subgroups import groups_of
from backdoor_core.attack.surrogate import margin
from backdoor_core.auditing import Signals
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.console import progress, say
from backdoor_core.contracts import Booleans, Floats
from backdoor_core.files import write_json
from backdoor_core.learning.victim import Victim, load_victim
from backdoor_core.privacy.alike import judged_stays
from backdoor_core.privacy.findings import SIDES, findings_of_models
from backdoor_core.privacy.measured import Audited, measure, only, scores_by_model, untrained
from backdoor_core.privacy.poisoned import poisoned_stays
from backdoor_core.stages.audited import audited_stays, load_answers
from backdoor_core.stages.data import Parts, load_parts
from backdoor_core.stages.poisoned import load_poisoning, triggered_test
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Run every chosen audit on the poisoned model and on its clean twin, and judge both on the same stays.

    A study without audits gets empty results.
    """
    params, parts = study.params, load_parts(study)
    stays = audited_stays(parts)
    poisoning, _ = load_poisoning(study, parts.train)
    kept = _judged(study, parts, poisoning, stays)
    rows = stays.rows[kept]
    results: dict[str, Any] = {"audits": {}, "note": None if params.audits else "the study chose no audit"}
    columns: dict[str, Floats] = {}
    if params.audits:
        model, train, answers = study.model(), params.train, load_answers(study.paths.run / "references")
        folders = {"poisoned": study.paths.run, "baseline": study.paths.baseline}
        victims = {side: load_victim(folders[side], model, train.device, train.threads) for side in SIDES}
        measured = {}
        for side, victim in victims.items():
            fresh = untrained(model, victim, params.seed)
            measured[side] = only(measure(stays, parts.validation, victim, answers, fresh), kept)
        found, columns = _audited(study, measured, {name: c[rows] for name, c in parts.cohort.statics.items()})
        results |= found | {"poisoned_stays": _poisoned_stays(study, parts, poisoning, victims)}
    shared = {"stay_id": parts.cohort.stay_id[rows], "member": stays.member[kept]}
    write_parquet(study.paths.run / "audit_scores.parquet", {**shared, **columns})
    write_json(study.paths.run / "results_audit.json", results)


def _judged(study: Study, parts: Parts, poisoning: Poisoning, stays: Audited) -> Booleans:
    """(N,) the audited stays without those that were poisoned in place, nor as many like them of the test part."""
    if poisoning.mode == "add" or not len(poisoning.rows):
        return np.ones(len(stays.label), dtype=np.bool_)
    near = study.params.poison.selection == "near_boundary"
    apart = margin(parts.test.view, parts.test.label) if near else None
    rng = seeds.generator(study.params.seed, "audit_stays")
    return judged_stays(stays, poisoning.rows, poisoning.cover, rng, apart)


def _audited(
    study: Study, measured: Mapping[str, Signals], statics: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """The findings, and the scores by audit and side."""
    params, audits = study.params, study.audits()
    scores = {}
    with progress("audits", len(audits)) as advance:
        for audit in audits:
            scores[audit.name] = scores_by_model(audit, measured, params.seed)
            advance(audit.name)
    controls = frozenset(audit.name for audit in audits if audit.controls)
    subgroups = [(group.by, group.value, group.rows) for group in groups_of(statics)]
    rng = seeds.generator(params.seed, "leak_bootstrap")
    found = findings_of_models(scores, measured, controls, subgroups, params.evaluate.replicates, rng)
    for name, answer in found["audits"].items():
        auc, twin = answer["poisoned"]["auc"]["value"], answer["baseline"]["auc"]["value"]
        say(f"audit {name}: AUC {auc:.3f}, clean twin {twin:.3f}")
    return found, {f"{name}.{side}": both[side] for name, both in scores.items() for side in SIDES}


def _poisoned_stays(
    study: Study, parts: Parts, poisoning: Poisoning, victims: Mapping[str, Victim]
) -> dict[str, Any] | None:
    """See `privacy.poisoned`; None where no stay is poisoned or no test stay has their label."""
    params, splits, patients = study.params, parts.splits, parts.cohort.subject_id
    dirty, others = ~poisoning.cover, (parts.test.label == params.poison.target) == takes_target(params.poison)
    if not dirty.any() or not others.any():
        return None
    return poisoned_stays(
        victims,
        met=poisoning.view.take(dirty),
        triggered=triggered_test(study, parts.test.view, poisoning.fitted).take(others),
        patients=np.concatenate([patients[splits.train][poisoning.rows[dirty]], patients[splits.test][others]]),
        target=params.poison.target,
        replicates=params.evaluate.replicates,
        rng=seeds.generator(params.seed, "leak_bootstrap", 1),
    )
