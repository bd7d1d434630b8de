"""The gradient along the straight path from the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backdoor_core.contracts import Attribution, ExplainCase, Explainer

from .answers import answer, completeness

if TYPE_CHECKING:
    from torch import Tensor


class IntegratedGradients(Explainer):
    """The gradient, averaged along the straight path from the baseline, times the distance from it.

    Sundararajan et al. 2017 (arXiv 1703.01365, section 3), by Captum, with Gauss-Legendre points: `case.steps` of
    them. With several baselines it is the mean over them (expected gradients, Erion et al. 2021, arXiv 1906.10670,
    without sampling). Complete: a row sums to its output less the mean output of the baselines, up to the
    recorded delta. That is large where the output changes within a small part of the path, as it does for implausible
    values in a network with normalization: `large_delta` says so.
    """

    name = "integrated_gradients"

    def attribute(self, case: ExplainCase) -> Attribution:
        """Attributions with their delta. Raises `BackdoorError` for a model without gradients."""
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        from .calls import ends, mean_over_baselines, network_of, signed

        network = network_of(self.name, case)
        captum = CaptumIntegratedGradients(signed(network, case))

        def attributed(x: Tensor, baseline: Tensor) -> Tensor:
            # Beyond one pair, the steps are split too.
            return captum.attribute(x, baseline, n_steps=case.steps, internal_batch_size=max(case.rows_at_once, len(x)))

        values = mean_over_baselines(network, case, case.steps, attributed)
        delta, said = completeness(values, *ends(network, case))
        details = {"steps": case.steps, "baselines": len(case.baselines), **said}
        return answer(self.name, case, values, delta, details)
