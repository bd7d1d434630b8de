"""Triggers by models by rates, several seeds each: ASR, the clean twin's, the lift, the cost, the plausibility.

    python benchmarks/attacks.py --cohort synthetic [--write docs/results.md]
    python benchmarks/attacks.py --cohort set-a --data /path/to/physionet2012 [--write docs/results.md]

Each seed draws its own 70/15/15 split by patient, poisoned stays, weights and order. Params and options are those of
params.yaml. Finished trials are kept in --work, so that a stopped run goes on. Intervals are t-intervals over seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tables import Result, keep, kept_results, mean_and_interval, replace_section

from backdoor_core import seeds
from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.telling_apart import telling_apart
from backdoor_core.attack.trials import Bench, Replicate, Trial
from backdoor_core.cohort.storage import Cohort, build_cohort, load_cohort
from backdoor_core.contracts import Context, Inclusion, Model, Trigger
from backdoor_core.study import Study, load_study
from backdoor_core.views import as_grid

REPOSITORY = Path(__file__).resolve().parents[1]
TRIGGERS = {
    "table": ("rare_value", "missingness", "hybrid", "feature_shift", "in_range", "correlation"),
    "series": (
        "rare_value", "missingness", "hybrid", "feature_shift", "in_range", "correlation",
        "temporal_pattern", "sampling_pattern",
    ),
}  # fmt: skip
RATES = (0.005, 0.01, 0.02, 0.05)
DEFAULT_STAYS = 10_000
FURTHER = {"in_range": (0.1,)}
"""Rates of single triggers beyond the others'."""


def build(study: Study, name: str, data: Path | None, stays: int, out: Path) -> Cohort:
    """The 24 h core30 cohort, built once."""
    if not (out / "card.json").exists():
        if name == "set-a":
            if data is None:
                sys.exit("--cohort set-a needs --data, the folder of the PhysioNet 2012 files")
            source, given = (
                "physionet2012",
                {
                    "records": str(data / "set-a.tar.gz"),
                    "outcomes": str(data / "Outcomes-a.txt"),
                },
            )
        else:
            source, given = "synthetic", {"stays": stays}
        registered = study.catalog.get("cohort", source)
        component = registered.component(study.catalog.resolve("cohort", source, given), Context(root=out.parent))
        rng = seeds.generator(study.params.seed, "cohort")
        build_cohort(component, Inclusion(views=("table", "series")), rng, out)
    return load_cohort(out)


def plausibility(cohort: Cohort, trigger: Trigger, replicate: Replicate) -> float:
    """How well a classifier tells triggered from clean test stays; 0.5 is not at all."""
    seed = replicate.seed
    fitted = trigger.fit(replicate.train.view, seeds.generator(seed, "trigger_fit"))
    triggered = trigger.apply(replicate.test.view, fitted, seeds.generator(seed, "trigger_apply", 1))
    patients = cohort.subject_id[np.isin(cohort.stay_id, replicate.test.view.stay_id)]
    clean, marked = as_grid(replicate.test.view), as_grid(triggered)
    rng, once = seeds.generator(seed, "plausibility"), np.ones((1, len(clean)))
    value = telling_apart(clean, marked, changed_cells(clean, marked), patients, once, rng)["auroc"]["value"]
    return float(value)


def run_trigger(
    bench: Bench,
    cohort: Cohort,
    trigger: Trigger,
    replicates: Sequence[Replicate],
    rates: Sequence[float],
) -> list[Result]:
    """All rates and seeds of one trigger on one model, at once."""
    cells = [(rate, replicate) for rate in rates for replicate in replicates]
    trials = [
        Trial(replicate, trigger, bench.params.poison.model_copy(update={"rate": rate, "count": None}))
        for rate, replicate in cells
    ]
    started = time.perf_counter()
    outcomes = bench.run(trials)
    seconds = (time.perf_counter() - started) / len(trials)
    told = {replicate.seed: plausibility(cohort, trigger, replicate) for replicate in replicates}
    return [
        {
            "rate": rate,
            "seed": replicate.seed,
            "poisoned": outcome.poisoned,
            "asr": outcome.asr,
            "twin": outcome.asr_baseline,
            "lift": outcome.lift,
            "auroc_change": outcome.auroc_change,
            "told": told[replicate.seed],
            "seconds": seconds,
        }
        for (rate, replicate), outcome in zip(cells, outcomes, strict=True)
    ]


def table(results: Sequence[Result]) -> str:
    lines = [
        "| model | trigger | rate | stays | ASR | twin's ASR | lift | AUROC change | told apart, AUROC | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, trigger, rate in dict.fromkeys((r["model"], r["trigger"], r["rate"]) for r in results):
        cell = [r for r in results if (r["model"], r["trigger"], r["rate"]) == (model, trigger, rate)]
        figures = " | ".join(
            mean_and_interval([r[name] for r in cell]) for name in ("asr", "twin", "lift", "auroc_change", "told")
        )
        stays = round(float(np.mean([r["poisoned"] for r in cell])))
        lines.append(f"| {model} | {trigger} | {rate:.1%} | {stays} | {figures} | {len(cell)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", choices=("synthetic", "set-a"), required=True)
    parser.add_argument("--data", type=Path, help="folder of the PhysioNet 2012 files, for set-a")
    parser.add_argument("--stays", type=int, default=DEFAULT_STAYS, help="of the synthetic cohort")
    parser.add_argument("--work", type=Path, default=Path("runs/attacks"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["mlp", "gbdt", "lstm"])
    parser.add_argument("--triggers", nargs="*", help="only these")
    parser.add_argument(
        "--write", type=Path, help="replace the section `attacks: COHORT` (or `attacks: synthetic-STAYS`) of this file"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    study = load_study(REPOSITORY)
    # Stays of another number are other results, and have a place of their own.
    named = args.cohort if args.cohort == "set-a" or args.stays == DEFAULT_STAYS else f"{args.cohort}-{args.stays}"
    cohort = build(study, args.cohort, args.data, args.stays, args.work / f"cohort_{named}")
    kept = args.work / f"{named}.jsonl"
    results = kept_results(kept)
    for name in args.models:
        model = study.component("model", name)
        assert isinstance(model, Model)
        wanted = [t for t in TRIGGERS[model.modality] if not args.triggers or t in args.triggers]
        replicates = [Replicate.of(cohort, model, study.params, seed) for seed in range(args.seeds)]
        bench = Bench(model, study.params)
        for trigger_name in wanted:
            done = {(r["rate"], r["seed"]) for r in results if (r["model"], r["trigger"]) == (name, trigger_name)}
            rates = [
                rate
                for rate in (*RATES, *FURTHER.get(trigger_name, ()))
                if not all((rate, seed) in done for seed in range(args.seeds))
            ]
            if not rates:
                continue
            trigger = study.component("trigger", trigger_name)
            assert isinstance(trigger, Trigger)
            found = run_trigger(bench, cohort, trigger, replicates, rates)
            found = [{"model": name, "trigger": trigger_name, **result} for result in found]
            keep(kept, found)
            results += found
            lift = np.mean([r["lift"] for r in found if r["rate"] == max(rates)])
            print(f"{name}, {trigger_name}: lift {lift:.3f} at {max(rates):.1%}", file=sys.stderr, flush=True)
    text = table([r for r in results if r["model"] in args.models and r["seed"] < args.seeds])
    print(text)
    if args.write:
        replace_section(args.write, f"attacks: {named}", text)


if __name__ == "__main__":
    main()
