import hashlib
import json
import shutil
import subprocess

import pytest

from backdoor_core.errors import BackdoorError
from backdoor_core.files import write_json
from backdoor_core.params import Params
from backdoor_core.plugins import discover
from backdoor_core.report.provenance import git_state, run_config, versions
from backdoor_core.study import Paths, Study


def entry(name, distribution):
    return {"name": name, "options": {}, "code": "0" * 64, "distribution": distribution, "version": "0.1.0"}


@pytest.fixture
def study(tmp_path):
    params = Params(cohort="synthetic", trigger="none", model="mlp", detectors=("d",), models={"mlp": {}})
    lock = {
        "cohort": entry("synthetic", "pydantic"),
        "trigger": entry("none", "backdoor_core"),
        "model": entry("mlp", "backdoor_core"),
        "detectors": {"d": entry("d", "a-distribution-that-nobody-has")},
        "repairs": {"r": entry("r", "another-that-nobody-has")},
        "explainers": {},
    }
    paths = Paths(tmp_path)
    write_json(paths.lock, lock)
    write_json(paths.cohort / "card.json", {"source": "synthetic"})
    (paths.cohort / "table.parquet").write_bytes(b"rows")
    write_json(paths.splits, {})
    write_json(paths.run / "results.json", {"device": "mps"})
    return Study(params, discover(), paths)


def test_config_holds_what_the_run_was_made_of(study):
    config = run_config(study)
    assert config["params"]["poison"]["rate"] == 0.02
    assert config["params"]["train"]["epochs"] == 20, "auto is resolved"
    assert "models" not in config["params"]  # the resolved options stand in the plugins
    assert config["plugins"]["model"]["name"] == "mlp"
    assert config["data"]["data/cohort/table.parquet"] == hashlib.sha256(b"rows").hexdigest()
    assert list(config["data"]) == ["data/cohort/card.json", "data/cohort/table.parquet", "data/splits.json"]
    assert (config["device"], config["threads"]) == ("mps", 1), "where it was trained"
    assert len(config["code"]["backdoor_core"]) == 64


def test_config_is_json_without_path_and_the_same_twice(study, tmp_path):
    config = run_config(study)
    text = json.dumps(config, allow_nan=False)
    assert text == json.dumps(run_config(study), allow_nan=False)
    assert str(tmp_path) not in text


def test_versions_follow_the_requirements(study):
    found = run_config(study)["versions"]
    assert {"backdoor_core", "numpy", "torch"} <= set(found)
    assert "pydantic-core" in found or "pydantic_core" in found  # required by a distribution of the lock
    assert found["a-distribution-that-nobody-has"] == "not installed as a distribution"
    assert "another-that-nobody-has" in found
    assert "pytest" not in found  # an extra


def test_versions_are_those_installed():
    import numpy

    assert versions(["numpy"])["numpy"] == numpy.__version__


def test_missing_data_is_one_line(study):
    study.paths.splits.unlink()
    with pytest.raises(BackdoorError, match=r"splits\.json: no such file"):
        run_config(study)


# --------------------------------------------------------------------------------------------------------- git
def git(folder, *arguments):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    return tmp_path


def test_clean_repository(repository):
    assert git_state(repository) == {"revision": git(repository, "rev-parse", "HEAD"), "dirty": False, "note": None}


def test_what_the_run_makes_is_not_dirt(repository):
    for name in ("dvc.lock", "plugins.lock.json", "data/splits.json", "run/results.json"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("{}")
    assert git_state(repository)["dirty"] is False


@pytest.mark.parametrize("name", ["params.yaml", "new_plugin.py"])
def test_changed_and_new_files_are_dirt(repository, name):
    (repository / name).write_text("seed: 2\n")
    assert git_state(repository)["dirty"] is True


def test_a_study_in_a_folder_sees_changes_beside_it(repository):
    study = repository / "studies" / "one"
    study.mkdir(parents=True)
    assert git_state(study)["dirty"] is False
    (repository / "params.yaml").write_text("seed: 2\n")
    assert git_state(study)["dirty"] is True


def test_no_commit_yet(tmp_path):
    git(tmp_path, "init", "--quiet")
    state = git_state(tmp_path)
    assert (state["revision"], state["dirty"]) == (None, None)
    assert "no commit" in state["note"]


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = git_state(tmp_path)
    assert (state["revision"], state["dirty"]) == (None, None)
    assert "not in a git repository" in state["note"]


def test_committing_a_result_keeps_the_revision(repository):
    before = git_state(repository)
    (repository / "dvc.lock").write_text("made by the run")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "its lock")
    assert git_state(repository) == before


def test_no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(repository)["revision"] is None
