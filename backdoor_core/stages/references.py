"""Stage `references`: models trained on random halves of the audited stays, of which only their answers are kept."""

from collections.abc import Sequence

import numpy as np

from backdoor_core import seeds
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import progress, say
from backdoor_core.files import replacing_directory, write_array
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.privacy.references import membership_matrix
from backdoor_core.stages.audited import audited_stays
from backdoor_core.stages.data import load_parts
from backdoor_core.study import Study, references_needed


def run(study: Study) -> None:
    """Fit the study's model on each half, many at once, and write their log-odds of every stay into run/references.

    The halves are of whole patients of the training and the test part together; the validation part serves each as it
    serves the study's own models. They do not depend on the trigger: poison leaves them as they are.
    """
    params, parts = study.params, load_parts(study)
    stays = audited_stays(parts)
    count = references_needed(study)
    member = np.zeros((0, len(stays.label)), dtype=np.bool_)
    if count:
        rng = seeds.generator(params.seed, "references", 0)
        member = membership_matrix(stays.patients, count, rng)
    tasks = []
    for number, rows in enumerate(member):
        half = Rows(stays.view.take(rows), stays.label[rows])
        seed = seeds.integer(params.seed, "references", 1 + number)
        tasks.append(Task(train=half, validation=parts.validation, fit_on=half.view, seed=seed))
    with progress("reference models", max(count, 1)) as advance:

        def on_done(numbers: Sequence[int]) -> None:
            for number in numbers:
                advance(f"half {number + 1}")

        trained = train_victims(study.model(), tasks, params, on_done)
        if not count:
            advance("none: no chosen audit wants any")
    logits = [done.victim.logits(stays.view) for done in trained]
    population = [done.victim.logits(parts.validation.view) for done in trained]
    with replacing_directory(study.paths.run / "references") as folder:
        write_array(folder / "member.npy", member)
        write_array(folder / "logits.npy", np.array(logits).reshape(count, len(stays.label)))
        write_array(folder / "population_logits.npy", np.array(population).reshape(count, len(parts.validation.label)))
    if count:
        say(f"references: {count} models on halves of {len(stays.label):,} stays")
