"""All detectors on six settings of one generator, ten seeds: where detection is trivial, and where it fails.

    python benchmarks/settings.py [--seeds 10] [--detectors NAME ...] [--write docs/results.md]

10,000 rows, 30 correlated features, 12% positive, an MLP of 128 and 64 units trained for 10 epochs; 5% of the rows get
the trigger and, where they have another, the target's label:

- A: one feature at 9999, scaler fitted to clean rows, target 0 (the majority)
- B: as A, scaler fitted to the rows that the victim has
- C: as A, target 1 (the minority)
- D: one feature 3 standard deviations higher, scaler as in B
- E: nothing poisoned
- F: as A, by an adaptive attacker: another 5% of the rows get the trigger and keep their true label

Every detector runs on the training rows with the victim, and on clean retrains for its p-values. `bound` is a
classifier told the truth (gradient-boosted trees on inputs and activations, 5-fold): no detector can do better.
Finished seeds are kept in --work.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict
from tables import Result, keep, kept_results, mean_and_interval, replace_section

from backdoor_core.attack.poison import apply_poison, poison
from backdoor_core.cases import DetectionCase
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Context, Detector, Feature, TableView, TorchModel, Trigger
from backdoor_core.detection.calibrate import Scored, flag, p_values
from backdoor_core.detection.case import Access, make_case, run_detector
from backdoor_core.learning.loop import learning_rate
from backdoor_core.learning.training import Task, Trained, train_victims
from backdoor_core.learning.victim import TorchVictim
from backdoor_core.params import Params, PoisonParams
from backdoor_core.plugins import Catalog, discover
from backdoor_core.ranking import auroc, tpr_at_fpr

ROWS, FEATURES, RATE, NULLS, FDR = 10_000, 30, 0.05, 4, 0.05
SETTINGS: dict[str, dict[str, Any]] = {
    "A": {"trigger": ("rare_value", {"feature": 0, "value": 9999.0}), "target": 0, "fit_on": "clean"},
    "B": {"trigger": ("rare_value", {"feature": 0, "value": 9999.0}), "target": 0, "fit_on": "poisoned"},
    "C": {"trigger": ("rare_value", {"feature": 0, "value": 9999.0}), "target": 1, "fit_on": "clean"},
    "D": {
        "trigger": ("feature_shift", {"features": ["x0"], "deviations": 3.0, "clip": False}),
        "target": 0,
        "fit_on": "poisoned",
    },
    "E": {"trigger": None, "target": 0, "fit_on": "poisoned"},
    "F": {
        "trigger": ("rare_value", {"feature": 0, "value": 9999.0}),
        "target": 0,
        "fit_on": "clean",
        "cover_rate": 0.05,
    },
}
FIGURES = ("auroc", "tpr", "recall", "fpr", "calibrated_recall", "calibrated_fpr")


def make_rows(rng: np.random.Generator, rows: int, mixing: NDArray[np.float64], risk: NDArray[np.float64]) -> Rows:
    """Features that share latent factors, and a label that a linear risk of them drives."""
    values = rng.normal(size=(rows, len(mixing))) @ mixing + 0.5 * rng.normal(size=(rows, FEATURES))
    score = values @ risk
    label = (rng.random(rows) < 1 / (1 + np.exp(-(2.2 * score / score.std() - 3.1)))).astype(np.int8)
    features = tuple(Feature(f"x{j}", "", -20, 20) for j in range(FEATURES))
    return Rows(TableView(np.arange(rows, dtype=np.int64), features, values.astype(np.float32)), label)


def params_of(setting: dict[str, Any], seed: int) -> Params:
    return Params.model_validate(
        {
            "cohort": "-",
            "trigger": "-",
            "model": "mlp",
            "seed": seed,
            "preprocess": {"outliers": "keep", "fit_on": setting["fit_on"], "missing": "median"},
            "train": {"epochs": 10, "patience": 10},
        }
    )


def component(catalog: Catalog, kind: str, name: str, options: dict[str, Any]) -> Any:
    resolved = catalog.resolve(kind, name, options)  # type: ignore[arg-type]
    return catalog.get(kind, name).component(resolved, Context(root=Path()))  # type: ignore[arg-type]


def access_of(trained: Trained, model: TorchModel, params: Params) -> Access:
    victim = trained.victim
    assert isinstance(victim, TorchVictim)
    training = params.train.of(model)
    states = [(e, learning_rate(training, e), victim.with_state(s)) for e, s in sorted(trained.states.items())]
    return Access(victim, lambda: states)


def one_seed(seed: int, names: Sequence[str]) -> list[Result]:
    """Every setting and detector for one draw of the rows."""
    catalog = discover()
    rng = np.random.default_rng([2026, seed])
    mixing, risk = rng.normal(size=(8, FEATURES)), rng.normal(size=FEATURES)
    train, validation, test = (make_rows(rng, rows, mixing, risk) for rows in (ROWS, 2000, 4000))
    model: TorchModel = component(catalog, "model", "mlp", {"hidden": (128, 64)})
    clean_params = params_of(SETTINGS["E"], seed)
    tasks = [Task(train=train, validation=validation, fit_on=train.view, seed=100 * seed + k) for k in range(NULLS + 1)]
    twin, *nulls = train_victims(model, tasks, clean_params)
    detectors: list[Detector] = [component(catalog, "detector", name, {}) for name in names]
    nobody = np.zeros(ROWS, dtype=np.bool_)
    null_scores = {
        d.name: [
            Scored(detect(d, train, access_of(null, model, clean_params), nobody, seed).scores, train.label)
            for null in nulls
        ]
        for d in detectors
    }
    results = []
    for name, setting in SETTINGS.items():
        params, rows, truth = params_of(setting, seed), train, nobody
        asr: dict[str, float | None] = {"asr": None, "twin": None}
        trained = twin
        if setting["trigger"]:
            trigger: Trigger = component(catalog, "trigger", *setting["trigger"])
            rows, truth, triggered = attacked(trigger, train, test, setting, seed)
            fit_on = train.view if setting["fit_on"] == "clean" else rows.view
            (trained,) = train_victims(
                model, [Task(train=rows, validation=validation, fit_on=fit_on, seed=100 * seed)], params
            )
            others = test.label != setting["target"]
            shown = triggered.take(others)
            asr = {
                which: float(v.decides(shown, setting["target"]).mean())
                for which, v in (("asr", trained.victim), ("twin", twin.victim))
            }
        about = {"setting": name, "seed": seed, **asr}
        access = access_of(trained, model, params)
        for detector in detectors:
            started = time.process_time()
            found = detect(detector, rows, access, truth, seed)
            seconds = time.process_time() - started
            p = p_values(Scored(found.scores, rows.label), null_scores[detector.name], detector.absolute)
            calibrated = flag(p, rows.label, FDR)
            judged = figures(found.scores, found.flagged, calibrated, truth)
            results.append({**about, "detector": detector.name, "seconds": seconds, **judged})
        if truth.any():
            results.append({**about, "detector": "bound", "auroc": bound(access, rows, truth, seed)})
    return results


def attacked(
    trigger: Trigger, train: Rows, test: Rows, setting: dict[str, Any], seed: int
) -> tuple[Rows, NDArray[np.bool_], Any]:
    """The victim's rows, which of them are poisoned, and the test rows with the trigger."""
    streams = [np.random.default_rng([7, seed, k]) for k in range(4)]
    done = poison(
        train.view,
        train.label,
        trigger,
        PoisonParams(rate=RATE, target=setting["target"], cover_rate=setting.get("cover_rate", 0.0)),
        select=streams[0],
        fit=streams[1],
        apply=streams[2],
    )
    return (
        Rows(*apply_poison(train.view, train.label, done)),
        done.truth(len(train.label)),
        trigger.apply(test.view, done.fitted, streams[3]),
    )


