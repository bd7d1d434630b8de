"""Classifiers of ICU stays."""

from collections.abc import Callable

from backdoor_core.contracts import Model, hookimpl
from backdoor_models.mlp import MLP


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Register every model of this distribution."""
    register(MLP)
