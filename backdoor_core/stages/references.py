"""Stage `references`: models trained on random halves of the audited stays, of which only their answers are kept."""

from collections.abc import Sequence

from backdoor_core.console import progress, say
from backdoor_core.learning.training import train_victims
from backdoor_core.privacy.measured import ReferenceAnswers
from backdoor_core.privacy.references import reference_tasks
from backdoor_core.stages.audited import audited_stays, save_answers
from backdoor_core.stages.data import load_parts
from backdoor_core.study import Study, references_needed


def run(study: Study) -> None:
    """Fit the study's model on each half, many at once, and write their log-odds of every stay into run/references.

    The halves are of whole patients of the training and the test part together; the validation part serves each as it
    serves the study's own models. They do not depend on the trigger: poison leaves them as they are.
    """
    parts = load_parts(study)
    stays = audited_stays(parts)
    count = references_needed(study)
    member, tasks = reference_tasks(stays, parts.validation, count, study.params.seed)
    with progress("reference models", max(count, 1)) as advance:

        def on_done(numbers: Sequence[int]) -> None:
            for number in numbers:
                advance(f"half {number + 1}")

        trained = train_victims(study.model(), tasks, study.params, on_done)
        if not count:
            advance("none: no chosen audit wants any")
    victims = [done.victim for done in trained]
    answers = ReferenceAnswers.of(victims, member, stays.view, parts.validation.view)
    save_answers(answers, study.paths.run / "references")
    if count:
        say(f"references: {count} models on halves of {len(stays.label):,} stays")
