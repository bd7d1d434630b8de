"""The cells of a sweep as rows, the groups that differ only in the seed, and summary.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from backdoor_core.errors import BackdoorError
from backdoor_core.sweep.grid import cell_name

Value = float | int | None
"""A figure of one cell; None where it does not exist."""
ROC_POINTS = 101
"""Points of a stored ROC curve: its true positive rates at fpr = np.linspace(0, 1, 101) ** 2."""
ROC_RUNS = ("poisoned", "null")


@dataclass(frozen=True)
class Row:
    """One cell: where it lies in the grid, how it ended, and its figures (none where it failed)."""

    model: str
    trigger: str
    rate: float
    parameters: Mapping[str, Any]
    seed: int
    status: str
    error: str | None
    figures: Mapping[str, Value]
    roc: Mapping[str, Mapping[str, Sequence[float]]]
    null_lift: Sequence[float]

    @property
    def done(self) -> bool:
        """Whether the cell has figures."""
        return self.status == "done"

    @property
    def cell(self) -> str:
        """Its name, such as ``mlp/rare_value/0.02/train.epochs=10/seed_42``."""
        return cell_name(self.model, self.trigger, self.rate, self.parameters, self.seed)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; shares its content with the row."""
        return dict(vars(self))


@dataclass(frozen=True)
class Group:
    """The cells that differ only in the seed, in grid order."""

    model: str
    trigger: str
    rate: float
    parameters: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def done(self) -> tuple[Row, ...]:
        """The cells that have figures."""
        return tuple(row for row in self.rows if row.done)

    @cached_property
    def honest_detectors(self) -> tuple[str, ...]:
        """The detectors that were run and not told the truth (``detect.<name>.oracle`` is 0), as first seen."""
        prefix, suffix = "detect.", ".oracle"
        told = [(name, value) for row in self.done for name, value in row.figures.items() if name.endswith(suffix)]
        names = (name[len(prefix) : -len(suffix)] for name, value in told if name.startswith(prefix) and value == 0)
        return tuple(dict.fromkeys(names))

    def place(self) -> dict[str, Any]:
        """Its axes, for JSON."""
        return {
            "model": self.model,
            "trigger": self.trigger,
            "rate": self.rate,
            "parameters": dict(self.parameters),
        }


def row_of(cell: Mapping[str, Any], where: str = "cell.json") -> Row:
    """The row that the content of a cell.json makes.

    Raises `BackdoorError` naming `where` and the key, for a key that is missing or of another kind: a figure that is
    not a finite number or null, a ROC curve of neither 0 nor 101 points, a status other than done and failed.
    """
    axes = _entry(cell, "axes", Mapping, where)
    status = _entry(cell, "status", str, where)
    if status not in ("done", "failed"):
        raise _unlike(where, "status", status, "done or failed")
    error = _entry(cell, "error", (str, type(None)), where)
    inside = f"{where}: axes"
    return Row(
        model=_entry(axes, "model", str, inside),
        trigger=_entry(axes, "trigger", str, inside),
        rate=float(_finite(_entry(axes, "rate", (int, float), inside), inside, "rate")),
        parameters=dict(_entry(axes, "parameters", Mapping, inside)),
        seed=_entry(axes, "seed", int, inside),
        status=status,
        error=None if error is None else " ".join(error.split()),
        figures=_figures(_entry(cell, "figures", Mapping, where), f"{where}: figures"),
        roc=_curves(_entry(cell, "roc", Mapping, where), f"{where}: roc"),
        null_lift=_numbers(_entry(cell, "null_lift", list, where), where, "null_lift"),
    )


def groups_of(rows: Iterable[Row]) -> list[Group]:
    """The groups, in the order in which the rows first name them.

    Raises `BackdoorError` where two rows are the same cell: it would count twice.
    """
    members: dict[tuple[str, str, float, str], dict[int, Row]] = {}
    for row in rows:
        seeds = members.setdefault((row.model, row.trigger, row.rate, parameters_key(row.parameters)), {})
        if row.seed in seeds:
            raise BackdoorError(f"{row.cell}: the cell occurs twice; each cell of the grid must be given once")
        seeds[row.seed] = row
    groups = []
    for seeds in members.values():
        first = next(iter(seeds.values()))
        groups.append(Group(first.model, first.trigger, first.rate, first.parameters, tuple(seeds.values())))
    return groups


