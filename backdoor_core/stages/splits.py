"""Stage `splits`: train, validation and test parts by patient."""

from backdoor_core import seeds
from backdoor_core.cohort.splits import load_splits, split_by_patient, splits_json
from backdoor_core.cohort.storage import load_cohort
from backdoor_core.console import say
from backdoor_core.files import write_json
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Draw the parts and write them with counts and prevalence."""
    cohort = load_cohort(study.paths.cohort)
    rng = seeds.generator(study.params.seed, "splits")
    parts = split_by_patient(cohort.stay_id, cohort.subject_id, cohort.label, study.params.splits, rng)
    content = splits_json(parts, cohort)
    write_json(study.paths.splits, content)
    load_splits(study.paths.splits, cohort)
    for part, counts in content["summary"].items():
        say(
            f"{part}: {counts['stays']:,} stays of {counts['patients']:,} patients, {counts['prevalence']:.1%} positive"
        )
