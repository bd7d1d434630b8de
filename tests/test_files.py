import itertools
import json
import os

import numpy as np
import pytest

from backdoor_core.errors import BackdoorError
from backdoor_core.files import described, read_json, replacing, replacing_directory, sha256_of, write_array, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        _ = temporary.write_text("half") / 0
    assert json.loads(target.read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_directory_leaves_the_old_one(tmp_path):
    target = tmp_path / "cohort"
    with replacing_directory(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(ZeroDivisionError), replacing_directory(target) as temporary:
        _ = (temporary / "two").write_text("2") / 0
    assert [p.name for p in target.iterdir()] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["cohort"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_reading_says_what_to_do(tmp_path):
    with pytest.raises(BackdoorError, match=r"no such file; run `dvc repro`"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BackdoorError, match=r"bad\.json: not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_array_round_trip(tmp_path):
    array = np.array([[True, False]])
    write_array(tmp_path / "mask.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), array)


def test_directory_hash_depends_on_names_and_contents_not_on_place(tmp_path):
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ("a" if folder != "three" else "b")).write_text("x")
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "three")


def test_files_are_told_apart_by_what_they_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("backdoor_core.files._WHOLE", 8)
    file = tmp_path / "outcomes.csv"

    def told(content):
        file.write_text(content)
        # A file system may not tell two changes of one moment apart.
        os.utime(file, ns=(next(moments),) * 2)
        return described([file])

    moments = itertools.count(10**18)
    first = told("1,0,1,0")
    assert first["inputs"] == [{"name": "outcomes.csv", "bytes": 7}]
    assert told("1,0,1,0") == first
    assert told("1,0,1,1")["inputs"] == first["inputs"]
    assert told("1,0,1,1")["content"] != first["content"]
    # Of a large one the first and last half of what is read whole.
    long = told("1234 and 5678")
    assert told("1234 but 5678")["content"] == long["content"]
    assert told("1234 and 5679")["content"] != long["content"] != told("1235 and 5678")["content"]
    assert described([]) == {"inputs": [], "content": None}
