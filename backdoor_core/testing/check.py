"""One rule bound to one component: what the lists of the conformance kit hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from backdoor_core.contracts import Component, Context

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Check:
    """Call it: it raises `AssertionError`, saying what breaks which rule, or whatever the component raises."""

    component: Component
    rule: Callable[..., None]
    arguments: tuple[Any, ...] = ()

    @property
    def __name__(self) -> str:
        """What pytest shows as the id of the case."""
        return f"{self.component.name}-{self.rule.__name__}"

    def __call__(self) -> None:
        """Run the rule on the component."""
        self.rule(self.component, *self.arguments)

    def __repr__(self) -> str:
        return f"<Check {self.__name__}>"


def made(component: C | type[C]) -> C:
    """The component itself, or one made from its class with the default options."""
    return component(component.Options(), Context(Path())) if isinstance(component, type) else component


def expect(condition: bool, message: str) -> None:
    """Raise `AssertionError` unless the condition holds; unlike ``assert`` it is never compiled away."""
    if not condition:
        raise AssertionError(message)


def bound(component: Component, rules: Iterable[Callable[..., None]], *arguments: Any) -> list[Check]:
    """A check for each rule, in their order."""
    return [Check(component, rule, arguments) for rule in rules]
