"""Verb `dose`: the smallest poison dose that works, over several seeds."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from backdoor_core.attack.dose import Doses, Point, find_doses, summary
from backdoor_core.attack.selection import poison_count, takes_target
from backdoor_core.attack.trials import Bench, Replicate, Trial
from backdoor_core.cohort.storage import load_cohort
from backdoor_core.console import say
from backdoor_core.errors import BackdoorError
from backdoor_core.files import write_json
from backdoor_core.study import Study, check_compatible


def run(study: Study, seeds: int, levels: Sequence[float], most: float) -> None:
    """Find the dose for each of `levels` of lift over `seeds` seeds, up to the rate `most`; write run/dose.json.

    Lift is the smaller of the ASR's and of the trigger's effect, as the verdict has it (`Outcome.least_lift`).
    Raises `BackdoorError` for trigger `none`, or where there is no cohort yet.
    """
    check_compatible(study)
    params, model, trigger = study.params, study.model(), study.trigger()
    if trigger.name == "none":
        raise BackdoorError("params.yaml: trigger is none, which has no dose; choose another, such as rare_value")
    cohort = load_cohort(study.paths.cohort)
    replicates = [Replicate.of(cohort, model, params, params.seed + k) for k in range(seeds)]
    bench = Bench(model, params)
    limit = min(_most(replicate, study, most) for replicate in replicates)
    twins: list[float] = []

    def measure(points: Sequence[Point]) -> list[float]:
        trials = [
            Trial(replicates[k], trigger, params.poison.model_copy(update={"count": count})) for k, count in points
        ]
        outcomes = bench.run(trials)
        twins.extend(outcome.asr_baseline for outcome in outcomes)
        lifts = [outcome.least_lift for outcome in outcomes]
        for (k, count), lift in zip(points, lifts, strict=True):
            say(f"dose: seed {replicates[k].seed}, {count:,} stays: lift {lift:.3f}")
        return lifts

    doses = find_doses(measure, seeds, limit, levels)
    stays = len(replicates[0].train.label)
    write_json(study.paths.run / "dose.json", _content(study, doses, [r.seed for r in replicates], limit, stays))
    Console().print(_table(doses, limit, stays, max(twins)))


def _most(replicate: Replicate, study: Study, most: float) -> int:
    """The rate `most` in stays, or as many as are eligible where that is less."""
    label, poison = replicate.train.label, study.params.poison
    eligible = int(((label == poison.target) == takes_target(poison)).sum())
    asked = poison.model_copy(update={"rate": most, "count": None})
    return poison_count(asked.model_copy(update={"rate": min(most, eligible / len(label))}), len(label), eligible)


def _content(study: Study, doses: Doses, seeds: list[int], most: int, stays: int) -> dict[str, object]:
    return {
        "trigger": study.params.trigger,
        "model": study.params.model,
        "training_stays": stays,
        "most": most,
        "seeds": seeds,
        "levels": [
            {"lift": level, "stays_by_seed": list(counts), "stays": summary(counts).as_dict()}
            for level, counts in doses.by_level.items()
        ],
        "measured": [
            {"seed": seed, "stays": count, "lift": lift}
            for seed, lifts in zip(seeds, doses.lifts, strict=True)
            for count, lift in sorted(lifts.items())
            if count
        ],
    }


def _table(doses: Doses, most: int, stays: int, twin: float) -> Table:
    table = Table(
        title=f"Smallest dose, of {stays:,} training stays (at most {most:,} tried)",
        caption=f"Lift is ASR less the clean twin's, which is up to {twin:.2f} here: it cannot exceed 1 less that. "
        "Where the trigger's effect less the twin's is smaller, it is that.",
    )
    for column in ("lift of at least", "stays, geometric mean [95% interval]", "rate", "by seed"):
        table.add_column(column, justify="right")
    for level, counts in doses.by_level.items():
        found = summary(counts)
        by_seed = ", ".join("not reached" if count is None else f"{count:,}" for count in counts)
        if found.value is None:
            table.add_row(f"{level:g}", "not reached by every seed", "", by_seed)
            continue
        interval = "" if found.low is None or found.high is None else f" [{found.low:.0f}, {found.high:.0f}]"
        table.add_row(f"{level:g}", f"{found.value:.0f}{interval}", f"{found.value / stays:.2%}", by_seed)
    return table
