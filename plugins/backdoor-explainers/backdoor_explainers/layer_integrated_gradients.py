"""Integrated gradients of a layer whose units belong to features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from backdoor_core.contracts import Attribution, ExplainCase, Explainer, Options
from backdoor_core.errors import BackdoorError

from .answers import answer, completeness
from .groups import group_of_input, spread

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS = "tokens"


class LayerIntegratedGradientsOptions(Options):
    """Options of layer_integrated_gradients."""

    layer: str | None = Field(
        None,
        description="name of a module of the network whose output is (rows, features, width), or (rows, hours, "
        "features, width) of a series; null for `tokens`, the feature tokens of the transformers",
    )


class LayerIntegratedGradients(Explainer):
    """Integrated gradients of the feature tokens, summed over each token's width.

    Sundararajan et al. 2017 (arXiv 1703.01365, section 3) with the path drawn in the layer's output, by Captum. The
    layer must keep features apart, so that the answer can be told in their terms; penultimate activations do not.
    A feature's sum stands in equal shares on its channels. Complete, as `integrated_gradients` is. Where the layer is
    linear, as `tokens` of the bundled transformers is, both paths are one, and this is `integrated_gradients` summed
    over a feature's channels; it differs for tokens that are not, such as bins or periodic embeddings.
    """

    name = "layer_integrated_gradients"
    Options = LayerIntegratedGradientsOptions

    def attribute(self, case: ExplainCase) -> Attribution:
        """Attributions with their delta. Raises `BackdoorError` for a network without such a layer."""
        from captum.attr import LayerIntegratedGradients as CaptumLayerIntegratedGradients

        from .calls import ends, mean_over_baselines, network_of, signed

        network = network_of(self.name, case)
        layer, module = self._layer(network)
        captum = CaptumLayerIntegratedGradients(signed(network, case), module)

        def attributed(x: Tensor, baseline: Tensor) -> Tensor:
            values = captum.attribute(
                x, baseline, n_steps=case.steps, internal_batch_size=max(case.rows_at_once, len(x))
            )
            return _by_feature(values, layer, case)

        values = mean_over_baselines(network, case, case.steps, attributed)
        if len(values):
            group, _ = group_of_input(self.name, case, "cell")
            values = spread(values.reshape(len(values), -1), group)
        delta, said = completeness(values, *ends(network, case))
        details = {"layer": layer, "steps": case.steps, "baselines": len(case.baselines), **said}
        return answer(self.name, case, values, delta, details)

    def _layer(self, network: nn.Module) -> tuple[str, nn.Module]:
        """The layer and its name."""
        named, layer = dict(network.named_modules()), self.options.layer
        if layer is None and TOKENS not in named:
            raise BackdoorError(
                f"explainer {self.name}: {type(network).__name__} has no module `{TOKENS}`; set `layer` to one whose "
                "output is (rows, features, width), or use integrated_gradients"
            )
        if layer is not None and layer not in named:
            there = ", ".join(name for name in named if name)
            raise BackdoorError(
                f"explainer {self.name}: layer: {type(network).__name__} has no module `{layer}`; it has {there}"
            )
        return layer or TOKENS, named[layer or TOKENS]


def _by_feature(values: Tensor, layer: str, case: ExplainCase) -> Tensor:
    """(P, F) or (P, hours, F), summed over the width of the layer's output."""
    expected = (*case.inputs.shape[1:-1], case.features)
    shape = tuple(values.shape) if hasattr(values, "shape") else None
    if shape is None or shape[1:-1] != expected:
        given = "no single tensor" if shape is None else f"(rows, {', '.join(map(str, shape[1:]))})"
        raise BackdoorError(
            f"explainer layer_integrated_gradients: the output of `{layer}` is {given}, and only "
            f"(rows, {', '.join(map(str, expected))}, width) can be told by feature"
        )
    return values.sum(dim=-1)
