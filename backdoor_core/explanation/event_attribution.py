"""Attributions of a model of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

GROUPS: Final = ("type", "text", "value", "time")
"""The parts of an event that attributions tell apart."""


@dataclass(frozen=True)
class EventAttribution:
    """What each event and each static column of N stays adds to the log-odds of the explained label."""

    events: NDArray[np.float32]
    """(E, groups) signed, one row for each event of the view, one column for each of `GROUPS`."""
    statics: NDArray[np.float32]
    """(N, S) signed, one column for each static column before its encoding."""

    @property
    def total(self) -> NDArray[np.float32]:
        """(E,) of each event as a whole."""
        return np.asarray(self.events.sum(axis=1))
