from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from backdoor_core.validation import did_you_mean, one_line


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Poison(Strict):
    rate: float = Field(0.1, ge=0, le=1)
    labels: Literal["flip", "keep"] = "flip"


class Grid(Strict):
    steps: int = 3


class Params(Strict):
    seed: int
    feature: str | int = 0
    value: float | None = 1.0
    flag: bool = False
    poison: Poison = Poison()
    optional: Poison | None = None
    either: Poison | Grid = Grid()
    many: list[Poison] = []
    pair: tuple[int, Poison] = (1, Poison())
    maps: Annotated[dict[str, Poison], Field(description="by name")] = {}
    words: list[str] | int = 1
    known_as: int = Field(1, alias="knownAs")
    even: int = 2
    few: tuple[int, ...] = Field((1, 2), min_length=2)
    coded: str = Field("a", pattern="^a$")

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd; give an even number")
        return value

    @model_validator(mode="after")
    def _not_both(self) -> "Params":
        if self.flag and self.seed == 7:
            raise ValueError("flag does not go with seed 7")
        return self


ALL = "seed, feature, value, flag, poison, optional, either, many, pair, maps, words, knownAs, even, few, coded"


def told(where="params.yaml", **content):
    with pytest.raises(ValidationError) as caught:
        Params.model_validate({"seed": 1, **content})
    line = one_line(caught.value, where, Params)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"sead": 1}, f"sead: unknown option; did you mean 'seed'? Options: {ALL}"),
        ({"zzz": 1}, f"zzz: unknown option. Options: {ALL}"),
        ({"knownas": 1}, f"knownas: unknown option; did you mean 'knownAs'? Options: {ALL}"),
        ({"poison": {"rte": 0.1}}, "poison.rte: unknown option; did you mean 'rate'? Options: rate, labels"),
        ({"optional": {"rte": 1}}, "optional.rte: unknown option; did you mean 'rate'? Options: rate, labels"),
        ({"poison": {"rate": 1.5}}, "poison.rate: should be less than or equal to 1, not 1.5"),
        ({"poison": {"labels": "flp"}}, "poison.labels: should be 'flip' or 'keep', not 'flp'"),
        ({"poison": 3}, "poison: should be a mapping, not 3. Options: rate, labels"),
        ({"either": 3}, "either: should be a mapping, not 3. Options: rate, labels, steps"),
        ({"maps": {"a": "b"}}, "maps.a: should be a mapping, not 'b'. Options: rate, labels"),
        ({"maps": {1: {}}}, "maps: the key 1 should be text; put it in quotes"),
        ({"few": []}, "few: should have at least 2 entries, not []"),
        ({"few": ["a", "b"]}, "few[0]: should be a whole number, not 'a'; few[1]: should be a whole number, not 'b'"),
        ({"coded": "b"}, "coded: should match pattern '^a$', not 'b'"),
        ({"many": [{}, {"rate": -1}]}, "many[1].rate: should be greater than or equal to 0, not -1"),
        ({"many": [{"rte": 1}]}, "many[0].rte: unknown option; did you mean 'rate'? Options: rate, labels"),
        ({"pair": [1, {"rte": 1}]}, "pair[1].rte: unknown option; did you mean 'rate'? Options: rate, labels"),
        ({"maps": {"a": {"rte": 1}}}, "maps.a.rte: unknown option; did you mean 'rate'? Options: rate, labels"),
        ({"maps": []}, "maps: should be a mapping, not []"),
        ({"many": {}}, "many: should be a list, not {}"),
        ({"seed": "many"}, "seed: should be a whole number, not 'many'"),
        ({"seed": 1.5}, "seed: should be a whole number, not 1.5"),
        ({"seed": None}, "seed: should be a whole number, not None"),
        ({"flag": "perhaps"}, "flag: should be true or false, not 'perhaps'"),
        ({"value": "much"}, "value: should be a number, not 'much'"),
        ({"feature": 1.5}, "feature: should be text or a whole number, not 1.5"),
        ({"even": 3}, "even: 3 is odd; give an even number"),
    ],
)
def test_one_error(content, line):
    assert told(**content) == f"params.yaml: {line}"


def test_a_missing_value():
    with pytest.raises(ValidationError) as caught:
        Params.model_validate({})
    assert one_line(caught.value, "params.yaml", Params) == "params.yaml: seed: missing, and it has no default"


def test_the_whole_content_is_wrong():
    with pytest.raises(ValidationError) as caught:
        Params.model_validate([1])
    assert one_line(caught.value, "params.yaml", Params) == "params.yaml: should be a mapping, not [1]"


def test_an_error_of_the_whole_model_stands_at_the_model():
    assert told(seed=7, flag=True) == "params.yaml: flag does not go with seed 7"
    assert told("params.yaml: audits.x", seed=7, flag=True) == "params.yaml: audits.x: flag does not go with seed 7"


def test_a_model_inside_the_file_continues_the_path():
    assert told("params.yaml: triggers.rare_value", poison={"rate": 2}) == (
        "params.yaml: triggers.rare_value.poison.rate: should be less than or equal to 1, not 2"
    )


def test_a_union_of_models_suggests_from_all_of_them():
    assert told(either={"step": 1}) == (
        "params.yaml: either.step: unknown option; did you mean 'steps'? Options: rate, labels, steps"
    )


def test_a_union_with_a_list_keeps_the_index():
    line = told(words=["a", 1])
    assert line == "params.yaml: words[1]: should be text, not 1; words: should be a whole number, not ['a', 1]"


def test_three_errors_are_shown_and_the_rest_counted():
    assert told(seed="x", flag=3, value="y", even="z", feature=None) == (
        "params.yaml: seed: should be a whole number, not 'x'; feature: should be text or a whole number, not None; "
        "value: should be a number, not 'y'; and 2 more"
    )
    assert told("params.yaml: models.m", seed="x", value="y") == (
        "params.yaml: models.m.seed: should be a whole number, not 'x'; models.m.value: should be a number, not 'y'"
    )


def test_a_long_value_is_cut():
    assert len(told(seed="x" * 5000)) < 120


def test_a_word_that_is_near_nothing_has_no_suggestion():
    assert did_you_mean("spectrl", ["spectral", "activation"]) == "; did you mean 'spectral'?"
    assert did_you_mean("qqq", ["spectral", "activation"]) == ""
    assert did_you_mean("qqq", []) == ""