def parameters_key(parameters: Mapping[str, Any]) -> str:
    """Equal for equal parameters, whatever their order; 10 and 10.0 differ."""
    return json.dumps(parameters, sort_keys=True)


def parameter_names(places: Iterable[Row | Group]) -> list[str]:
    """Every dotted parameter, as first seen."""
    return list(dict.fromkeys(key for place in places for key in place.parameters))


def parameter_values(places: Iterable[Row | Group]) -> dict[str, list[Any]]:
    """The values that every dotted parameter takes, as first seen. A place without one has that of params.yaml."""
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        for key, value in place.parameters.items():
            found.setdefault(key, {}).setdefault(json.dumps(value, sort_keys=True), value)
    return {key: list(values.values()) for key, values in found.items()}


def summary_csv(rows: Sequence[Row]) -> str:
    """summary.csv: one line per cell in grid order, a column per figure as first seen, empty where there is none.

    Floats are written by `repr`, so that reading them gives the same numbers.
    """
    varied = parameter_names(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    header = ["model", "trigger", "rate", *varied, "seed", "status", "error", *names]
    return csv_text(
        header,
        (
            [
                *(row.model, row.trigger, row.rate),
                *(plain_or_none(row.parameters.get(key)) for key in varied),
                *(row.seed, row.status, row.error),
                *map(row.figures.get, names),
            ]
            for row in rows
        ),
    )


def csv_text(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """CSV with a header; None is empty, floats as by `repr`, lines end in a newline alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def plain_or_none(value: Any) -> str | None:
    """A parameter's value for a CSV: text as it is, None as None, anything else as JSON."""
    return None if value is None else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ------------------------------------------------------------------------------------------------ reading a cell
def _unlike(where: str, key: str, value: object, right: str) -> BackdoorError:
    shown = repr(value)
    return BackdoorError(f"{where}: {key} is {shown if len(shown) <= 60 else shown[:57] + '...'}, must be {right}")


def _entry(content: Mapping[str, Any], key: str, kind: Any, where: str) -> Any:
    if key not in content:
        raise BackdoorError(f"{where}: no key {key!r}; delete the cell's folder and run the sweep again")
    value = content[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        names = " or ".join({type(None): "null", Mapping: "object"}.get(k, k.__name__) for k in kinds)
        raise _unlike(where, key, value, f"{names}; delete the cell's folder and run the sweep again")
    return value


def _finite(value: Any, where: str, key: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _unlike(where, key, value, "a finite number")
    return value


def _all_finite(values: Sequence[Any]) -> bool:
    """A quick look at all: a sweep has millions. False may also stand for a sum that overflows."""
    return set(map(type, values)) <= {float, int} and math.isfinite(sum(values))


def _numbers(values: Sequence[Any], where: str, key: str) -> list[float]:
    if _all_finite(values):
        return list(map(float, values))
    return [float(_finite(value, where, key)) for value in values]


def _figures(figures: Mapping[str, Any], where: str) -> dict[str, Value]:
    if _all_finite([value for value in figures.values() if value is not None]):
        return dict(figures)
    return {name: value if value is None else _finite(value, where, name) for name, value in figures.items()}


def _curves(roc: Mapping[str, Any], where: str) -> dict[str, dict[str, list[float]]]:
    curves: dict[str, dict[str, list[float]]] = {}
    for detector in roc:
        runs = _entry(roc, detector, Mapping, where)
        curves[detector] = {
            run: _numbers(_entry(runs, run, list, f"{where}.{detector}"), f"{where}.{detector}", run)
            for run in ROC_RUNS
        }
        for run, curve in curves[detector].items():
            if len(curve) not in (0, ROC_POINTS):
                raise _unlike(f"{where}.{detector}", f"{run}'s length", len(curve), f"{ROC_POINTS}, or 0 if undefined")
    return curves
