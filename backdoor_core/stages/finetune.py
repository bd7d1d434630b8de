"""Stage `finetune`: a language model trained on the members, by recipe and seed."""

from pathlib import Path

from backdoor_core.console import progress
from backdoor_core.files import replacing_directory, write_json
from backdoor_core.language.recipes import plan_of, slowest_first
from backdoor_core.language.work import Task, read_corpus, run_all, train_one
from backdoor_core.notes_params import Recipe
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Train the models in worker processes and write weights, NLL of every note by epoch, and what was done."""
    params = study.params.notes
    with replacing_directory(study.paths.notes / "models") as folder:
        tasks = tasks_of(study, folder)
        # What cannot be trained is said before anything is.
        read = read_corpus(params, study.paths.root, study.paths.notes / "corpus")
        for recipe in params.recipe:
            plan_of(recipe, params, int(read.notes.member[0].sum()))
        workers = params.workers if params.device == "cpu" else 1
        with progress("language models", len(tasks)) as advance:
            told = run_all(train_one, tasks, workers, lambda task, _: advance(task.name))
        write_json(folder / "training.json", {"models": told})


def tasks_of(study: Study, models: Path) -> list[Task]:
    """A task for every recipe and seed, the slowest recipe first, and with `dp` the run with canaries."""
    params = study.params.notes

    def task(recipe: Recipe, number: int, canaries: bool = False) -> Task:
        return Task(
            params=params,
            seed=study.params.seed,
            root=study.paths.root,
            corpus=study.paths.notes / "corpus",
            models=models,
            recipe=recipe,
            number=number,
            canaries=canaries,
        )

    slow = slowest_first(params.recipe)
    found = [task(recipe, number) for recipe in slow for number in range(params.seeds)]
    with_canaries = [task("dp", 0, True)] if "dp" in slow and params.dp.canaries else []
    return with_canaries + found
