"""What every stage after `splits` loads: the clean parts of the cohort."""

from dataclasses import dataclass

from backdoor_core.cohort.splits import Splits, load_splits
from backdoor_core.cohort.storage import Cohort, Rows, load_cohort
from backdoor_core.study import Study


@dataclass(frozen=True)
class Parts:
    """The cohort in the view of the study's model, by part."""

    cohort: Cohort
    splits: Splits
    train: Rows
    validation: Rows
    test: Rows


def load_parts(study: Study) -> Parts:
    """The clean parts."""
    cohort = load_cohort(study.paths.cohort)
    splits = load_splits(study.paths.splits, cohort)
    view = cohort.view(study.model().modality)
    parts = [Rows(view.take(rows), cohort.label[rows]) for rows in (splits.train, splits.validation, splits.test)]
    return Parts(cohort, splits, *parts)
