"""Every model on PhysioNet 2012 set-a, 48 hours: test AUROC, AUPRC, ECE and seconds over several seeds.

    python benchmarks/models.py --data /path/to/physionet2012 [--seeds 5] [--workers 2] [--write FILE]

Each seed draws its own 70/15/15 split by patient, weights and order. Options are the defaults of params.yaml and
of each model; nothing is chosen on the test part. Finished fits are kept in --work, so that a stopped run goes on.
The preprocessing, threshold and evaluation are those of a study.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tables import keep, kept_results, mean_and_interval, replace_section

from backdoor_core import seeds
from backdoor_core.cohort.splits import PARTS, split_by_patient
from backdoor_core.cohort.storage import Cohort, Rows, build_cohort, load_cohort
from backdoor_core.contracts import Context, Inclusion, Model
from backdoor_core.learning.training import train_victim
from backdoor_core.params import Params
from backdoor_core.plugins import discover
from backdoor_core.ranking import auroc, average_precision
from backdoor_core.statistics import expected_calibration_error

MODELS = {
    "table": ("logistic", "gbdt", "mlp", "tab_transformer", "ft_transformer"),
    "series": ("lstm", "gru", "tcn"),
}
PUBLISHED = """\
Published on the same challenge, for orientation (splits, sets and inputs differ; `set-a` unless said otherwise):
mTAN paper (Shukla & Marlin 2021, table 2), AUROC: RNN-Impute 0.764, GRU-D 0.818, SeFT 0.795, IP-Nets 0.819,
Phased-LSTM 0.836, ODE-RNN 0.833, mTAND-Full 0.858. Severity scores given with the records: SAPS-I 0.646, SOFA 0.620."""


def build(data: Path, work: Path, features: str) -> Path:
    """The 48 h cohort with one feature set, built once."""
    out = work / f"cohort_{features}"
    if not (out / "card.json").exists():
        catalog = discover()
        given = {"records": str(data / "set-a.tar.gz"), "outcomes": str(data / "Outcomes-a.txt")}
        source = catalog.get("cohort", "physionet2012").component(
            catalog.resolve("cohort", "physionet2012", given), Context(root=work)
        )
        inclusion = Inclusion(window_hours=48, min_los_hours=48, features=features, views=("table", "series"))
        build_cohort(source, inclusion, np.random.default_rng(0), out)
    return out


@cache
def cohort_of(folder: Path) -> Cohort:
    return load_cohort(folder)


def one_fit(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Figures of one model and seed on the test part."""
    catalog, cohort = discover(), cohort_of(folder)
    model: Model = catalog.get("model", name).component(catalog.resolve("model", name, {}), Context(root=folder))
    params = Params(cohort="physionet2012", trigger="none", model=name, seed=seed)
    rng = seeds.generator(seed, "splits")
    parts = split_by_patient(cohort.stay_id, cohort.subject_id, cohort.label, params.splits, rng)
    view = cohort.view(model.modality)
    rows = {part: np.flatnonzero(np.isin(cohort.stay_id, parts[part])) for part in PARTS}
    train, validation, test = (Rows(view.take(rows[part]), cohort.label[rows[part]]) for part in PARTS)
    started = time.perf_counter()
    done = train_victim(model, train, validation, train.view, params, seeds.integer(seed, "training"))
    seconds = time.perf_counter() - started
    probability, truth = done.victim.probability(test.view), test.label == 1
    return {
        "auroc": float(auroc(probability, truth)),
        "auprc": float(average_precision(probability, truth)),
        "ece": float(expected_calibration_error(probability, truth)),
        "seconds": seconds,
        "parameters": done.victim.parameters,
    }


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| input | model | AUROC | AUPRC | ECE | seconds a fit | parameters | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = dict.fromkeys((r["input"], r["model"]) for r in sorted(results, key=lambda r: (r["order"], r["seed"])))
    for given, model in cells:
        of_cell = [r for r in results if (r["input"], r["model"]) == (given, model)]
        figures = " | ".join(mean_and_interval([r[f] for r in of_cell]) for f in ("auroc", "auprc", "ece"))
        seconds = np.median([r["seconds"] for r in of_cell])
        lines.append(
            f"| {given} | {model} | {figures} | {seconds:.1f} | {of_cell[0]['parameters']:,} | {len(of_cell)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/models"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--write", type=Path, help="replace the section `models` of this file")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    inputs = [("core30 table", "core30", "table"), ("rich table", "rich", "table"), ("series", "rich", "series")]
    folders = {features: build(args.data, args.work, features) for features in ("core30", "rich")}
    jobs = [
        {"order": [i, j], "input": given, "features": features, "model": model, "seed": seed}
        for seed, (i, (given, features, kind)) in product(range(args.seeds), enumerate(inputs))
        for j, model in enumerate(MODELS[kind])
        if not args.models or model in args.models
    ]
    kept = args.work / "results.jsonl"
    results = kept_results(kept)
    done = {(r["input"], r["model"], r["seed"]) for r in results}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(one_fit, folders[job["features"]], job["model"], job["seed"]): job
            for job in jobs
            if (job["input"], job["model"], job["seed"]) not in done
        }
        for number, future in enumerate(as_completed(waiting), 1):
            result = {**waiting[future], **future.result()}
            results.append(result)
            keep(kept, [result])
            said = f"{result['input']} {result['model']} seed {result['seed']}"
            print(f"{number}/{len(waiting)} {said}: {result['auroc']:.3f}, {result['seconds']:.0f} s", file=sys.stderr)
    wanted = {(job["input"], job["model"], job["seed"]) for job in jobs}
    text = table([r for r in results if (r["input"], r["model"], r["seed"]) in wanted])
    print(text)
    if args.write:
        replace_section(args.write, "models", f"{text}\n\n{PUBLISHED}")


if __name__ == "__main__":
    main()
