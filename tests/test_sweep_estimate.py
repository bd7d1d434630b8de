"""What a dry run says of the time that a sweep may take."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from backdoor_core.sweep.estimate import estimate


def planned(number, nulls=3):
    params = SimpleNamespace(detection=SimpleNamespace(nulls=nulls))
    cell = SimpleNamespace(model="mlp", name=f"cell {number}", params=params)
    return SimpleNamespace(clean="same", cell=cell, lock={"view": "table"})


class Store:
    def __init__(self, finished=(), seconds=60.0):
        self.finished, self.seconds = finished, seconds

    def clean(self, one):
        return Path("nowhere")

    def cell(self, name):
        return Path(name)

    def record(self, one):
        return {} if one in self.finished else None

    def timings(self, folder):
        return {"train": self.seconds}


def told(cells, store, workers):
    study = SimpleNamespace(params=SimpleNamespace(sweep=SimpleNamespace(workers=workers)))
    return estimate(study, cells, [one for one in cells if store.record(one) is None], store)


@pytest.mark.parametrize(
    ("cells", "workers", "expected"),
    [
        (1, 1, "1 cell, 1 to do: 5 fits (4 of them clean), about 1 minute with 1 worker (a rough guess"),
        (99, 2, "99 cells, 99 to do: 103 fits (4 of them clean), about 5 minutes with 2 workers (a rough guess"),
    ],
)
def test_one_is_not_said_as_many(cells, workers, expected):
    assert told([planned(number) for number in range(cells)], Store(), workers).startswith(expected)


def test_finished_cells_tell_how_long_the_others_take():
    cells = [planned(0), planned(1)]
    assert told(cells, Store(cells[:1]), 1) == (
        "2 cells, 1 to do: 5 fits (4 of them clean), about 5 minutes with 1 worker (from 1 finished cell)"
    )
    assert told(cells[:1], Store(cells), 1) == "1 cell, all of them finished"
