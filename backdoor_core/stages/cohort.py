"""Stage `cohort`: raw hospital data to views."""

from backdoor_core import seeds
from backdoor_core.cohort.storage import build_cohort
from backdoor_core.console import say
from backdoor_core.files import read_json
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Build the cohort that the study chose."""
    source = study.cohort_source()
    build_cohort(source, study.params.inclusion, seeds.generator(study.params.seed, "cohort"), study.paths.cohort)
    card = read_json(study.paths.cohort / "card.json")
    say(
        f"cohort {source.name}: {card['stays']:,} stays of {card['patients']:,} patients, "
        f"{card['positives']:,} with {study.params.inclusion.label} ({card['prevalence']:.1%})"
    )
