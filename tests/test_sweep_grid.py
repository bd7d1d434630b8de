"""From params.yaml to cells."""

import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.errors import BackdoorError
from backdoor_core.params import Params
from backdoor_core.sweep.grid import cell_name, cells_of, idle_rules


def study(**sweep):
    base = {"cohort": "synthetic", "trigger": "none", "model": "mlp", "seed": 1, "poison": {"count": 5}}
    defaults = {"models": ["mlp"], "triggers": ["rare_value"], "rates": [0.02], "seeds": [1]}
    return Params.model_validate({**base, "sweep": {**defaults, **sweep}})


def names(**sweep):
    return [cell.name for cell in cells_of(study(**sweep))]


def test_every_combination_once_and_seeds_last():
    found = names(models=["mlp", "lstm"], rates=[0.01, 0.02], seeds=[1, 2])
    assert len(found) == len(set(found)) == 8
    assert found[:3] == ["mlp/rare_value/0.01/seed_1", "mlp/rare_value/0.01/seed_2", "mlp/rare_value/0.02/seed_1"]


def test_a_cell_is_the_study_that_its_place_says():
    (cell,) = cells_of(study(rates=[0.03], seeds=[9], parameters={"train.epochs": [3], "poison.labels": ["clean"]}))
    params = cell.params
    assert (params.trigger, params.seed, params.poison.rate, params.train.epochs) == ("rare_value", 9, 0.03, 3)
    assert params.poison.labels == "clean"
    assert params.poison.count is None, "a count of the study itself would hide the rate"
    assert cell.name == "mlp/rare_value/0.03/poison.labels=clean,train.epochs=3/seed_9"


def test_options_of_components_are_parameters_too():
    cells = cells_of(study(parameters={"triggers.rare_value.value": [1, 2]}))
    assert [cell.params.options("trigger", "rare_value") for cell in cells] == [{"value": 1}, {"value": 2}]


def test_include_adds_cells_over_the_axes_that_it_leaves_out():
    found = names(seeds=[1, 2], include=[{"model": "gbdt", "detectors": ["range_rule"]}, {"rate": [0.1, 0.2]}])
    assert found[2:] == [
        *(f"gbdt/rare_value/0.02/detectors=range_rule/seed_{seed}" for seed in (1, 2)),
        *(f"mlp/rare_value/{rate}/seed_{seed}" for rate in (0.1, 0.2) for seed in (1, 2)),
    ]


def test_exclude_leaves_out_what_matches_all_of_a_rule():
    grid = {"triggers": ["rare_value", "missingness"], "rates": [0.01, 0.02]}
    assert names(**grid, exclude=[{"trigger": "missingness", "rate": [0.01, 0.5]}]) == [
        "mlp/rare_value/0.01/seed_1",
        "mlp/rare_value/0.02/seed_1",
        "mlp/missingness/0.02/seed_1",
    ]


def test_exclude_knows_a_rate_that_yaml_read_as_text_and_a_value_that_is_a_list():
    assert names(rates=[0.01, 0.02], exclude=[{"rate": "1e-2"}]) == names(rates=[0.02])
    lists = {"detectors": [["range_rule"], ["range_rule", "random_filter"]]}
    assert names(parameters=lists, exclude=[{"detectors": ["range_rule"]}]) == [
        "mlp/rare_value/0.02/detectors=range_rule+random_filter/seed_1"
    ]


def test_numbers_that_yaml_reads_as_text_are_numbers():
    (cell,) = cells_of(study(parameters={"poison.cover_rate": ["1e-2"], "inclusion.min_age": ["18"]}))
    assert cell.parameters == {"poison.cover_rate": 0.01, "inclusion.min_age": 18}
    assert cell.name == "mlp/rare_value/0.02/inclusion.min_age=18,poison.cover_rate=0.01/seed_1"
    left = names(include=[{"rate": "1e-2", "seed": "2"}], exclude=[{"rate": 0.01, "seed": 2}])
    assert left == names()
    rates = {"train.learning_rate": ["1e-2", 0.1]}
    assert names(parameters=rates, exclude=[{"train.learning_rate": 0.01}]) == names(
        parameters={"train.learning_rate": [0.1]}
    )


