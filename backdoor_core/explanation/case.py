"""What an explainer is given of a victim, and the check of what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backdoor_core.contracts import Attribution, ExplainCase, Explainer, Floats, View
from backdoor_core.errors import BackdoorError
from backdoor_core.explanation.folding import fold
from backdoor_core.learning.victim import ArrayVictim, TorchVictim, Victim
from backdoor_core.params import ExplainParams

LARGE_DELTA = 0.05
"""Of the explained change: a larger share left unexplained makes a warning."""


@dataclass(frozen=True)
class Explained:
    """Attributions of some rows in raw feature terms."""

    values: NDArray[np.float32]
    """(N, F) of a table, (N, T, F) of a series."""
    convergence: dict[str, float] | None
    """How far the attributions of a row are from summing to the explained change; None where it is not promised."""
    details: dict[str, Any]


def make_case(
    victim: Victim,
    view: View,
    baselines: NDArray[np.float32],
    target: int,
    params: ExplainParams,
    rng: np.random.Generator,
) -> ExplainCase:
    """The rows of `view` as `victim` reads them, and the log-odds of `target` that it gives them."""
    sign = 1.0 if target == 1 else -1.0
    return ExplainCase(
        inputs=victim.inputs(view),
        baselines=baselines,
        predict=predictor(victim, sign, params.rows_at_once),
        network=victim.network if isinstance(victim, TorchVictim) else None,
        sign=sign,
        features=len(victim.preprocessor.features),
        steps=params.steps,
        rows_at_once=params.rows_at_once,
        rng=rng,
    )


def predictor(victim: Victim, sign: float, rows_at_once: int) -> Callable[[NDArray[np.float32]], Floats]:
    """A function from inputs (M, ...) to `sign` times the log-odds (M,) of label 1, before temperature scaling."""
    if isinstance(victim, ArrayVictim):
        return lambda inputs: sign * victim.model.logits(victim.fitted, inputs)
    if not isinstance(victim, TorchVictim):
        raise TypeError(f"{type(victim).__name__} is neither a network nor fitted arrays")
    device = next(victim.network.parameters()).device

    def predict(inputs: NDArray[np.float32]) -> Floats:
        logits = np.empty(len(inputs))
        with torch.no_grad():
            for start in range(0, len(inputs), rows_at_once):
                rows = slice(start, start + rows_at_once)
                # A copy: inputs may be a read-only broadcast, which torch refuses to share.
                x = torch.from_numpy(np.array(inputs[rows], dtype=np.float32)).to(device)
                logits[rows] = victim.network(x).double().cpu().numpy()
        return sign * logits

    return predict


def run_explainer(explainer: Explainer, case: ExplainCase) -> Explained:
    """Attributions of the case in raw feature terms.

    Raises `BackdoorError` naming the explainer where its answer has another shape than the inputs or is not finite.
    """
    answer = checked_answer(explainer, case)
    values = fold(answer.values, case.features).astype(np.float32)
    return Explained(values, convergence(*misses(answer, case)), dict(answer.details))


def checked_answer(explainer: Explainer, case: ExplainCase) -> Attribution:
    """What the explainer answers, in the shape of the inputs and finite; raises as `run_explainer`."""
    answer = explainer.attribute(case)
    if answer.values.shape != case.inputs.shape:
        raise BackdoorError(
            f"explainer {explainer.name}: attributions of shape {answer.values.shape} for inputs of {case.inputs.shape}"
        )
    if not np.isfinite(answer.values).all():
        raise BackdoorError(f"explainer {explainer.name}: some attributions are NaN or infinite")
    return answer


def misses(answer: Attribution, case: ExplainCase) -> tuple[Floats | None, Floats | None]:
    """(N,) absolute delta of each row and the absolute change that is explained; None where no delta is promised."""
    if answer.delta is None:
        return None, None
    explained = case.predict(np.concatenate([case.inputs, case.baselines]))
    change = np.abs(explained[: len(case.inputs)] - explained[len(case.inputs) :].mean())
    return np.abs(np.asarray(answer.delta, dtype=np.float64)), change


def convergence(delta: Floats | None, change: Floats | None) -> dict[str, float] | None:
    """Mean and largest absolute delta (N,), and the mean as a share of the mean absolute change that is explained."""
    if delta is None or change is None or not len(delta):
        return None
    share = delta.mean() / change.mean() if change.any() else 0.0
    return {"mean": float(delta.mean()), "max": float(delta.max()), "relative": float(share)}
