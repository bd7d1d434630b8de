"""What the explainers answer: checked values, and how far they are from the promise of completeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Attribution, ExplainCase, Floats
from backdoor_core.errors import BackdoorError

LARGE = 0.05
"""Share of the mean absolute difference of outputs above which the mean absolute delta counts as large."""

_ROUNDING = 1e-5
"""Log-odds below which a mean delta is rounding of float32, however small the difference."""


def answer(
    name: str, case: ExplainCase, values: Floats, delta: Floats | None = None, details: Mapping[str, Any] | None = None
) -> Attribution:
    """The attribution in float32. Raises `BackdoorError` where a value is not finite."""
    broken = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum()) if values.size else 0
    if broken:
        raise BackdoorError(
            f"explainer {name}: the attributions of {broken} of {len(values)} rows are not finite; the model's outputs "
            "and gradients must be finite at these rows and at the baselines (a model that did not diverge)"
        )
    return Attribution(values.astype(np.float32).reshape(case.inputs.shape), delta, dict(details or {}))


def completeness(
    values: Floats, at_inputs: Floats, at_baselines: Floats
) -> tuple[NDArray[np.float64], dict[str, bool | float | None]]:
    """(N,) sum of each row's attributions less (output less the mean output of the baselines), and what to say of it.

    `large_delta` is the warning: the mean absolute delta is more than 5% of the mean absolute difference, so that the
    integral is not resolved (more steps, or another baseline, would be right) or the model breaks the rule's premise.
    """
    difference = at_inputs - at_baselines.mean()
    delta = values.reshape(len(values), -1).sum(axis=1) - difference if len(values) else np.empty(0)
    if not len(values):
        return delta, {"mean_abs_delta": None, "mean_abs_difference": None, "large_delta": False}
    size, whole = float(np.abs(delta).mean()), float(np.abs(difference).mean())
    large = bool(size > max(LARGE * whole, _ROUNDING))
    return delta, {"mean_abs_delta": size, "mean_abs_difference": whole, "large_delta": large}