def test_an_option_that_is_a_mapping_is_a_value():
    given = {"triggers": {"rare_value": {"values": {"lactate": 8}}}}
    grid = {"parameters": {"triggers.rare_value.values": [{"lactate": 9}, {"lactate": 10}]}}
    params = Params.model_validate({**study(**grid).model_dump(mode="json"), **given})
    found = [cell.params.options("trigger", "rare_value") for cell in cells_of(params)]
    assert found == [{"values": {"lactate": 9}}, {"values": {"lactate": 10}}]
    whole = {"parameters": {"triggers.rare_value": [{"values": {"lactate": 9}}]}}
    with pytest.raises(BackdoorError, match=r"triggers\.rare_value is a section"):
        cells_of(Params.model_validate({**study(**whole).model_dump(mode="json"), **given}))


def test_a_rule_that_leaves_out_nothing_is_told():
    rules = [{"trigger": "missingnes"}, {"rate": 0.01}, {"rate": 0.02, "seed": 7}]
    assert idle_rules(study(rates=[0.01, 0.02], exclude=rules)) == ["sweep.exclude[0]", "sweep.exclude[2]"]


def test_a_cell_that_include_repeats_stands_once():
    assert names(include=[{"rate": 0.02}]) == names()


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"parameters": {"train.epoch": [3]}}, r"train\.epoch.*did you mean 'epochs'"),
        ({"parameters": {"trian.epochs": [3]}}, r"sweep\.parameters: trian\.epochs is no key of params.yaml"),
        ({"parameters": {"seed.of": [3]}}, r"seed\.of is no key"),
        ({"parameters": {"train.epochs": ["many"]}}, r"train\.epochs: should be a whole number.*sweep\.parameters"),
        ({"include": [{"train.epochs": 0}]}, r"train\.epochs.*sweep\.include\[0\]"),
        ({"exclude": [{"model": "mlp"}]}, "exclude leaves no cell"),
        ({"parameters": {"triggers.rare_value.feature": ["a b", "a/b"]}}, "share the folder"),
        ({"parameters": {"poison": [{"labels": "flip"}]}}, r"poison is a section; name a key in it, such as poison\."),
        ({"include": [{"train": {"epochs": 3}}]}, r"sweep\.include\[0\]: train is a section"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(sweep, message):
    with pytest.raises(BackdoorError, match=message) as caught:
        cells_of(study(**sweep))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"seeds": [1, 1]}, "seeds lists 1 more than once"),
        ({"rates": [0.9]}, "less than or equal to 0.5"),
        ({"parameters": {"poison.rate": [0.1]}}, "axis of its own"),
        ({"parameters": {"train.epochs": []}}, "at least one value"),
        ({"name": "../up"}, "letters, digits"),
        ({"include": [{"poison.rate": 0.3}]}, r"include\[0\]: poison\.rate is an axis of its own"),
        ({"include": [{"poison.count": 50}]}, r"include\[0\]: poison\.count is an axis of its own"),
        ({"include": [{"sweep.explain": False}]}, "belongs to the sweep"),
        ({"include": [{"rate": []}]}, r"include\[0\]: rate should list at least one value"),
        ({"exclude": [{"rates": 0.1}]}, r"exclude\[0\]: rates is no axis or parameter.*did you mean 'rate'"),
    ],
)
def test_params_refuse_a_grid_that_cannot_be(sweep, message):
    with pytest.raises(ValueError, match=message):
        study(**sweep)


VALUES = st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.lists(st.integers(), max_size=3))


@settings(max_examples=60)
@given(value=VALUES)
def test_a_folder_has_no_character_that_a_folder_should_not_have(value):
    name = cell_name("mlp", "rare_value", 0.02, {"a.b": value}, 3)
    assert name.startswith("mlp/rare_value/0.02/a.b=")
    assert name.count("/") == 4
    assert not set(name) & set(' \\:*?"<>|\n\0')
