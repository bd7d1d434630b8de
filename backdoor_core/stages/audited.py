"""The stays that are audited, in one order: what the stages `references` and `audit` share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, View
from backdoor_core.stages.data import Parts


@dataclass(frozen=True)
class Audited:
    """N stays: those of the training part, which are members, then those of the test part, which are not."""

    view: View
    """As they are, without any trigger."""
    label: NDArray[np.int8]
    patients: NDArray[Any]
    """(N,)"""
    member: Booleans
    """(N,) whether the study's models were trained on the stay."""
    rows: NDArray[np.int64]
    """(N,) their positions in the cohort."""


def audited_stays(parts: Parts) -> Audited:
    """The training and the test part. The validation part is left out: it chose epoch, temperature and threshold."""
    rows = np.concatenate([parts.splits.train, parts.splits.test])
    return Audited(
        view=parts.train.view.followed_by(parts.test.view),  # type: ignore[arg-type]  # both are of one modality
        label=np.concatenate([parts.train.label, parts.test.label]),
        patients=parts.cohort.subject_id[rows],
        member=np.arange(len(rows)) < len(parts.splits.train),
        rows=rows,
    )
