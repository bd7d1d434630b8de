"""Stage `detect`: what the detectors find, judged against the truth and against the null run."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.parquet import read_parquet, write_parquet
from backdoor_core.console import progress
from backdoor_core.files import write_json
from backdoor_core.stages.data import Shared, load_shared
from backdoor_core.stages.detected import answer_of, figures_of, sides_of, weights_of
from backdoor_core.study import Study


def run(study: Study, shared: Shared | None = None) -> None:
    """Run every chosen detector on the poisoned training part, and on the clean one with the clean twin (null run).

    On the null run nothing is poisoned: its flags are false alarms, and its scores are judged against the
    rows that the attack would have taken, on which a sound detector does no better than chance. Calibrated flags
    come from the scores of further clean retrains (stage `null_scores`).
    """
    shared = shared or load_shared(study)
    sides = sides_of(study, shared.parts)
    nulls = read_parquet(study.paths.null_scores)
    rows = len(sides["poisoned"].truth)
    columns: dict[str, Any] = {
        "stay_id": sides["poisoned"].run.rows.view.stay_id,
        "label": sides["poisoned"].run.rows.label,
        "poisoned": sides["poisoned"].truth,
        # Poisoned copies have no counterpart in the null run: there their scores are missing.
        "in_null": np.arange(rows) < len(sides["null"].truth),
    }
    results: dict[str, Any] = {}
    detectors = study.detectors()
    with progress("detectors", 2 * len(detectors)) as advance:
        for detector in detectors:
            figures: dict[str, Any] = {"oracle": "truth" in detector.requires, "scope": detector.scope}
            for name, side in sides.items():
                answer = answer_of(study, shared, detector, side, nulls)
                weights = partial(weights_of, study, shared, side)
                figures[name] = figures_of(study, shared, detector, side, answer, weights)
                columns[f"{detector.name}.{name}.score"] = _filled(answer.found.scores, rows, np.nan)
                columns[f"{detector.name}.{name}.flagged"] = _filled(answer.found.flagged, rows, False)
                columns[f"{detector.name}.{name}.p"] = _filled(answer.p, rows, np.nan)
                columns[f"{detector.name}.{name}.calibrated"] = _filled(answer.calibrated, rows, False)
                advance(f"{detector.name}, {name} run: {figures[name]['flagged']:,} flagged")
            results[detector.name] = figures
    write_parquet(study.paths.run / "detect" / "scores.parquet", columns)
    write_json(study.paths.run / "results_detect.json", results)


def _filled(values: NDArray[Any], rows: int, absent: Any) -> NDArray[Any]:
    return np.concatenate([values, np.full(rows - len(values), absent, dtype=values.dtype)])
