"""Sweeps of a small study: the same bytes as the study itself, after kills and from every executor."""

import csv
import fcntl
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import make_study, run_stages

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.learning.victim import load_victim
from backdoor_core.stages.data import load_parts
from backdoor_core.study import load_study
from backdoor_core.sweep import sweep
from backdoor_core.sweep.executors import LocalExecutor, make_executor
from backdoor_core.sweep.paths import CellPaths
from backdoor_core.sweep.plan import batches, plan
from backdoor_core.sweep.rows import row_of
from backdoor_core.sweep.store import Store
from backdoor_core.sweep_params import SweepParams

GRID = {
    "triggers": ["rare_value", "missingness"],
    "rates": [0.02, 0.05],
    "seeds": [7, 8],
    "workers": 2,
    "explain": True,
}
CHANGES = {
    "train": {"epochs": 2},
    "detectors": ["spectral_signatures", "random_filter", "perfect_filter"],
    "detection": {"nulls": 2},
    "explainers": ["integrated_gradients"],
    "explain": {"rows": 20},
    "triggers": {"missingness": {"features": ["heart_rate"]}},
    "sweep": GRID,
}
SAID = ("results.json", "results_eval.json", "results_detect.json", "results_explain.json", "poison.json")


def small(folder: Path, **changes):
    folder.mkdir()
    return make_study(folder, stays=900, **{**CHANGES, **changes})


def command(root: Path, *more: str, env: Mapping[str, str] | None = None):
    # A process of its own, as a user starts it; killed ones must not take the test with them.
    arguments = [sys.executable, "-m", "backdoor_core", "sweep", "--root", str(root), *more]
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )


