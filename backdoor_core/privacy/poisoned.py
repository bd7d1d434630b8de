"""Are the poisoned stays themselves told from triggered ones that the model never met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import View
from backdoor_core.learning.victim import Victim
from backdoor_core.privacy.judge import Run, judge, resamples
from backdoor_core.privacy.signals import label_loss


def poisoned_stays(
    victims: Mapping[str, Victim],
    met: View,
    triggered: View,
    patients: NDArray[Any],
    target: int,
    replicates: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUC of each victim's loss alone, by the victims' names, with an interval over patients; JSON-able.

    Members are the poisoned stays as the model `met` them, with trigger and label; non-members are `triggered` test
    stays whose true label is that of the poisoned ones, with the same trigger and the target as label. `patients` are
    those of the members, then those of the others. For the twin neither are members: it is the control. All victims
    are judged on the same resamples.
    """
    member = np.arange(len(patients)) < len(met)
    labels = np.full(len(patients), target, dtype=np.int8)
    runs = {
        side: Run(-label_loss(np.concatenate([victim.logits(met), victim.logits(triggered)]), labels), member, patients)
        for side, victim in victims.items()
    }
    weights = resamples([next(iter(runs.values()))], replicates, rng)
    found = {side: judge([run], weights)["auc"] for side, run in runs.items()}
    return {"members": len(met), "nonmembers": len(triggered), **found}
