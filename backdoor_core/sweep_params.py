"""The section `sweep` of params.yaml: a grid of studies."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backdoor_core.validation import did_you_mean

AXES = ("model", "trigger", "rate", "seed")
"""What tells the cells of every sweep apart; a dotted parameter may be a further axis."""

_OF_AXES = ("poison.rate", "poison.count", "sweep")
"""What the axes set, or what is not a cell's."""

Rate = Annotated[float, Field(ge=0, le=0.5)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SweepParams(BaseModel):
    """Every combination of models, triggers, rates, seeds and further parameters is a cell: a study of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("default", description="folder below benchmarks/ for the summary and the report")
    models: tuple[str, ...] = Field(("mlp",), min_length=1, description="models that are attacked")
    triggers: tuple[str, ...] = Field(("rare_value",), min_length=1, description="triggers")
    rates: tuple[Rate, ...] = Field((0.02,), min_length=1, description="poisoned shares of the training stays")
    seeds: tuple[Seed, ...] = Field((42,), min_length=1, description="each its own split, poisoning and training")
    parameters: dict[str, tuple[Any, ...]] = Field(
        {}, description="further axes: dotted keys and their values, such as poison.labels: [flip, clean]"
    )
    include: tuple[dict[str, Any], ...] = Field(
        (), description="further cells: values of some axes or dotted keys, all values of the axes left out"
    )
    exclude: tuple[dict[str, Any], ...] = Field((), description="cells left out: those with all of the given values")
    explain: bool = Field(True, description="run the stage explain in every cell: the trigger's share of attributions")
    cleanse: bool = Field(False, description="run the stage cleanse in every cell: retrains once for each detector")
    keep_models: bool = Field(False, description="keep every poisoned model's weights")
    executor: Literal["local", "ray"] = Field("local", description="processes of this machine, or a Ray cluster")
    workers: int | None = Field(None, ge=1, description="processes; null is one for each CPU")
    address: str | None = Field(None, description="of a Ray cluster; null starts Ray on this machine")
    retries: int = Field(2, ge=0, description="how often work is given out again whose process died")

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"{name!r} should be letters, digits, dots, underscores and hyphens")
        return name

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        axes: dict[str, tuple[Any, ...]] = {
            "models": self.models,
            "triggers": self.triggers,
            "rates": self.rates,
            "seeds": self.seeds,
            **{f"parameters: {key}": values for key, values in self.parameters.items()},
        }
        for axis, values in axes.items():
            if not values:
                raise ValueError(f"{axis} should list at least one value")
            if twice := [value for k, value in enumerate(values) if value in values[:k]]:
                raise ValueError(f"{axis} lists {twice[0]} more than once")
        for key in self.parameters:
            _check_key("parameters", key, (*AXES, *_OF_AXES))
        for number, given in enumerate(self.include):
            for key, value in given.items():
                _check_key(f"include[{number}]", key, _OF_AXES)
                if key in AXES and value == []:
                    raise ValueError(f"include[{number}]: {key} should list at least one value")
        for number, rule in enumerate(self.exclude):
            known = {*AXES, *self.parameters, *(key for given in self.include for key in given)}
            for key in rule:
                if key not in known:
                    said = did_you_mean(key, known)
                    raise ValueError(f"exclude[{number}]: {key} is no axis or parameter of the grid{said}")
        return self


def _check_key(where: str, key: str, refused: tuple[str, ...]) -> None:
    """A cell must be trained with what its place in the grid says."""
    if key in refused or key.startswith("sweep."):
        raise ValueError(f"{where}: {key} is an axis of its own or belongs to the sweep; leave it out")
