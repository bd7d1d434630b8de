"""Differences from the baseline, handed back from layer to layer."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, ClassVar

from backdoor_core.contracts import Attribution, ExplainCase, Explainer, Modality
from backdoor_core.errors import BackdoorError

from .answers import answer, completeness

if TYPE_CHECKING:
    from torch import Tensor


class DeepLift(Explainer):
    """The output's difference from the baseline's, handed back layer by layer in proportion to the inputs' differences.

    Shrikumar et al. 2017 (arXiv 1704.02685, section 3.5.2, the Rescale rule), by Captum; one backward pass for each
    row and baseline, the mean over the baselines (as DeepLIFT SHAP, Lundberg & Lee 2017, arXiv 1705.07874, section
    4.2). Complete up to rounding for networks of linear layers and ReLU, ELU, leaky ReLU, sigmoid, tanh or softplus,
    each module used once: `logistic`, `mlp`, `tcn`. Recurrent cells, normalization over features and attention
    multiply activations, for which there is no such rule: networks with such modules are refused.
    """

    name = "deep_lift"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})

    def attribute(self, case: ExplainCase) -> Attribution:
        """Attributions with their delta. Raises `BackdoorError` naming a module without a rule."""
        from captum.attr import DeepLift as CaptumDeepLift

        from .calls import ends, mean_over_baselines, network_of
        from .rescale import RescaledReLU, Signed, unruled

        network = network_of(self.name, case)
        if (found := unruled(network)) is not None:
            name, module = found
            raise BackdoorError(
                f"explainer {self.name}: module `{name}` of {type(network).__name__} is a {type(module).__name__}, "
                "which has no Rescale rule; use integrated_gradients"
            )
        # Captum leaves its notes on the modules it hooks: let it be those of a copy.
        captum = CaptumDeepLift(Signed(copy.deepcopy(network), case.sign))

        def attributed(x: Tensor, baseline: Tensor) -> Tensor:
            with warnings.catch_warnings(), RescaledReLU():
                warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
                return captum.attribute(x, baseline)

        values = mean_over_baselines(network, case, 2, attributed)
        delta, said = completeness(values, *ends(network, case))
        return answer(self.name, case, values, delta, {"baselines": len(case.baselines), **said})
