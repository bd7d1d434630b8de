"""What runs of a sweep find once."""

import numpy as np

from backdoor_core.stages.data import Shared


def test_a_worker_finds_a_thing_once_and_reads_what_another_found(tmp_path):
    calls = []

    def find():
        calls.append(None)
        return {"value": 0.1 + 0.2, "none": None}

    one, other = (Shared(None, folder=tmp_path / "found") for _ in range(2))
    found = [shared.once_for_all(("lift", b"\0\1", 3), find) for shared in (one, one, other, other)]
    assert found == [{"value": 0.1 + 0.2, "none": None}] * 4
    assert len(calls) == 1
    other.once_for_all(("lift", b"\0\2", 3), find)
    assert len(calls) == 2, "another key is another thing"
    assert not list((tmp_path / "found").glob(".*")), "no half-written file is left"


def test_without_a_folder_each_finds_it_for_itself():
    calls = []
    for shared in (Shared(None), Shared(None)):
        for _ in range(2):
            shared.once_for_all("key", lambda: calls.append(None))
    assert len(calls) == 2


def test_of_large_arrays_the_last_few_stay(monkeypatch):
    calls = []

    def ask(key, size=100):
        return shared.once_lately(key, lambda: calls.append(key) or np.full(size, key, dtype=np.uint8))

    monkeypatch.setattr("backdoor_core.stages.data._LATELY", 800)
    shared = Shared(None)
    for key in (*range(8), 0, 8, 0, 2, 1):
        assert ask(key)[0] == key
    # Eight have room; 8 put out the one that had not been asked for longest, which was 1.
    assert calls == [*range(8), 8, 1]
    assert len(shared.lately) == 8
    assert ask(9, size=5000)[0] == 9
    assert list(shared.lately) == [9], "the last one stays, however large"
