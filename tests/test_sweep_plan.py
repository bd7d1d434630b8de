"""What a sweep does together, and in which order."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from backdoor_core.errors import BackdoorError
from backdoor_core.study import load_study
from backdoor_core.sweep.plan import batches, plan

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def planned_cells(tmp_path):
    def make(**sweep):
        content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        content["sweep"] |= {"triggers": ["rare_value"], "rates": [0.02], "seeds": [1], **sweep}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        return [one.cell.name for one in plan(load_study(tmp_path))]

    return make


@pytest.mark.parametrize(
    ("sweep", "where"),
    [
        ({"parameters": {"triggers.rare_valu.value": [1]}}, "sweep.parameters: triggers.rare_valu.value"),
        ({"include": [{"triggers.rare_valu.value": 1}]}, r"sweep.include\[0\]: triggers.rare_valu.value"),
    ],
)
def test_an_axis_of_a_component_that_is_not_installed_is_refused(planned_cells, sweep, where):
    with pytest.raises(BackdoorError, match=f"{where}: no installed trigger is named 'rare_valu'; did you mean 'rare_"):
        planned_cells(**sweep)


def test_components_of_stages_that_a_sweep_leaves_out_need_not_fit(planned_cells):
    cells = {"include": [{"model": "gbdt", "detectors": ["range_rule"]}]}
    with pytest.raises(BackdoorError, match="explainer integrated_gradients needs gradient"):
        planned_cells(**cells)
    with pytest.raises(BackdoorError, match="repair fine_pruning mends torch models"):
        planned_cells(**cells, cleanse=True)
    assert "gbdt/rare_value/0.02/detectors=range_rule/seed_1" in planned_cells(**cells, explain=False)


def test_a_section_in_place_of_a_key_is_told_as_that(planned_cells):
    with pytest.raises(BackdoorError, match="triggers is a section; name a key in it"):
        planned_cells(include=[{"triggers": {"rare_value": {"value": 3}}}])


def test_the_examples_of_the_documentation_fit_the_study_of_the_repository(planned_cells):
    shown = [(REPOSITORY / name).read_text() for name in ("params.yaml", "docs/sweeps.md")]
    (given,) = {text.partition("further cells, such as ")[2].partition("}")[0] + "}" for text in shown[:1]}
    assert planned_cells(include=[yaml.safe_load(given)])[-1].startswith("gbdt/")
    given = shown[1].partition("further cells: `")[2].partition("`")[0]
    assert planned_cells(include=[yaml.safe_load(given)])[-1].startswith("gbdt/")


def planned(clean, trigger, rate):
    return SimpleNamespace(clean=clean, cell=SimpleNamespace(trigger=trigger, rate=rate))


def test_batches_part_the_cells_by_clean_models_and_trigger():
    cells = [planned(clean, trigger, rate) for trigger in "rmh" for rate in range(6) for clean in "xy"]
    found = batches(cells)
    held = [one for batch in found for one in batch.cells]
    assert sorted(map(id, held)) == sorted(map(id, cells))
    for batch in found:
        assert len({(one.clean, one.cell.trigger) for one in batch.cells}) == 1
    assert [(batch.clean, len(batch.cells)) for batch in found] == [("x", 3)] * 6 + [("y", 2)] * 9


def test_neighboring_batches_have_other_triggers_and_other_rates():
    found = batches([planned(clean, trigger, rate) for clean in "xy" for trigger in "rmh" for rate in range(6)])
    first = [(batch.cells[0].cell.trigger, batch.cells[0].cell.rate) for batch in found]
    assert first[:6] == [("r", 0), ("m", 3), ("h", 0), ("r", 3), ("m", 0), ("h", 3)]


def test_triggers_with_fewer_cells_have_fewer_batches():
    cells = [planned("x", "r", rate) for rate in range(9)] + [planned("x", "none", 0)]
    found = batches(cells)
    assert sum(len(batch.cells) for batch in found) == 10
    assert [batch.cells[0].cell.trigger for batch in found].count("none") == 1
