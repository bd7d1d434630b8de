"""Stage `nulls`: clean retrains, whose scores tell what detectors say where nothing is poisoned."""

from collections.abc import Sequence

from backdoor_core import seeds
from backdoor_core.console import progress
from backdoor_core.files import replacing_directory
from backdoor_core.learning.checkpoint import save_states
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.learning.victim import save_victim
from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Fit the study's model on the clean training part with other seeds, many at once, into run/nulls."""
    shared = shared or load_shared(study)
    params, parts = study.params, shared.parts
    count = params.detection.nulls
    tasks = [
        Task(train=parts.train, validation=parts.validation, fit_on=parts.train.view, seed=null_seed(study, number))
        for number in range(count)
    ]
    with progress("clean retrains", count) as advance:

        def on_done(numbers: Sequence[int]) -> None:
            for number in numbers:
                advance(f"retrain {number + 1}")

        trained = train_victims(study.model(), tasks, params, on_done, shared.workers)
    with replacing_directory(study.paths.nulls) as folder:
        for number, done in enumerate(trained):
            save_victim(done.victim, folder / str(number))
            save_states(done.states, folder / str(number) / "checkpoints.pt")


def null_seed(study: Study, number: int) -> int:
    """The seed of one clean retrain; the twin's own has no key."""
    return seeds.integer(study.params.seed, "training", 1 + number)
