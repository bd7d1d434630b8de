"""Attributions of a fitted model's output to its inputs."""

from collections.abc import Callable

from backdoor_core.contracts import Explainer, hookimpl

from .deep_lift import DeepLift
from .feature_ablation import FeatureAblation
from .gradient_shap import GradientShap
from .integrated_gradients import IntegratedGradients
from .layer_integrated_gradients import LayerIntegratedGradients
from .permutation import Permutation
from .saliency import Saliency


@hookimpl
def register_explainers(register: Callable[[type[Explainer]], None]) -> None:
    """Register the explainers of this distribution."""
    for explainer in (
        DeepLift,
        FeatureAblation,
        GradientShap,
        IntegratedGradients,
        LayerIntegratedGradients,
        Permutation,
        Saliency,
    ):
        register(explainer)
