"""Stage `train`: the victim's model, on the training part as the attacker left it."""

from backdoor_core.stages.data import load_parts
from backdoor_core.stages.poisoned import load_poisoning, victims_rows
from backdoor_core.stages.training import fit_and_save
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Fit the study's model on the poisoned training part."""
    parts = load_parts(study)
    poisoning, _ = load_poisoning(study, parts.train)
    train = victims_rows(parts.train, poisoning)
    fit_on = train.view if study.params.preprocess.fit_on == "poisoned" else parts.train.view
    fit_and_save(study, "poisoned model", train, parts.validation, fit_on, study.paths.run)
