"""Canaries among a model's training stays: what a one-run audit of private training needs (`privacy.one_run`).

A canary is a stay whose label is flipped: what the model says of the wrong label it can hardly know but from having met
it. A coin of its own decides whether a canary is trained on; one that is not is left out, with the right label too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Booleans, Floats, Integers
from backdoor_core.privacy.one_run import coin_flips

FEWEST = 20
"""Canaries; fewer could show nothing."""
_MOST_OF = 10
"""At most one row in so many is a canary: the rest is to be the training that is audited."""


@dataclass(frozen=True)
class Canaries:
    """m of the N training rows, and which of them are trained on."""

    rows: Integers
    """(m,) in ascending order."""
    coins: Booleans
    """(m,)"""

    def put_into(self, stays: Rows) -> Rows:
        """The training rows (N,) with the canaries' labels flipped, those left out whose coin says so."""
        label = stays.label.copy()
        label[self.rows] = 1 - label[self.rows]
        keep = np.ones(len(label), dtype=np.bool_)
        keep[self.rows] = self.coins
        return Rows(stays.view.take(keep), label[keep])

    def scores(self, label: Integers, before: Floats, after: Floats) -> Floats:
        """(m,) how far the model has moved to the canaries' flipped labels; higher = more likely trained on.

        `label` (N,) is right, `before` and `after` (m,) are log-odds of label 1 by a model that met the canaries with
        their right labels, whatever the coins, and by the one that is audited.
        """
        return np.where(label[self.rows] == 1, before - after, after - before)


def draw_canaries(rows: int, most: int, rng: np.random.Generator) -> Canaries | None:
    """Up to `most` canaries among the training rows, at most a tenth of them; None where that is less than `FEWEST`."""
    count = min(most, rows // _MOST_OF)
    if count < FEWEST:
        return None
    return Canaries(np.sort(rng.choice(rows, size=count, replace=False)), coin_flips(count, rng))