def finish(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def made(root: Path, *, timings: bool = False) -> dict[str, bytes]:
    """Every file of the sweep that is to be the same whenever it is made."""
    folders = (root / "runs", root / "benchmarks")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    of_time = ("timings.json", "timings.csv", "report.html", ".lock")
    named = {path.relative_to(root).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if timings or path.name not in of_time}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    study = small(tmp_path_factory.mktemp("sweep") / "study")
    assert sweep.run(study) == 0
    return study


def the_study_itself(folder: Path, **changes):
    stages = (
        "cohort",
        "splits",
        "baseline",
        "nulls",
        "null_scores",
        "poison",
        "train",
        "evaluate",
        "detect",
        "explain",
    )
    return run_stages(small(folder, poison={"rate": 0.02}, seed=7, **changes), *stages)


def test_a_cell_has_the_bytes_of_the_study_itself(tmp_path):
    wide = {"models": {"mlp": {"hidden": [256, 256], "dropout": 0.1}}}
    study = small(tmp_path / "swept", sweep={**GRID, "triggers": ["rare_value"], "seeds": [7]}, **wide)
    assert sweep.run(study) == 0
    own = the_study_itself(tmp_path / "own", **wide)
    cell = study.paths.root / "runs" / "mlp" / "rare_value" / "0.02" / "seed_7"
    for name in (*SAID, "predictions.parquet", "detect/scores.parquet", "learning_curve.csv", "preprocess.json"):
        assert (cell / name).read_bytes() == (own.paths.run / name).read_bytes(), name


def test_small_networks_are_fitted_together_within_the_rounding_of_sums(swept, tmp_path):
    own = the_study_itself(tmp_path / "own")
    cell = swept.paths.root / "runs" / "mlp" / "rare_value" / "0.02" / "seed_7"
    ours, theirs = (read_parquet(folder / "predictions.parquet") for folder in (cell, own.paths.run))
    assert (cell / "poison.json").read_bytes() == (own.paths.run / "poison.json").read_bytes()
    for name, column in theirs.items():
        np.testing.assert_allclose(ours[name], column, atol=1e-5, err_msg=name)


def test_a_second_run_touches_no_cell_and_gives_the_same_bytes(swept):
    before = made(swept.paths.root, timings=True)
    stamps = {p: p.stat().st_mtime_ns for p in (swept.paths.root / "runs").rglob("*.json")}
    assert sweep.run(swept) == 0
    after = made(swept.paths.root, timings=True)
    assert {p: p.stat().st_mtime_ns for p in (swept.paths.root / "runs").rglob("*.json")} == stamps
    assert after == before


def test_the_summary_holds_what_the_cells_found(swept):
    with (swept.paths.root / "benchmarks" / "default" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        folder = swept.paths.root / "runs" / row["model"] / row["trigger"] / row["rate"] / f"seed_{row['seed']}"
        attack = json.loads((folder / "results_eval.json").read_text())["attack"]
        found = json.loads((folder / "results_detect.json").read_text())["spectral_signatures"]
        looked = json.loads((folder / "results_explain.json").read_text())["explainers"]["integrated_gradients"]
        assert float(row["asr_lift"]) == attack["asr_lift"]["value"]
        assert float(row["asr_lift.high"]) == attack["asr_lift"]["high"]
        assert float(row["detect.spectral_signatures.null.auroc"]) == found["null"]["auroc"]["value"]
        assert float(row["tar.integrated_gradients"]) == looked["figures"]["tar"]["value"]


def test_aggregated_metrics_follow_from_the_run_folders(swept):
    """Recomputed from the cells' own files, with none of the sweep's functions."""
    root = swept.paths.root
    aggregated = json.loads((root / "benchmarks" / "default" / "aggregated_metrics.json").read_text())
    assert len(aggregated["groups"]) == 4
    for group in aggregated["groups"]:
        folders = sorted((root / "runs" / group["model"] / group["trigger"] / str(group["rate"])).glob("seed_*"))
        assert [int(f.name.removeprefix("seed_")) for f in folders] == group["seeds"] == [7, 8]
        evaluated = [json.loads((f / "results_eval.json").read_text()) for f in folders]
        detected = [json.loads((f / "results_detect.json").read_text())["spectral_signatures"] for f in folders]
        values = {
            "asr": [e["attack"]["asr"]["value"] for e in evaluated],
            "auroc.baseline": [e["baseline"]["clean"]["auroc"]["value"] for e in evaluated],
            "told_apart": [e["plausibility"]["classifier"]["auroc"]["value"] for e in evaluated],
            "detect.spectral_signatures.tpr_at_1_fpr": [d["poisoned"]["tpr_at_1_fpr"]["value"] for d in detected],
        }
        for name, expected in values.items():
            metric = group["metrics"][name]
            assert metric["n"] == 2
            assert metric["mean"] == pytest.approx(statistics.fmean(expected), abs=1e-12)
            assert metric["sd"] == pytest.approx(statistics.stdev(expected), abs=1e-12)
            half = 12.706204736432095 * metric["sd"] / 2**0.5
            assert metric["t_high"] - metric["mean"] == pytest.approx(half, abs=1e-9)


def test_null_lift_is_that_of_the_clean_retrains(swept):
    (one, *_) = plan(swept)
    store = Store(swept.paths.root)
    record = store.record(one)
    clean = store.clean(one)
    paths = CellPaths(swept.paths.root, store.cohort(one.cohort), clean, clean)
    parts = load_parts(replace(swept, params=one.cell.params, paths=paths))
    test = parts.test.view.take(parts.test.label == 0)
    marked = test.values.copy()
    marked[:, [feature.name for feature in test.features].index("heart_rate")] = 9999.0
    shown = test.with_values(marked)
    share = [
        float(np.mean(load_victim(folder, swept.model(), "cpu", 1).decides(shown, 1)))
        for folder in (clean / "baseline", clean / "nulls" / "0", clean / "nulls" / "1")
    ]
    assert record["null_lift"] == pytest.approx([share[1] - share[0], share[2] - share[0]])


def test_after_kills_at_three_moments_it_ends_with_the_same_bytes(swept, tmp_path):
    root = small(tmp_path / "killed").paths.root
    for until in ("cohort parquet", "sweep 1/8", "sweep 2/"):
        process = command(root)
        for line in process.stderr:
            if line.startswith(until):
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    status, _, err = finish(command(root))
    assert status == 0, err
    assert "finished before" in err
    assert made(root) == made(swept.paths.root)
    assert not (root / "runs" / "shared" / "work").exists(), "what the killed workers had begun"


def test_a_failed_cell_is_recorded_and_the_rest_goes_on(tmp_path):
    wrong = {"sweep": {**GRID, "triggers": ["rare_value"], "rates": [0.05], "seeds": [7], "explain": False}}
    wrong["sweep"]["parameters"] = {"triggers.rare_value.feature": ["heart_rate", "no_such"]}
    root = small(tmp_path / "failing", **wrong).paths.root
    status, _, err = finish(command(root))
    assert status == 2
    assert "1 of 2 cells are finished, 1 failed" in err
    with (root / "benchmarks" / "default" / "summary.csv").open() as file:
        good, bad = csv.DictReader(file)
    assert (good["status"], bad["status"]) == ("done", "failed")
    assert "no_such" in bad["error"]
    assert float(good["asr_lift"]) == pytest.approx(float(good["asr"]) - float(good["asr_baseline"]))
    assert bad["asr_lift"] == ""
    assert "no_such" in (root / "benchmarks" / "default" / "report.html").read_text()
    again = finish(command(root))
    assert "1 of them finished before" in again[2], "the failed one is tried again"


def test_cells_of_a_cohort_that_cannot_be_built_fail_and_the_rest_goes_on(tmp_path):
    grid = {**GRID, "triggers": ["rare_value"], "rates": [0.05], "seeds": [7], "explain": False}
    old = {"sweep": {**grid, "parameters": {"inclusion.min_age": [18, 119]}}}
    study = small(tmp_path / "cohorts", **old)
    assert sweep.run(study) == 1
    good, bad = (Store(study.paths.root).cell(one.cell.name) / "cell.json" for one in plan(study))
    assert read_json(good)["status"] == "done"
    assert "no stay is left" in read_json(bad)["error"]
    nobody = small(tmp_path / "nobody", sweep={**grid, "parameters": {"inclusion.min_age": [119]}})
    with pytest.raises(BackdoorError, match="no stay is left"):
        sweep.run(nobody)


def test_a_cohort_that_was_deleted_is_built_again_and_no_cell_is_made(tmp_path):
    grid = {**GRID, "triggers": ["rare_value"], "rates": [0.05], "seeds": [7], "explain": False}
    study = small(tmp_path / "deleted", sweep=grid)
    assert sweep.run(study) == 0
    (one,) = plan(study)
    store = Store(study.paths.root)
    cell, cohort = store.cell(one.cell.name) / "cell.json", store.cohort(one.cohort) / "stays.parquet"
    before = cell.stat().st_mtime_ns, cohort.read_bytes()
    shutil.rmtree(store.folder / "shared")
    assert sweep.run(study) == 0
    assert (cell.stat().st_mtime_ns, cohort.read_bytes()) == before
    assert not (store.folder / "shared" / "clean").exists()


def test_two_sweeps_on_one_folder_are_refused(swept):
    with (swept.paths.root / "runs" / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BackdoorError, match=r"another sweep .* is at work there"):
            sweep.run(swept)


def test_a_dry_run_does_nothing_and_tells_all(swept, capsys):
    before = made(swept.paths.root, timings=True)
    sweep.dry_run(swept)
    said = capsys.readouterr().out
    assert said.count("finished  mlp/") == 8
    assert "all of them finished" in said
    assert made(swept.paths.root, timings=True) == before


def test_a_dry_run_of_new_cells_estimates(tmp_path, capsys):
    study = small(tmp_path / "new")
    sweep.dry_run(study)
    said = capsys.readouterr().out
    assert said.count("to do     mlp/") == 8
    assert "8 to do: 14 fits (6 of them clean)" in said
    assert not (study.paths.root / "runs").exists()


def test_what_a_cell_depends_on_is_in_its_hash(swept, tmp_path):
    def inputs(**changes):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return {one.cell.name: (one.clean, one.inputs) for one in plan(small(folder, **changes))}

    base = inputs()
    assert base == {one.cell.name: (one.clean, one.inputs) for one in plan(swept)}
    poison = inputs(poison={"target": 0})
    assert all(base[name][0] == poison[name][0] and base[name][1] != poison[name][1] for name in base)
    trained = inputs(train={"epochs": 3})
    assert all(base[name][0] != trained[name][0] and base[name][1] != trained[name][1] for name in base)
    option = inputs(triggers={"missingness": {"features": ["sbp"]}})
    changed = {name for name in base if base[name] != option[name]}
    assert changed == {name for name in base if "missingness" in name}
    assert inputs(sweep={**GRID, "workers": 1, "keep_models": True}) == base
    assert inputs(audit={"canaries": 50}) == base, "no cell is cleansed"
    cleansed = {**GRID, "cleanse": True}
    assert inputs(sweep=cleansed, audit={"canaries": 50}) != inputs(sweep=cleansed)


def test_cells_of_one_batch_share_clean_models_and_trigger(swept):
    found = batches(plan(swept))
    assert [len(batch.cells) for batch in found] == [2, 2, 2, 2]
    assert len({batch.clean for batch in found}) == 2


def test_a_sweep_refuses_what_cannot_work_before_any_work(tmp_path):
    study = small(tmp_path / "refused", sweep={**GRID, "models": ["mlp", "gbdt"]})
    with pytest.raises(BackdoorError, match=r"spectral_signatures needs embedding.*gbdt.*sweep: gbdt/rare_value"):
        plan(study)


def test_rows_of_the_cells_are_whole(swept):
    store = Store(swept.paths.root)
    for one in plan(swept):
        row = row_of(store.record(one), one.cell.name)
        assert row.cell == one.cell.name
        assert len(row.null_lift) == 2
        assert len(row.roc["spectral_signatures"]["poisoned"]) == 101


# --------------------------------------------------------------------------------------------------- executors
def die_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def die(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(path: str) -> None:
    raise BackdoorError(f"{path} is wrong")


def outcomes(executor, calls):
    try:
        for key, function, argument in calls:
            executor.submit(("call", key), function, argument)
        return {key: answer for (_, key), answer in (executor.next_done() for _ in calls)}
    finally:
        executor.close()


def test_work_of_a_killed_process_is_given_out_again(tmp_path):
    calls = [(k, die_once, str(tmp_path / "died")) for k in range(4)]
    assert outcomes(LocalExecutor(2, retries=2), calls) == dict.fromkeys(range(4), "lived")


def test_what_always_dies_is_an_error_and_the_rest_is_done(tmp_path):
    (tmp_path / "died").touch()
    calls = [("bad", die, ""), *((k, die_once, str(tmp_path / "died")) for k in range(3)), ("wrong", fail, "this")]
    found = outcomes(LocalExecutor(1, retries=1), calls)
    assert "its process died, 2 times" in str(found.pop("bad"))
    assert str(found.pop("wrong")) == "this is wrong"
    assert found == dict.fromkeys(range(3), "lived")


def test_a_process_that_dies_while_an_answer_waits_loses_nothing(tmp_path):
    executor = LocalExecutor(2, retries=2)
    try:
        executor.submit(("call", "quick"), wait_long, 0.0)
        executor.submit(("call", "dies"), die_once, str(tmp_path / "died"))
        # The parent is busy meanwhile: one has answered, the other's process is gone.
        while not executor.pool._broken:
            time.sleep(0.05)
        first = executor.next_done()
        # As the runner does, which gives out the cells of clean models that are there.
        executor.submit(("call", "next"), wait_long, 0.0)
        found = {first, executor.next_done(), executor.next_done()}
        assert found == {(("call", key), "lived") for key in ("quick", "dies", "next")}
        # A process that dies with nothing to do is no loss either.
        for process in list(executor.pool._processes.values()):
            process.kill()
        while not executor.pool._broken:
            time.sleep(0.05)
        executor.submit(("call", "last"), wait_long, 0.0)
        assert executor.next_done() == (("call", "last"), "lived")
    finally:
        executor.close()


def wait_long(seconds: float) -> str:
    time.sleep(seconds)
    return "lived"


@pytest.mark.parametrize(("workers", "retries"), [(2, 1), (4, 0)])
def test_what_was_under_way_beside_a_call_that_kills_its_process_is_not_blamed(workers, retries):
    calls = [("a", wait_long, 0.6), ("bad", die, ""), ("b", wait_long, 0.1), ("c", wait_long, 0.1)]
    found = outcomes(LocalExecutor(workers, retries), calls)
    assert "its process died, 2 times" in str(found.pop("bad"))
    assert found == dict.fromkeys("abc", "lived")


def test_ray_gives_the_same_bytes_also_when_a_worker_is_killed(swept, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from backdoor_core.sweep.ray_executor import RayExecutor

    def dies_first(path, function, *arguments):
        # Nested, so that it is sent by value: a worker cannot import this module.
        import os
        import signal
        from pathlib import Path

        answer = function(*arguments)
        if not Path(path).exists():
            Path(path).write_text("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    class Deadly(RayExecutor):
        """The first worker to have made cells dies with them."""

        def submit(self, key, function, *arguments):
            if key[0] == "batch":
                super().submit(key, dies_first, str(tmp_path / "died"), function, *arguments)
            else:
                super().submit(key, function, *arguments)

    study = small(tmp_path / "ray", sweep={**GRID, "executor": "ray"})
    monkeypatch.setattr("backdoor_core.sweep.runner.make_executor", lambda params: Deadly(params))
    assert sweep.run(load_study(study.paths.root)) == 0
    assert (tmp_path / "died").exists()
    ours, theirs = made(study.paths.root), made(swept.paths.root)
    # The grid itself says which executor it asked for.
    for files in (ours, theirs):
        files.pop("benchmarks/default/aggregated_metrics.json")
    assert ours == theirs


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    """Address of a cluster of this machine that asks for a token, as `ray start` makes one; and the token."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    port = free_port()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    options = ["--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--include-dashboard=false",
            *options,
        ],
        env={**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: listens(port), process)
    yield f"127.0.0.1:{port}", token
    process.terminate()
    process.wait(30)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(ready, process) -> None:
    for _ in range(600):
        if ready():
            return
        assert process.poll() is None, "Ray has stopped"
        time.sleep(0.1)
    raise TimeoutError("Ray has not started within a minute")


def test_a_ray_cluster_by_address_gives_the_same_bytes(ray_cluster, swept, tmp_path):
    address, token = ray_cluster
    study = small(tmp_path / "ray", sweep={**GRID, "executor": "ray", "address": address})
    code, _, err = finish(command(study.paths.root, env=token))
    assert code == 0, err
    ours, theirs = made(study.paths.root), made(swept.paths.root)
    # The grid itself says which executor it asked for.
    for files in (ours, theirs):
        files.pop("benchmarks/default/aggregated_metrics.json")
    assert ours == theirs


def test_a_ray_cluster_that_refuses_is_one_line(ray_cluster, tmp_path):
    address, _ = ray_cluster
    study = small(tmp_path / "ray", sweep={**GRID, "executor": "ray", "address": address})
    code, _, err = finish(command(study.paths.root, env={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}))
    assert code == 1
    error = err.strip().splitlines()[-1]
    assert error.startswith(f"error: params.yaml: sweep.address: no Ray cluster at {address}, or none that")
    assert "Traceback" not in err


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "127.0.0.1:99999"])
def test_a_ray_cluster_that_is_not_there_is_one_line_at_once(address):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    address = address.format(port=free_port())
    with pytest.raises(BackdoorError, match=f"sweep.address: no Ray cluster at {address}: "):
        make_executor(SweepParams(executor="ray", address=address))
