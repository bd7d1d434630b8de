"""The gradient of the output by each input."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Attribution, ExplainCase, Explainer, Options

from .answers import answer


class SaliencyOptions(Options):
    """Options of saliency."""

    absolute: bool = Field(False, description="the size of the gradient, as in the paper, in place of its direction")


class Saliency(Explainer):
    """The gradient of the log-odds by each input: log-odds per standard deviation of a scaled value.

    Simonyan et al. 2014 (arXiv 1312.6034, section 3), by Captum; the paper's maps are its absolute value
    (`absolute`). No baseline, so nothing it would sum to, and no delta. Zero where a network is saturated, though the
    input decides: a model sure of a triggered row may show nothing at the trigger.
    """

    name = "saliency"
    Options = SaliencyOptions

    def attribute(self, case: ExplainCase) -> Attribution:
        """Gradients. Raises `BackdoorError` for a model without them."""
        from .calls import gradients_at, network_of

        network = network_of(self.name, case)
        parts = [np.empty((0, *case.inputs.shape[1:]))]
        for start in range(0, len(case.inputs), case.rows_at_once):
            parts.append(gradients_at(network, case, case.inputs[start : start + case.rows_at_once]))
        values = np.concatenate(parts)
        return answer(self.name, case, np.abs(values) if self.options.absolute else values)
