"""No trigger at all."""

from typing import ClassVar

import numpy as np

from backdoor_core.contracts import Fitted, Modality, Trigger, View


class NoTrigger(Trigger):
    """Changes nothing: for a clean study."""

    name = "none"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})
    sets_constants: ClassVar[bool] = True

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """The view itself."""
        return view