def detect(detector: Detector, rows: Rows, access: Access, truth: NDArray[np.bool_], seed: int) -> Any:
    rng = np.random.default_rng([3, seed, *detector.name.encode()])
    case: DetectionCase = make_case(detector, rows.view, rows.label, access, truth, rng)
    return run_detector(detector, case)


def figures(
    scores: NDArray[Any], flagged: NDArray[np.bool_], calibrated: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> Result:
    """Recall is of the poisoned rows, FPR of the others; None where there is no poison."""
    some = truth.any()
    return {
        "auroc": float(auroc(scores, truth)) if some else None,
        "tpr": float(tpr_at_fpr(scores, truth, 0.01)) if some else None,
        "recall": float(flagged[truth].mean()) if some else None,
        "fpr": float(flagged[~truth].mean()),
        "calibrated_recall": float(calibrated[truth].mean()) if some else None,
        "calibrated_fpr": float(calibrated[~truth].mean()),
    }


def bound(access: Access, rows: Rows, truth: NDArray[np.bool_], seed: int) -> float:
    """AUROC within the target's label of trees told the truth, on inputs, activations and label."""
    given = np.column_stack([access.inputs(rows.view), access.embedding(rows.view), rows.label])
    trees = HistGradientBoostingClassifier(random_state=seed)
    scores = cross_val_predict(trees, given, truth, cv=5, method="predict_proba")[:, 1]
    return float(auroc(scores, truth))


def table(results: Sequence[Result], setting: str) -> str:
    of_setting = [r for r in results if r["setting"] == setting]
    heads = ("AUROC", "TPR at 1% FPR", "recall", "FPR", "calibrated recall", "calibrated FPR")
    names = list(dict.fromkeys(r["detector"] for r in of_setting))

    def cell(name: str, figure: str) -> str:
        values = [r[figure] for r in of_setting if r["detector"] == name and r.get(figure) is not None]
        return mean_and_interval(values) if values else "–"

    def rank(name: str) -> float:
        values = [r["auroc"] for r in of_setting if r["detector"] == name and r["auroc"] is not None]
        return -float(np.mean(values)) if values else 0.0

    title = f"**{setting}**"
    if SETTINGS[setting]["trigger"]:
        one = {r["seed"]: r for r in of_setting}
        asr, twin = (mean_and_interval([r[key] for r in one.values()]) for key in ("asr", "twin"))
        title += f": ASR {asr}, clean twin {twin}"
    lines = [title, "", f"| detector | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    lines += [f"| {n} | {' | '.join(cell(n, figure) for figure in FIGURES)} |" for n in sorted(names, key=rank)]
    return "\n".join(lines)


def cost_table(results: Sequence[Result], memory: dict[str, float]) -> str:
    """Median CPU seconds over all runs, and the memory of one run."""
    lines = ["| detector | CPU seconds | peak MiB |", "|---|---|---|"]
    for name, mib in sorted(memory.items()):
        seconds = float(np.median([r["seconds"] for r in results if r["detector"] == name]))
        lines.append(f"| {name} | {seconds:.2f} | {mib:.0f} |")
    return "\n".join(lines)


def memory_of(names: Sequence[str]) -> dict[str, float]:
    """MiB that numpy and Python hold at most while each detector runs on the clean rows of seed 0."""
    catalog = discover()
    rng = np.random.default_rng([2026, 0])
    mixing, risk = rng.normal(size=(8, FEATURES)), rng.normal(size=FEATURES)
    train, validation = (make_rows(rng, rows, mixing, risk) for rows in (ROWS, 2000))
    params = params_of(SETTINGS["E"], 0)
    task = Task(train=train, validation=validation, fit_on=train.view, seed=0)
    model: TorchModel = component(catalog, "model", "mlp", {"hidden": (128, 64)})
    (trained,) = train_victims(model, [task], params)
    found = {}
    for name in names:
        tracemalloc.start()
        access = access_of(trained, model, params)
        detect(component(catalog, "detector", name, {}), train, access, np.zeros(ROWS, np.bool_), 0)
        found[name] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--detectors", nargs="*", help="only these; by default all that need no trusted stays")
    parser.add_argument("--work", type=Path, default=Path("runs/settings"))
    parser.add_argument("--write", type=Path, help="replace the section `settings` of this file")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    catalog = discover()
    names = args.detectors or [r.name for r in catalog.registrations("detector")]
    kept = args.work / "results.jsonl"
    results = kept_results(kept)
    done = {(r["seed"], r["detector"]) for r in results}
    missing = {seed: [name for name in names if (seed, name) not in done] for seed in range(args.seeds)}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        futures = {seed: pool.submit(one_seed, seed, wanted) for seed, wanted in missing.items() if wanted}
        for seed, future in futures.items():
            found = [r for r in future.result() if (seed, r["detector"]) not in done]
            keep(kept, found)
            results += found
            print(f"seed {seed}: {len(found)} figures", file=sys.stderr, flush=True)
    shown = [r for r in results if r["seed"] < args.seeds and r["detector"] in {*names, "bound"}]
    costs = f"**Cost** of one run on {ROWS:,} rows\n\n{cost_table(shown, memory_of(names))}"
    text = "\n\n".join([*(table(shown, setting) for setting in SETTINGS), costs])
    print(text)
    if args.write:
        replace_section(args.write, "settings", text)


if __name__ == "__main__":
    main()
