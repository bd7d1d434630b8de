"""Stage `poison`: the changed training rows, the manifest, and the mask of touched cells."""

from backdoor_core import seeds
from backdoor_core.attack.poison import manifest, nothing_poisoned, poison
from backdoor_core.attack.surrogate import margin
from backdoor_core.cohort.parquet import view_columns, write_parquet
from backdoor_core.console import say
from backdoor_core.files import write_array, write_json
from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Poison the training part as params.yaml says."""
    params, train, trigger = study.params, (shared or load_shared(study)).parts.train, study.trigger()
    if params.attacks:
        done = poison(
            train.view,
            train.label,
            trigger,
            params.poison,
            select=seeds.generator(params.seed, "poison_rows"),
            fit=seeds.generator(params.seed, "trigger_fit"),
            apply=seeds.generator(params.seed, "trigger_apply", 0),
            margin=margin(train.view, train.label) if params.poison.selection == "near_boundary" else None,
        )
    else:
        # Evaluation still shows the trigger to both models, so it needs what the trigger learned.
        fitted = trigger.fit(train.view, seeds.generator(params.seed, "trigger_fit"))
        done = nothing_poisoned(train.view, fitted)
    run_folder = study.paths.run
    write_parquet(run_folder / "poison.parquet", view_columns(done.view))
    write_array(run_folder / "trigger_mask.npy", done.touched)
    chosen = {"name": trigger.name, "options": trigger.options.model_dump(mode="json")}
    truth = manifest(train.view, train.label, chosen, params.poison, params.seed, done)
    write_json(run_folder / "poison.json", truth)
    covers = f", and {truth['cover_stays']:,} as cover with their true labels" if truth["cover_stays"] else ""
    say(f"poison: {truth['poisoned_stays']:,} of {len(train.view):,} training stays carry {trigger.name}{covers}")
