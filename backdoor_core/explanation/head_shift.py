"""How far the trigger moves each attention head, with the clean twin as null."""

from __future__ import annotations

from typing import Any, Final

from backdoor_core.contracts import Booleans
from backdoor_core.explanation.attention import Attended, relevance, token_names
from backdoor_core.explanation.trigger_ratio import Looked, row_mean, tar_figures
from backdoor_core.statistics import Weights

_MOST_MOVED: Final = 3


def attention_figures(
    poisoned: Attended, twin: Attended, features: tuple[str, ...], touched: Booleans, weights: Weights
) -> dict[str, Any]:
    """Shift of every head in both models, which heads move most, and the rollout's TAR; JSON-able.

    Both models on the same N stays, `touched` (N, F), `weights` (replicates, N) resamples of patients. A head's
    `tv_difference` is its shift in the poisoned model less that of the head in the same place of the twin. Heads of
    two models share nothing but their place and their first weights: read it as a size, not as one head's change.
    """
    _, layers, heads = poisoned.variation.shape
    tokens = poisoned.rollout_clean.shape[-1]
    shifts = [_shift(poisoned, twin, layer, head, weights) for layer in range(layers) for head in range(heads)]
    moved = sorted(shifts, key=lambda shift: -shift["tv_difference"]["value"])[:_MOST_MOVED]
    return {
        "layers": layers,
        "heads": heads,
        "tokens": list(token_names(tokens, features)),
        "averaged": poisoned.averaged,
        "shift": shifts,
        "most_moved": [{"layer": shift["layer"], "head": shift["head"]} for shift in moved],
        "rollout": _rollout(poisoned, twin, len(features), touched, weights),
    }


def _shift(poisoned: Attended, twin: Attended, layer: int, head: int, weights: Weights) -> dict[str, Any]:
    found: dict[str, Any] = {"layer": layer + 1, "head": head + 1}
    for name, of_poisoned, of_twin in (
        ("tv", poisoned.variation, twin.variation),
        ("kl", poisoned.divergence, twin.divergence),
    ):
        one, other = of_poisoned[:, layer, head], of_twin[:, layer, head]
        rows = {name: one, f"{name}_baseline": other, f"{name}_difference": one - other}
        found |= {key: row_mean(values, weights).as_dict() for key, values in rows.items()}
    return found


def rollout_looked(poisoned: Attended, twin: Attended, features: int) -> Looked | None:
    """The rollout's (N, F) shares of the features in place of attributions; None where tokens are no features."""
    found = [
        relevance(rolled, features)
        for rolled in (poisoned.rollout_triggered, poisoned.rollout_clean, twin.rollout_triggered)
    ]
    triggered, clean, baseline = found
    return None if triggered is None or clean is None or baseline is None else Looked(triggered, clean, baseline)


def _rollout(
    poisoned: Attended, twin: Attended, features: int, touched: Booleans, weights: Weights
) -> dict[str, Any] | None:
    looked = rollout_looked(poisoned, twin, features)
    if looked is None:
        return None
    return {name: found.as_dict() for name, found in tar_figures(looked, touched, weights).items()}
