"""Stage `cleanse`: what is left of the attack once flagged stays are removed and the model is trained anew."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.attack.answers import ask
from backdoor_core.attack.remaining import Judge
from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import progress, say
from backdoor_core.contracts import Booleans
from backdoor_core.detection.filters import leaves_enough, random_filter
from backdoor_core.files import write_json
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.learning.victim import Victim, load_victim
from backdoor_core.stages.data import Parts, Shared, load_shared, test_weights
from backdoor_core.stages.mending import as_network, check_promise, repair_victim
from backdoor_core.stages.poisoned import load_poisoning, triggered_test, victims_rows
from backdoor_core.study import Study

UNDEFENDED = "undefended"


def run(study: Study, shared: Shared | None = None) -> None:
    """Remove what each detector flags, and for control as many stays at random, and exactly the poisoned ones.

    The flags are the calibrated ones where the study has null runs, else the detector's own. All models are trained
    at once, with the seed of the poisoned one. A filter that flags nothing leaves the undefended model.
    """
    shared = shared or load_shared(study)
    params, parts, model = study.params, shared.parts, study.model()
    poisoning, manifest = load_poisoning(study, parts.train)
    rows, truth = victims_rows(parts.train, poisoning), poisoning.truth(len(parts.train.label))
    filters = _filters(study, rows, truth)
    judge = _judge(study, parts, manifest["trigger"]["fitted"])
    undefended = load_victim(study.paths.run, model, params.train.device, params.train.threads)
    victims = {UNDEFENDED: undefended, **_retrained(study, shared, rows, filters)}
    figures = {name: judge.figures(victim) for name, victim in victims.items()}
    results: dict[str, Any] = {
        "flags": "calibrated" if params.detection.nulls else "own rule",
        UNDEFENDED: {"figures": figures[UNDEFENDED]},
        "filters": {},
    }
    for name in ("perfect", *(detector.name for detector in study.detectors())):
        flagged = filters[name]
        entry: dict[str, Any] = {"removed": int(flagged.sum()), "poisoned_removed": int((flagged & truth).sum())}
        if not leaves_enough(flagged, rows.label):
            entry |= {"figures": None, "random": None, "note": "it would remove every stay of a label"}
        else:
            entry["figures"] = figures.get(name, figures[UNDEFENDED])
            entry["random"] = None if name == "perfect" else figures.get(f"{name}.random", figures[UNDEFENDED])
        results["filters"][name] = entry
        if entry["removed"] and entry["figures"]:
            lift = entry["figures"]["asr_lift"]["value"]
            say(f"cleanse: {name} removes {entry['removed']:,} stays, lift afterwards {lift:.3f}")
    results["repairs"] = _repaired(study, parts, rows, undefended, judge)
    write_json(study.paths.run / "results_cleanse.json", results)


def _filters(study: Study, rows: Rows, truth: Booleans) -> dict[str, Booleans]:
    """What each filter removes, by name, and its random control as ``<name>.random``."""
    scores = read_parquet(study.paths.run / "detect" / "scores.parquet")
    column = "calibrated" if study.params.detection.nulls else "flagged"
    filters = {"perfect": truth}
    for detector in study.detectors():
        flagged = scores[f"{detector.name}.poisoned.{column}"].astype(np.bool_)
        # By what is removed and not by whom: detectors that flag the same stays share their control, and one fit.
        rng = seeds.generator(study.params.seed, "cleanse", *_digest(flagged))
        filters[detector.name] = flagged
        filters[f"{detector.name}.random"] = random_filter(flagged, rows.label, rng)
    return filters


def _digest(flagged: Booleans) -> bytes:
    return hashlib.sha256(flagged.tobytes()).digest()[:8]


def _retrained(study: Study, shared: Shared, rows: Rows, filters: Mapping[str, Booleans]) -> dict[str, Victim]:
    """The model trained without what each filter removes; filters that remove the same stays share one."""
    different: dict[bytes, list[str]] = {}
    for name, flagged in filters.items():
        if flagged.any() and leaves_enough(flagged, rows.label):
            different.setdefault(flagged.tobytes(), []).append(name)
    clean, parts = study.params.preprocess.fit_on == "clean", shared.parts
    tasks = []
    for names in different.values():
        keep = ~filters[names[0]]
        kept = Rows(rows.view.take(keep), rows.label[keep])
        fit_on = parts.train.view if clean else kept.view
        seed = seeds.integer(study.params.seed, "training")
        tasks.append(Task(train=kept, validation=parts.validation, fit_on=fit_on, seed=seed))
    with progress("cleansed models", len(tasks)) as advance:

        def on_done(numbers: Sequence[int]) -> None:
            for number in numbers:
                advance(", ".join(list(different.values())[number]))

        trained = train_victims(study.model(), tasks, study.params, on_done, shared.workers)
    return {name: done.victim for names, done in zip(different.values(), trained, strict=True) for name in names}


def _repaired(study: Study, parts: Parts, rows: Rows, victim: Victim, judge: Judge) -> dict[str, Any]:
    """Figures of the model after each repair, and the facts that the repair tells."""
    results: dict[str, Any] = {}
    for repair in study.repairs():
        rng = seeds.generator(study.params.seed, "repair", *repair.name.encode())
        mended, details = repair_victim(repair, as_network(victim), study, parts, rows, rng)
        figures = judge.figures(mended)
        say(f"cleanse: {repair.name}, lift afterwards {figures['asr_lift']['value']:.3f}")
        privacy = check_promise(repair, as_network(victim), study, parts, rows, details)
        results[repair.name] = {"figures": figures, "details": dict(details), "privacy": privacy}
        if privacy is not None:
            promised, shown = privacy["promised"]["epsilon"], privacy["epsilon"]
            say(f"cleanse: {repair.name} promises epsilon {promised:.2f}; its canaries show at least {shown:.2f}")
    return results


def _judge(study: Study, parts: Parts, fitted: Mapping[str, Any]) -> Judge:
    params, test = study.params, parts.test
    triggered = triggered_test(study, test.view, fitted)
    twin = load_victim(study.paths.baseline, study.model(), params.train.device, params.train.threads)
    return Judge(
        test=test,
        triggered=triggered,
        twin=ask(twin, test.view, triggered),
        weights=test_weights(study, parts),
        target=params.poison.target,
    )
