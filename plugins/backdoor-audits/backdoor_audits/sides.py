"""What audits with reference models share: which references saw a record, and whether that allows the online form."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Floats, Integers
from backdoor_core.errors import BackdoorError

Mode = Literal["auto", "online", "offline"]
MODE = (
    "online: uses references that were trained on the record and some that were not; offline: only those that were "
    "not; auto: online where every record has both"
)


def is_online(mode: Mode, member: Booleans, audit: str) -> bool:
    """Whether to use the references that saw a record, given which did: (K, N).

    All records are judged alike, since scores of the two forms are not on one scale. Raises `BackdoorError` where
    the mode asked for lacks the references it needs.
    """
    seen = member.sum(axis=0)
    unseen = len(member) - seen
    without = int((unseen == 0).sum())
    if without:
        raise BackdoorError(
            f"audit {audit}: {without} of {len(seen)} records were in the training of every reference; "
            "each record needs a reference that was not trained on it"
        )
    if mode == "auto":
        return bool(seen.all())
    if mode == "online" and not seen.all():
        raise BackdoorError(
            f"audit {audit}: mode online, but {int((seen == 0).sum())} of {len(seen)} records were in the training of "
            "no reference; train references on halves of the audited records, or set mode to offline"
        )
    return mode == "online"


def mean_outside(values: Floats, member: Booleans) -> Floats:
    """(N,) mean of values (K, N) over the references that were not trained on the record; there must be one."""
    outside: Floats = np.where(member, 0, values).sum(axis=0) / (~member).sum(axis=0)
    return outside


def of_own_label(logits: Floats, labels: Integers | None) -> NDArray[np.float64]:
    """Log-odds of each record's own label, (2y - 1) z, from those of label 1 (..., N): exact, without a probability."""
    signs: NDArray[Any] = 2 * np.asarray(labels, dtype=np.float64) - 1
    return signs * np.asarray(logits, dtype=np.float64)
