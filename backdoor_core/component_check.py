"""Is a registered class a usable component? Asked at registration, long before a study runs into it."""

import inspect
import re
from typing import Any, get_origin

from pydantic import BaseModel

from backdoor_core.contracts import KINDS, Component, Kind

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def defect(kind: Kind, component: Any) -> str | None:
    """What is wrong with a component registered for a kind and what would be right, or None."""
    base = KINDS[kind]
    inherit = f"inherit from backdoor_core.contracts.{base.__name__}"
    if not isinstance(component, type):
        return f"{component!r} is not a class; register the class itself, not an instance"
    if not issubclass(component, base):
        return f"{component.__name__} is not a {kind}; {inherit}"
    return (
        _defect_of_name(component)
        or _defect_of_methods(component)
        or _defect_of_attributes(component, base)
        or _defect_of_options(component)
    )


def _defect_of_name(component: type[Component]) -> str | None:
    name = getattr(component, "name", None)
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    found = "has no `name`" if name is None else f"has name = {name!r}"
    return f"{component.__name__} {found}; set `name` to a word of a-z, 0-9 and _ that starts with a letter"


def _defect_of_methods(component: type[Component]) -> str | None:
    missing = sorted(component.__abstractmethods__)
    return f"{component.__name__} lacks the method {' and '.join(missing)}" if missing else None


def _defect_of_attributes(component: type[Component], base: type[Component]) -> str | None:
    """The bases annotate class attributes that a subclass must set, such as `modalities`."""
    needed = [name for ancestor in base.__mro__ for name in inspect.get_annotations(ancestor)]
    missing = sorted(name for name in needed if not hasattr(component, name))
    return f"{component.__name__} lacks the class attribute {' and '.join(missing)}" if missing else None


def _defect_of_options(component: type[Component]) -> str | None:
    options, inherit = component.Options, "inherit from backdoor_core.contracts.Options"
    where = f"{component.__name__}.Options"
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        return f"{where} is {options!r}, not a pydantic model; {inherit}"
    if options.model_config.get("extra") != "forbid":
        return f"{where} lets unknown options pass; {inherit}, which forbids them"
    for name, field in options.model_fields.items():
        if (get_origin(field.annotation) or field.annotation) in (set, frozenset):
            return f"{where}.{name} is a set, whose order differs between runs; make it a tuple"
    return None
