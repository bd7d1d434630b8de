"""From the section `sweep` of params.yaml to cells: one study each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from backdoor_core.errors import BackdoorError
from backdoor_core.params import OPTION_MAPS, Params
from backdoor_core.sweep_params import AXES
from backdoor_core.validation import one_line


@dataclass(frozen=True)
class Cell:
    """One study of the grid."""

    model: str
    trigger: str
    rate: float
    parameters: Mapping[str, Any]
    """Dotted keys and values beyond those of params.yaml."""
    seed: int
    params: Params
    """All of it, as a params.yaml of its own would say."""

    @property
    def name(self) -> str:
        """Its folder below ``runs/``: ``mlp/rare_value/0.02/[train.epochs=10/]seed_42``."""
        return cell_name(self.model, self.trigger, self.rate, self.parameters, self.seed)

    @property
    def axes(self) -> dict[str, Any]:
        """Where it lies in the grid, for JSON."""
        found = {"model": self.model, "trigger": self.trigger, "rate": self.rate}
        return {**found, "parameters": dict(self.parameters), "seed": self.seed}


def cell_name(model: str, trigger: str, rate: float, parameters: Mapping[str, Any], seed: int) -> str:
    """Folder of a cell, below ``runs/``; characters that a folder's name should not have become hyphens."""
    varied = ",".join(f"{key}={_word(value)}" for key, value in sorted(parameters.items()))
    middle = [re.sub(r"[^A-Za-z0-9._,=+-]+", "-", varied)] if varied else []
    return "/".join([model, trigger, repr(float(rate)), *middle, f"seed_{seed}"])


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def cells_of(params: Params) -> list[Cell]:
    """The cells of the study's sweep, in the order of its axes, those of `include` last; none stands twice.

    Raises `BackdoorError` for a dotted key or value that params.yaml could not have, and where nothing is left.
    """
    base = params.model_dump(mode="json")
    cells: dict[str, Cell] = {}
    for where, point in _points(params):
        if any(_matches(point, rule) for rule in params.sweep.exclude):
            continue
        cell = _cell(base, point, where)
        other = cells.setdefault(cell.name, cell)
        if other.axes != cell.axes:
            raise BackdoorError(
                f"params.yaml: sweep: two cells would share the folder runs/{cell.name}; rename a value"
            )
    if not cells:
        raise BackdoorError("params.yaml: sweep: exclude leaves no cell")
    return list(cells.values())


def idle_rules(params: Params) -> list[str]:
    """The rules of `exclude` that leave out no cell, as params.yaml names them: most likely a slip."""
    points = [point for _, point in _points(params)]
    rules = enumerate(params.sweep.exclude)
    return [f"sweep.exclude[{k}]" for k, rule in rules if not any(_matches(point, rule) for point in points)]


def _points(params: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    """Values by axis and dotted key of every cell, and where params.yaml says so."""
    sweep = params.sweep
    axes: dict[str, tuple[Any, ...]] = {
        "model": sweep.models,
        "trigger": sweep.triggers,
        **sweep.parameters,
        "rate": sweep.rates,
        "seed": sweep.seeds,
    }
    for values in itertools.product(*axes.values()):
        yield "parameters", dict(zip(axes, values, strict=True))
    for number, given in enumerate(sweep.include):
        wanted = {**{axis: axes[axis] for axis in AXES}, **{key: _several(value, key) for key, value in given.items()}}
        for values in itertools.product(*wanted.values()):
            yield f"include[{number}]", dict(zip(wanted, values, strict=True))


def _several(value: Any, key: str) -> tuple[Any, ...]:
    """A list of an axis is several values; of a dotted key it is one value, such as a list of detectors."""
    return tuple(value) if isinstance(value, list) and key in AXES else (value,)


def _matches(point: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    return all(key in point and _is_one_of(point[key], value) for key, value in rule.items())


def _is_one_of(value: Any, wanted: Any) -> bool:
    """A rule's list is several values, or the one value that is a list; numbers may be text, as YAML reads 1e-2."""
    several = wanted if isinstance(wanted, list) else [wanted]
    return value == wanted or _number(value) in map(_number, several)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _cell(base: Mapping[str, Any], point: Mapping[str, Any], where: str) -> Cell:
    parameters = {key: value for key, value in point.items() if key not in AXES}
    chosen = {"model": point["model"], "trigger": point["trigger"], "seed": point["seed"]}
    content: dict[str, Any] = {**base, **chosen, "poison": {**base["poison"], "rate": point["rate"], "count": None}}
    for key, value in parameters.items():
        _refuse_section(base, key, where)
        content = _with(content, key.split("."), value, f"params.yaml: sweep.{where}: {key}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise BackdoorError(f"{one_line(error, 'params.yaml', Params)} (from sweep.{where})") from None
    # As params.yaml would have them: of a number that YAML reads as text, such as 1e-2, the number.
    read = params.model_dump(mode="json")
    parameters = {key: _value_of(read, key) for key in parameters}
    return Cell(point["model"], point["trigger"], float(point["rate"]), parameters, int(point["seed"]), params)


def _refuse_section(base: Mapping[str, Any], key: str, where: str) -> None:
    """What a section put in place of another leaves out would silently become the default."""
    found, path = _value_of(base, key), key.split(".")
    # An option of a component may be a mapping.
    if isinstance(found, dict) and not (path[0] in OPTION_MAPS.values() and len(path) > 2):
        inner = next(iter(found), "...")
        raise BackdoorError(f"params.yaml: sweep.{where}: {key} is a section; name a key in it, such as {key}.{inner}")


def _value_of(content: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _with(content: dict[str, Any], path: list[str], value: Any, where: str) -> dict[str, Any]:
    """A copy with one value replaced; only the options of components may be new."""
    key, *rest = path
    if not rest:
        return {**content, key: value}
    inner = content.get(key)
    if inner is None and (key in OPTION_MAPS.values() or where.split(": ")[-1].split(".")[0] in OPTION_MAPS.values()):
        inner = {}
    if not isinstance(inner, dict):
        raise BackdoorError(
            f"{where} is no key of params.yaml; {key} {'has no parts' if key in content else 'is unknown'}"
        )
    return {**content, key: _with(inner, rest, value, where)}
