"""Stage `baseline`: the clean twin. It depends on neither trigger nor rate."""

from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.stages.training import fit_and_save
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Fit the study's model on the clean training part."""
    parts = (shared or load_shared(study)).parts
    fit_and_save(study, "clean twin", parts.train, parts.validation, parts.train.view, study.paths.baseline)
