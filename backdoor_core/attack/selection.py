"""Which training stays the attacker takes."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Floats, Integers
from backdoor_core.errors import BackdoorError
from backdoor_core.params import PoisonParams

Labels = NDArray[np.int8]


def takes_target(params: PoisonParams) -> bool:
    """Whether the poisoned stays have the target label already: clean-label poisoning, or asked for by name."""
    return params.labels == "clean" or params.selection == "target_class"


def poison_count(params: PoisonParams, training_stays: int, eligible: int) -> int:
    """Number of stays to poison.

    Raises `BackdoorError` where the rate rounds to no stay, or more are asked for than are eligible.
    """
    if params.count is not None:
        asked, count = f"poison.count {params.count}", params.count
    else:
        asked, count = f"poison.rate {params.rate:g}", round(params.rate * training_stays)
        if params.rate > 0 and count == 0:
            smallest = 1 / training_stays
            raise BackdoorError(
                f"params.yaml: {asked} selects none of {training_stays} training stays; "
                f"use a rate from {_rounded_down(smallest)} to {_rounded_down(eligible / training_stays)}, "
                "or poison.count"
            )
    if count > eligible:
        whose = "the target label" if takes_target(params) else "a label other than the target"
        raise BackdoorError(
            f"params.yaml: {asked} asks for {count} stays, but only {eligible} of {training_stays} training stays have "
            f"{whose} {params.target}; use a rate up to {_rounded_down(eligible / training_stays)} or a count up to "
            f"{eligible}"
        )
    return count


def _rounded_down(share: float) -> str:
    """Four digits of a rate that is no larger than the share, nor than params.yaml allows.

    One that is rounded up would be refused as well.
    """
    # From the shortest decimal: the float nearest 0.3 is a little less, and would become 0.2999.
    return f"{float(Context(prec=4, rounding=ROUND_FLOOR).create_decimal(repr(min(share, 0.5)))):g}"


def select_rows(
    stay_id: Integers,
    label: Labels,
    params: PoisonParams,
    rng: np.random.Generator,
    margin: Floats | None = None,
) -> Integers:
    """(P,) positions of the stays to poison, ascending.

    With ``labels: flip`` they are drawn among the stays of another label than the target, with ``labels: clean``
    (Turner et al. 2018, Clean-Label Backdoor Attacks) among those of the target, whose labels are then right.
    ``selection`` is `random`, `target_class` (among the stays of the target, whatever becomes of the labels), or
    `near_boundary`: those with the smallest `margin` (N,), a clean model's distance from its decision threshold
    (`surrogate.margin`).
    The choice depends on the set of stays only, not on their order. Raises `ValueError` without the margin.
    """
    eligible = np.flatnonzero((label == params.target) == takes_target(params))
    eligible = eligible[np.argsort(stay_id[eligible], kind="stable")]
    count = poison_count(params, len(label), len(eligible))
    if params.selection == "near_boundary":
        if margin is None:
            raise ValueError("selection near_boundary needs the margin of a clean model")
        return np.sort(eligible[np.argsort(margin[eligible], kind="stable")][:count])
    return np.sort(rng.permutation(eligible)[:count])


def select_cover(stay_id: Integers, poisoned: Integers, params: PoisonParams, rng: np.random.Generator) -> Integers:
    """(C,) positions of the cover stays, ascending: triggered, and with their true labels.

    They keep a model from tying the trigger to the target too tightly, and so the poisoned stays close to clean
    ones in its latent space (Qi et al. 2023, Revisiting the Assumption of Latent Separability for Backdoor Defenses,
    ICLR, section 4.1). Drawn uniformly among all stays that are not `poisoned`. Raises `BackdoorError` where
    `cover_rate` asks for more than there are.
    """
    count = round(params.cover_rate * len(stay_id))
    free = np.setdiff1d(np.arange(len(stay_id)), poisoned)
    if count > len(free):
        most = _rounded_down(len(free) / len(stay_id))
        raise BackdoorError(
            f"params.yaml: poison.cover_rate {params.cover_rate:g} asks for {count} stays, but {len(free)} of "
            f"{len(stay_id)} training stays are not poisoned; use a rate up to {most}"
        )
    free = free[np.argsort(stay_id[free], kind="stable")]
    return np.sort(rng.permutation(free)[:count])
