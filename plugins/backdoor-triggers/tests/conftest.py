"""Triggers by name, each from its options as params.yaml would give them."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from backdoor_core.contracts import Context
from backdoor_core.plugins import discover


@pytest.fixture(scope="session")
def make():
    """`make("rare_value", feature="sbp")`: the trigger with checked options, able to make others."""
    catalog = discover(entry_points(group="backdoor_core", name="triggers"), environ={})

    def component(kind, name, options):
        return catalog.get(kind, name).component(catalog.resolve(kind, name, options), context)

    context = Context(root=Path(), component=component)
    return lambda name, **options: component("trigger", name, options)
