"""The hash of a plugin's source: it follows every file, and nothing else."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from backdoor_core.errors import BackdoorError
from backdoor_core.plugins import code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Folder of an importable package `acme`, forgotten afterwards."""
    folder = tmp_path / "site" / "acme"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [m for m in sys.modules if m.partition(".")[0] == "acme"]:
        del sys.modules[name]


def test_the_hash_follows_every_source_file_and_nothing_else(package):
    (package / "sub").mkdir()
    (package / "sub" / "table.csv").write_text("a,b\n")
    seen = [code_hash("acme")]
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.txt").write_text("compiled")
    (package / "old.pyc").write_text("compiled")
    os.utime(package / "__init__.py", (1, 1))
    assert code_hash("acme") == seen[0]
    (package / "sub" / "table.csv").write_text("a,c\n")
    seen.append(code_hash("acme"))
    (package / "helper.py").write_text("")
    seen.append(code_hash("acme"))
    (package / "helper.py").rename(package / "helped.py")
    seen.append(code_hash("acme"))
    (package / "__init__.py").write_text("x = 2\n")
    seen.append(code_hash("acme"))
    assert len(set(seen)) == 5


def test_the_hash_does_not_depend_on_the_place(package, tmp_path, monkeypatch):
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("x = 1\n")
    here = code_hash("acme.deep")
    assert here == code_hash("acme") == code_hash("acme", "acme.deep")
    shutil.copytree(package.parent, tmp_path / "elsewhere" / "__pycache__")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere" / "__pycache__"), *sys.path[1:]])
    del sys.modules["acme"]
    there = code_hash("acme.deep")
    assert Path(sys.modules["acme"].__file__).is_relative_to(tmp_path / "elsewhere")
    assert there == here


def test_a_single_module_and_a_namespace_package_have_hashes_of_their_own(package, tmp_path):
    site = package.parent
    (site / "lonely_module.py").write_text("x = 1\n")
    (site / "spaced_ns" / "child").mkdir(parents=True)
    (site / "spaced_ns" / "child" / "__init__.py").write_text("x = 1\n")
    first = code_hash("lonely_module"), code_hash("spaced_ns.child")
    (site / "neighbor.py").write_text("")
    (site / "spaced_ns" / "other").mkdir()
    (site / "spaced_ns" / "other" / "__init__.py").write_text("")
    assert (code_hash("lonely_module"), code_hash("spaced_ns.child")) == first
    (site / "lonely_module.py").write_text("x = 2\n")
    assert code_hash("lonely_module") != first[0]
    for name in ("lonely_module", "spaced_ns", "spaced_ns.child"):
        del sys.modules[name]


def test_a_module_without_source_is_an_error():
    with pytest.raises(BackdoorError, match="plugin module sys: its source is not on disk"):
        code_hash("sys")
