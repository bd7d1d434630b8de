"""What a sweep does together, and in which order."""

from types import SimpleNamespace

from backdoor_core.sweep.plan import batches


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
