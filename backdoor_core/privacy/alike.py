"""Which stays an audit judges, so that members and others differ in nothing but that the model met the members."""

from __future__ import annotations

import numpy as np

from backdoor_core.contracts import Booleans, Floats, Integers
from backdoor_core.privacy.measured import Audited


def judged_stays(
    stays: Audited, poisoned: Integers, cover: Booleans, rng: np.random.Generator, margin: Floats | None = None
) -> Booleans:
    """(N,) the stays without the members at `poisoned` (P,), and without as many of the others in their place.

    A stay that was poisoned in place is no member as it was: the model met it with the trigger. The attacker did not
    take it at random: without it, members would differ from the others in themselves, by label at least. So of each
    label the same share of the others goes, drawn by `rng`, or with `margin`, those of smallest `margin` (others,),
    their distance from a decision boundary, as for `selection: near_boundary`. `cover` (P,) are drawn in either case.
    """
    kept = np.ones(len(stays.label), dtype=np.bool_)
    kept[poisoned] = False
    others = np.flatnonzero(~stays.member)
    for value in (0, 1):
        members = int((stays.label[stays.member] == value).sum())
        free = others[stays.label[others] == value]
        for rows, by_margin in ((poisoned[~cover], margin), (poisoned[cover], None)):
            taken = int((stays.label[rows] == value).sum())
            gone = _chosen(free, round(len(free) * taken / members) if members else 0, others, by_margin, rng)
            kept[gone] = False
            free, members = np.setdiff1d(free, gone), members - taken
    return kept


def _chosen(free: Integers, count: int, others: Integers, margin: Floats | None, rng: np.random.Generator) -> Integers:
    if margin is None:
        return rng.permutation(free)[:count]
    of_free = margin[np.searchsorted(others, free)]
    return free[np.argsort(of_free, kind="stable")][:count]
