import csv
import io
import json

import pytest
from hypothesis import given, strategies as st
from sweep_cells import cell, failed, row

from backdoor_core.errors import BackdoorError
from backdoor_core.sweep.rows import groups_of, parameter_values, row_of, summary_csv

finite = st.floats(allow_nan=False, allow_infinity=False)


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_is_what_its_cell_says():
    curve = [k / 100 for k in range(101)]
    content = cell({"asr": 0.5, "tar.x": None}, parameters={"train.epochs": 10}, null_lift=[0.01, -0.02])
    content["roc"] = {"knn": {"poisoned": curve, "null": []}}
    made = row_of(json.loads(json.dumps(content)))
    assert made.as_dict() == {
        **content["axes"],
        **{key: content[key] for key in ("status", "error", "figures", "roc", "null_lift")},
    }
    assert made.done
    assert made.cell == "mlp/rare_value/0.02/train.epochs=10/seed_1"
    json.dumps(made.as_dict(), allow_nan=False)


@pytest.mark.parametrize("key", ["axes", "status", "error", "figures", "roc", "null_lift"])
def test_a_missing_key_is_named(key):
    content = cell({})
    del content[key]
    with pytest.raises(BackdoorError, match=rf"^runs/a/cell\.json: no key '{key}'; .*run the sweep again$"):
        row_of(content, "runs/a/cell.json")


@pytest.mark.parametrize("key", ["model", "trigger", "rate", "parameters", "seed"])
def test_a_missing_axis_is_named(key):
    content = cell({})
    del content["axes"][key]
    with pytest.raises(BackdoorError, match=rf"^cell\.json: axes: no key '{key}'"):
        row_of(content)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"status": "running"}, "status is 'running', must be done or failed"),
        ({"figures": {"asr": float("nan")}}, "figures: asr is nan, must be a finite number"),
        ({"figures": {"asr": float("inf")}}, "figures: asr is inf"),
        ({"figures": {"asr": True}}, "figures: asr is True"),
        ({"figures": {"asr": "0.5"}}, "figures: asr is '0.5'"),
        ({"null_lift": [0.1, None]}, "null_lift is None"),
        ({"null_lift": None}, "null_lift is None, must be list"),
        ({"roc": {"knn": {"poisoned": []}}}, "roc.knn: no key 'null'"),
        ({"roc": {"knn": {"poisoned": [0.0, 1.0], "null": []}}}, "poisoned's length is 2, must be 101"),
        ({"axes": cell({}, seed=True)["axes"]}, "seed is True, must be int"),
        ({"axes": cell({}, rate="0.02")["axes"]}, "rate is '0.02', must be int or float"),
        ({"figures": {"long": "x" * 500}}, r"long is 'x+\.\.\., must"),
    ],
)
def test_what_is_unlike_the_contract_is_refused_in_one_line(broken, words):
    with pytest.raises(BackdoorError, match=words) as caught:
        row_of(cell({}) | broken)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_large_figures_whose_sum_overflows_are_still_figures():
    assert row({"a": 1.7e308, "b": 1.7e308}).figures == {"a": 1.7e308, "b": 1.7e308}


def test_an_error_stays_on_one_line():
    assert failed("one\n  two").error == "one two"


def test_groups_differ_in_more_than_the_seed_and_keep_grid_order():
    a, b = {"x.y": 10, "z": "u"}, {"x.y": 10.0, "z": "u"}
    places = [("mlp", 0.1, a), ("gru", 0.1, a), ("mlp", 0.0, a), ("mlp", 0.1, b)]
    rows = [
        row({"asr": 0.1}, model=model, rate=rate, parameters=parameters, seed=seed)
        for seed in (7, 3)
        for model, rate, parameters in places
    ]
    groups = groups_of(rows)
    assert [(group.model, group.rate, group.parameters) for group in groups] == places
    assert all([r.seed for r in group.rows] == [7, 3] for group in groups)
    swapped = row({}, parameters={"z": "u", "x.y": 10}, rate=0.1, seed=9)
    assert len(groups_of([*rows, swapped])) == len(groups)


def test_a_cell_given_twice_is_refused():
    with pytest.raises(BackdoorError, match=r"mlp/rare_value/0\.02/seed_1: the cell occurs twice"):
        groups_of([row({}), row({"asr": 1.0})])


def test_honest_detectors_leave_out_the_oracle_and_failed_cells():
    figures = {"detect.knn.oracle": 0, "detect.a.b.oracle": 0, "detect.perfect_filter.oracle": 1, "other.oracle": 0}
    (group,) = groups_of([failed(seed=2), row(figures)])
    assert group.honest_detectors == ("knn", "a.b")
    assert [r.seed for r in group.done] == [1]


@given(st.lists(st.lists(st.none() | finite | st.integers(-(2**60), 2**60), min_size=3, max_size=3), min_size=1))
def test_summary_csv_gives_the_same_numbers_back(table):
    names = ("asr", "auroc", "detect.knn.recall")
    rows = [row(dict(zip(names, figures, strict=True)), seed=k) for k, figures in enumerate(table)]
    text = summary_csv(rows)
    for line, figures in zip(read(text), table, strict=True):
        for name, figure in zip(names, figures, strict=True):
            assert (None if line[name] == "" else type(figure)(line[name])) == figure
    assert text == summary_csv(rows)


def test_summary_csv_has_the_columns_of_the_contract():
    rows = [
        row({"b": 1, "a": None}, parameters={"t.e": 10, "t.name": 'x,"y"'}),
        failed("no rows, none", rate=1e-05, seed=2, parameters={"t.e": 20, "t.flag": True}),
        row({"c": 0.1, "a": 2.5}, seed=3, parameters={"t.list": [1, 2], "t.e": None}),
    ]
    text = summary_csv(rows)
    assert text.splitlines()[0] == "model,trigger,rate,t.e,t.name,t.flag,t.list,seed,status,error,b,a,c"
    first, second, third = read(text)
    assert (first["t.name"], first["b"], first["a"], first["c"]) == ('x,"y"', "1", "", "")
    assert (second["rate"], second["status"], second["error"], second["a"]) == ("1e-05", "failed", "no rows, none", "")
    assert (third["t.list"], third["t.e"], third["c"], third["error"]) == ("[1,2]", "", "0.1", "")
    assert second["t.flag"] == "true"
    assert "\r" not in text


def test_values_of_parameters_are_those_of_all_cells_whichever_have_them():
    sets = ({"train.epochs": 1}, {"train.epochs": 1.0}, {"poison.labels": "clean"}, {}, {"detectors": ["knn"]})
    found = parameter_values(row({}, parameters=parameters) for parameters in (*sets, *sets))
    assert json.dumps(found) == '{"train.epochs": [1, 1.0], "poison.labels": ["clean"], "detectors": [["knn"]]}'
