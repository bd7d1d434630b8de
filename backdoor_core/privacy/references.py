"""The fits of the reference models of stays."""

from __future__ import annotations

import numpy as np

from backdoor_core import seeds
from backdoor_core.cohort.storage import Rows
from backdoor_core.learning.training import Task
from backdoor_core.privacy.halves import membership_matrix
from backdoor_core.privacy.measured import Audited
from backdoor_core.views import Booleans


def reference_tasks(stays: Audited, validation: Rows, count: int, seed: int) -> tuple[Booleans, list[Task]]:
    """The membership (count, N) of the audited stays in each reference's training, and each reference's fit.

    A reference learns its preprocessing and its weights from its half of the stays. `validation` serves each as it
    serves the study's own models. Halves and training follow from the study's seed. A count of 0 gives no task; else
    raises `BackdoorError` as `membership_matrix` does.
    """
    if count == 0:
        return np.zeros((0, len(stays.label)), dtype=np.bool_), []
    member = membership_matrix(stays.patients, count, seeds.generator(seed, "references", 0))
    tasks = []
    for number, rows in enumerate(member):
        half = Rows(stays.view.take(rows), stays.label[rows])
        own = seeds.integer(seed, "references", 1 + number)
        tasks.append(Task(train=half, validation=validation, fit_on=half.view, seed=own))
    return member, tasks
