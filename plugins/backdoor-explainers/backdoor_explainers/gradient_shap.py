"""The gradient at random points between baselines and inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Attribution, ExplainCase, Explainer, Options

from .answers import answer, completeness


class GradientShapOptions(Options):
    """Options of gradient_shap."""

    noise: float = Field(
        0.0, ge=0, description="standard deviation of the normal noise on the inputs, in units of the scaled inputs"
    )


class GradientShap(Explainer):
    """The gradient at random points between a random baseline and the input, times the distance between them.

    Lundberg & Lee 2017 (arXiv 1705.07874) as GradientExplainer of `shap` and GradientShap of Captum have it, with
    `case.steps` points for each row; the expected gradients of Erion et al. 2021 (arXiv 1906.10670). Its
    expectation is `integrated_gradients` averaged over the baselines, at a cost that does not grow with their number;
    the recorded delta is the sampling error of a row's sum. The gradient is Captum's; the points are drawn here, since
    Captum draws from numpy's global state and in the order of its batches.
    """

    name = "gradient_shap"
    Options = GradientShapOptions

    def attribute(self, case: ExplainCase) -> Attribution:
        """Attributions with their delta. Raises `BackdoorError` for a model without gradients."""
        from .calls import ends, gradients_at, network_of

        network = network_of(self.name, case)
        shape = (len(case.inputs), case.steps)
        drawn = case.rng.integers(len(case.baselines), size=shape).ravel()
        along = case.rng.random(size=shape, dtype=np.float32).ravel()
        values = np.zeros(case.inputs.shape)
        for start in range(0, len(drawn), case.rows_at_once):
            points = np.arange(start, min(start + case.rows_at_once, len(drawn)))
            row, baseline = points // case.steps, case.baselines[drawn[points]]
            distance = self._noisy(case, case.inputs[row]) - baseline
            at = baseline + np.expand_dims(along[points], tuple(range(1, baseline.ndim))) * distance
            np.add.at(values, row, gradients_at(network, case, at) * distance)
        values /= case.steps
        delta, said = completeness(values, *ends(network, case))
        details = {"samples": case.steps, "baselines": len(case.baselines), "noise": self.options.noise, **said}
        return answer(self.name, case, values, delta, details)

    def _noisy(self, case: ExplainCase, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows with noise; drawn in the order of rows and points, whatever the batches are."""
        noise = self.options.noise
        return rows + np.float32(noise) * case.rng.standard_normal(rows.shape, dtype=np.float32) if noise else rows
