import pytest
from pydantic import BaseModel, Field

from backdoor_core.component_check import defect
from backdoor_core.contracts import (
    KINDS,
    Audit,
    Corpus,
    Explainer,
    NoOptions,
    TorchModel,
    Trigger,
)


class Good(Trigger):
    name = "good"
    modalities = frozenset({"table"})

    def apply(self, view, fitted, rng):
        return view


class Loose(BaseModel):
    share: float = 1


class Unordered(NoOptions):
    some: set[str] = Field(default_factory=set)


class NoApply(Trigger):
    name = "bad"
    modalities = frozenset({"table"})


class NoModalities(Trigger):
    name = "bad"

    def apply(self, view, fitted, rng):
        return view


def variant(**attributes):
    return type("Bad", (Good,), attributes)


def test_a_good_component_has_no_defect():
    assert defect("trigger", Good) is None
    assert defect("trigger", variant(name="a_2")) is None


@pytest.mark.parametrize(
    ("component", "says"),
    [
        (Good(NoOptions(), None), "is not a class; register the class itself, not an instance"),
        (dict, "dict is not a trigger; inherit from backdoor_core.contracts.Trigger"),
        (Trigger, "Trigger has no `name`; set `name` to a word of a-z, 0-9 and _ that starts with a letter"),
        (variant(name="Bad-Name"), "Bad has name = 'Bad-Name'; set `name` to a word"),
        (variant(name="bad\n"), "Bad has name = 'bad\\n'"),
        (variant(name="2bad"), "Bad has name = '2bad'"),
        (variant(name=""), "Bad has name = ''"),
        (variant(name=3), "Bad has name = 3"),
        (NoApply, "NoApply lacks the method apply"),
        (NoModalities, "NoModalities lacks the class attribute modalities"),
        (variant(Options=dict), "not a pydantic model; inherit from backdoor_core.contracts.Options"),
        (variant(Options=NoOptions()), "Bad.Options is NoOptions(), not a pydantic model"),
        (variant(Options=Loose), "Bad.Options lets unknown options pass; inherit from backdoor_core.contracts.Options"),
        (variant(Options=Unordered), "Bad.Options.some is a set, whose order differs between runs; make it a tuple"),
    ],
)
def test_a_defect_says_what_would_be_right(component, says):
    found = defect("trigger", component)
    assert found is not None
    assert says in found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_its_own_base(kind):
    assert defect(kind, int) == f"int is not a {kind}; inherit from backdoor_core.contracts.{KINDS[kind].__name__}"


@pytest.mark.parametrize(
    ("kind", "base", "says"),
    [
        ("audit", Audit, "lacks the method score"),
        ("corpus", Corpus, "lacks the method records"),
        ("explainer", Explainer, "lacks the method attribute"),
        ("model", TorchModel, "lacks the method build"),
    ],
)
def test_missing_methods_are_named(kind, base, says):
    assert says in defect(kind, type("Part", (base,), {"name": "part"}))


def test_a_model_without_modality():
    assert "lacks the class attribute modality" in defect(
        "model", type("Part", (TorchModel,), {"name": "part", "build": lambda self, spec: None})
    )
