"""Stage `null_scores`: the scores of every detector on the clean retrains."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.console import progress
from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.stages.detecting import Run, access_to, detect_in
from backdoor_core.stages.nulls import null_seed
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Run every chosen detector on the clean training part with each clean retrain."""
    parts, detectors = (shared or load_shared(study)).parts, study.detectors()
    count = study.params.detection.nulls
    clean = np.zeros(len(parts.train.label), dtype=np.bool_)
    columns: dict[str, NDArray[Any]] = {"stay_id": parts.train.view.stay_id, "label": parts.train.label}
    with progress("null scores", count * len(detectors)) as advance:
        for number in range(count):
            of_retrain = Run(
                rows=parts.train,
                fit_on=parts.train.view,
                folder=study.paths.nulls / str(number),
                seed=null_seed(study, number),
            )
            access = access_to(study, parts, of_retrain)
            for detector in detectors:
                found = detect_in(study, parts, detector, of_retrain, access, clean)
                columns[f"{detector.name}.{number}"] = found.scores
                advance(f"{detector.name}, retrain {number + 1}")
    write_parquet(study.paths.null_scores, columns)
