"""Stage `convert`: raw hospital tables to Parquet, once, where the cohort source was asked to."""

from backdoor_core.files import replacing_directory
from backdoor_core.study import Study


def run(study: Study) -> None:
    """Have the source write what it wants to read; an empty folder where it wants nothing."""
    with replacing_directory(study.paths.converted) as folder:
        study.cohort_source().convert(folder)
