"""What is installed, for the person at the terminal and for other programs."""

import json
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_json
from rich.table import Table
from rich.text import Text

from backdoor_core.hookspecs import HOOKS
from backdoor_core.plugins import BrokenPlugin, Catalog, Registration


def render_table(catalog: Catalog) -> Table:
    """The components by kind: name, first line of the docstring, options with defaults, distribution and version.

    Options stand below the description and the version below the distribution: six columns do not fit on 80
    characters. Broken plugins come last, in red, with the reason.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("what it is, and its options", ratio=1, overflow="fold")
    table.add_column("distribution", overflow="fold")
    for hook, kind in HOOKS.items():
        registrations = catalog.registrations(kind)
        if registrations:
            table.add_row(Text(hook.removeprefix("register_"), style="bold underline"))
        for registration in registrations:
            table.add_row(*_cells(registration))
        if registrations:
            table.add_row()
    if catalog.broken:
        table.add_row(Text("could not be loaded", style="bold underline red"))
    for plugin in catalog.broken:
        table.add_row(*_broken_cells(plugin))
    if catalog.left_out:
        table.add_row(Text("left out", style="bold underline"), Text(", ".join(catalog.left_out)))
    return table


def _cells(registration: Registration) -> tuple[Text, Text, Text]:
    # Text, not strings: in a string rich reads the brackets of a default such as ["age"] as markup.
    what = Text(_first_line(registration.component))
    options = _options_with_defaults(registration.component.Options)
    if options:
        what.append(f"\n{options}", style="cyan")
    where = Text(f"{registration.distribution}\n{registration.version}", style="dim")
    return Text(f"  {registration.name}", style="bold"), what, where


def _broken_cells(plugin: BrokenPlugin) -> tuple[Text, Text, Text]:
    where = Text(f"{plugin.distribution}\n{plugin.version}", style="red")
    return Text(f"  {plugin.entry_point}", style="red"), Text(plugin.reason, style="red"), where


def _first_line(component: type[Any]) -> str:
    lines = (component.__doc__ or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _options_with_defaults(model: type[BaseModel]) -> str:
    return ", ".join(
        f"{option['name']} (required)"
        if option["required"]
        else f"{option['name']}={json.dumps(option['default'], ensure_ascii=False)}"
        for option in _options(model)
    )


def as_json(catalog: Catalog) -> dict[str, Any]:
    """The same with types and descriptions of the options, as JSON-able values in a stable order."""
    return {
        "components": [
            {
                "kind": r.kind,
                "name": r.name,
                "description": _first_line(r.component),
                "distribution": r.distribution,
                "version": r.version,
                "entry_point": r.entry_point,
                "options": _options(r.component.Options),
            }
            for r in catalog.registrations()
        ],
        "broken": [
            {"distribution": p.distribution, "version": p.version, "entry_point": p.entry_point, "reason": p.reason}
            for p in catalog.broken
        ],
        "left_out": list(catalog.left_out),
    }


def _options(model: type[BaseModel]) -> list[Mapping[str, Any]]:
    return [
        {
            "name": field.alias or name,
            "type": _type_name(field.annotation),
            "required": field.is_required(),
            "default": _default(field),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def _default(field: FieldInfo) -> Any:
    """The default as JSON. `str` for what JSON has no word for, NaN and infinity included."""
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    return json.loads(to_json(default, inf_nan_mode="strings", fallback=str))


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")
