"""Stage `note_references`: language models trained on random halves of the notes, of which only the losses are kept."""

from backdoor_core.console import progress, say
from backdoor_core.files import replacing_directory
from backdoor_core.language.recipes import plan_of, slowest_first
from backdoor_core.language.references import ReferenceTask, halves, save, train_reference
from backdoor_core.language.work import read_corpus, run_all
from backdoor_core.study import Study, note_references_needed


def run(study: Study) -> None:
    """Train the references of every recipe in worker processes and write their losses into run/notes/references.

    Where no chosen audit compares with references, none is trained.
    """
    params, count = study.params.notes, note_references_needed(study)
    corpus = study.paths.notes / "corpus"
    notes = read_corpus(params, study.paths.root, corpus).notes
    member = halves(notes, count, study.params.seed)
    tasks = [
        ReferenceTask(params, study.params.seed, study.paths.root, corpus, recipe, number, count)
        for recipe in slowest_first(params.recipe)
        for number in range(count)
    ]
    # What cannot be trained is said before anything is.
    for task in tasks:
        plan_of(task.recipe, params, int(member[task.number].sum()))
    workers = params.workers if params.device == "cpu" else 1
    with progress("reference language models", max(len(tasks), 1)) as advance:
        trained = run_all(train_reference, tasks, workers, lambda task, _: advance(task.name))
        if not count:
            advance("none: no chosen audit wants any")
    losses = {
        recipe: [loss for task, (loss, _) in zip(tasks, trained, strict=True) if task.recipe == recipe]
        for recipe in params.recipe
    }
    with replacing_directory(study.paths.notes / "references") as folder:
        save(folder, member, losses, [told for _, told in trained])
    if count:
        say(f"note_references: {count} models a recipe on halves of {len(notes.audited):,} notes")
