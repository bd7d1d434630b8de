"""The pipeline as a user drives it: DVC in a git repository of its own."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import grimp
import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
NOTES = ["notes", "finetune", "note_references", "leakage"]
STAGES = [
    "plugins",
    "convert",
    "cohort",
    "splits",
    "baseline",
    "nulls",
    "null_scores",
    "references",
    "poison",
    "train",
    "evaluate",
    "detect",
    "cleanse",
    "explain",
    "audit",
    *NOTES,
    "report",
]
AFTER_POISON = {"train", "evaluate", "detect", "cleanse", "explain", "audit", "report"}

# Infrastructure whose change cannot change a result; what it passes on (params, plugin code) DVC tracks itself.
WITHOUT_RESULT = {
    "component_check",
    "console",
    "errors",
    "hookspecs",
    "listing",
    "notes_params",
    "params",
    "plugins",
    "stages",
    "study",
    "sweep_params",
    "threads",
    "validation",
    "workers",
}


def run(folder: Path, *command: str, fails: bool = False) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([a-z_]+)'", output)


def edit(folder: Path, **changes) -> None:
    """Change keys of params.yaml; a mapping is merged into the one that is there."""
    content = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in changes.items():
        merged = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = content[key] | value if merged else value
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A small study, run once."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("backdoor_core", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    (folder / "benchmarks").mkdir()
    for name in ("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore", "benchmarks/dvc.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    edit(
        folder,
        cohorts={"synthetic": {"stays": 400}},
        models={"mlp": {"hidden": [32, 16], "dropout": 0.1}},
        train={"epochs": 2},
        evaluate={"replicates": 100},
        # Most of a stage's time is its imports and its figures: what other tests run is left out here.
        detection={"nulls": 1},
        detectors=["spectral_signatures", "range_rule"],
        repairs=[],
        explainers=[],
        audits=["loss_threshold", "blind"],
        corpora={"simple": {"records": 100}},
        notes={
            "recipe": "baseline",
            "seeds": 1,
            "epochs": 1,
            "tokenizer": 0.1,
            "scratch": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300},
        },
    )
    content = yaml.safe_load((folder / "params.yaml").read_text())
    chosen = {"triggers": [content["trigger"]], "rates": [content["poison"]["rate"]], "seeds": [content["seed"]]}
    edit(folder, sweep={**chosen, "explain": False})
    run(folder, "git", "init", "-q")
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        run(folder, "git", "config", key, value)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "a study")
    assert sorted(ran(run(folder, "dvc", "repro"))) == sorted(STAGES)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "its lock")
    return folder


def test_a_second_run_reruns_the_plugin_lock_only(study):
    assert ran(run(study, "dvc", "repro")) == ["plugins"]


def test_force_gives_the_same_bytes(study):
    before = (study / "dvc.lock").read_text()
    assert sorted(ran(run(study, "dvc", "repro", "--force"))) == sorted(STAGES)
    assert (study / "dvc.lock").read_text() == before


def test_everything_the_pipeline_makes_is_ignored_by_git(study):
    assert run(study, "git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["trigger=missingness", "poison.rate=0.05"],
            {"poison", *AFTER_POISON},
        ),
        # Of another view: the trigger edits that one.
        (["model=event_transformer"], set(STAGES) - {"plugins", "convert", "cohort", "splits", *NOTES}),
        (["detectors=[range_rule]"], {"null_scores", "detect", "cleanse", "report"}),
        (["triggers.missingness.features=[sbp]"], set()),
    ],
)
def test_an_experiment_reruns_what_it_must_and_nothing_else(study, overrides, expected):
    try:
        output = run(study, "dvc", "exp", "run", *(word for o in overrides for word in ("-S", o)))
        assert set(ran(output)) == {"plugins"} | expected
        results = json.loads((study / "run" / "results_eval.json").read_text())
        assert set(results["attack"]["asr"]) == {"value", "low", "high"}
    finally:
        run(study, "git", "restore", "params.yaml", "dvc.lock")
        run(study, "dvc", "checkout")


STAGES_OF_DVC = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]


def outputs(stage: dict) -> list[str]:
    return [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]


def reruns(key: str) -> set[str]:
    """Stages that a changed key reruns: those that name it, and what follows them."""

    def names(stage: dict) -> list[str]:
        flat = [p for p in stage.get("params", []) if isinstance(p, str)]
        return flat + [
            f"lock.{p}" for d in stage.get("params", []) if isinstance(d, dict) for v in d.values() for p in v
        ]

    touched = {
        name
        for name, stage in STAGES_OF_DVC.items()
        if any(key == p or key.startswith(p + ".") or p.startswith(key + ".") for p in names(stage))
    }
    while True:
        made = [out for name in touched for out in outputs(STAGES_OF_DVC[name])]
        more = {
            name
            for name, stage in STAGES_OF_DVC.items()
            if any(dep == out or dep.startswith(out + "/") for dep in stage.get("deps", []) for out in made)
        } - touched
        if not more:
            return touched
        touched |= more


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("lock.cohort", "cohort"),
        ("inclusion.window_hours", "cohort"),
        ("splits.train", "splits"),
        ("lock.model", "baseline"),
        ("train.epochs", "baseline"),
        ("preprocess.outliers", "baseline"),
        ("evaluate.threshold", "baseline"),
        ("lock.trigger", "poison"),
        ("lock.view", "poison"),
        ("poison.rate", "poison"),
        ("preprocess.fit_on", "null_scores"),
        ("evaluate.replicates", "evaluate"),
        ("lock.detectors", "null_scores"),
        ("detection.nulls", "nulls"),
        ("detection.fdr", "detect"),
        ("lock.repairs", "cleanse"),
        ("lock.explainers", "explain"),
        ("explain.rows", "explain"),
        ("seed", "cohort"),
    ],
)
def test_a_changed_key_reruns_no_stage_before_its_own(key, first):
    stages = reruns(key)
    assert first in stages
    before = [stage for stage in STAGES[: STAGES.index(first)] if stage != "convert"]
    assert not stages & set(before)
    # The clean twin depends on neither trigger nor rate, poison on no model.
    assert ("baseline" in stages) == (STAGES.index(first) <= STAGES.index("baseline"))
    assert ("poison" in stages) == (first in ("cohort", "splits", "poison"))
    assert "report" in stages


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("lock.notes.corpus", set(NOTES)),
        ("notes.members", set(NOTES)),
        ("notes.recipe", {"finetune", "note_references", "leakage"}),
        ("lock.notes.audits", {"leakage"}),
        ("lock.notes.references", {"note_references", "leakage"}),
        ("notes.workers", set()),
        ("corpora.simple.records", set()),
    ],
)
def test_a_key_of_the_notes_reruns_their_stages_alone(key, stages):
    assert reruns(key) == stages


def test_a_sweep_is_a_pipeline_whose_cell_is_the_study(study):
    run(study, "dvc", "repro", "benchmarks/dvc.yaml")
    cell = study / "runs" / "mlp" / "rare_value" / "0.02" / "seed_42"
    for name in ("results.json", "results_eval.json", "results_detect.json", "poison.json", "predictions.parquet"):
        assert (cell / name).read_bytes() == (study / "run" / name).read_bytes(), name
    made = study / "benchmarks" / "default"
    assert {"summary.csv", "aggregated_metrics.csv", "aggregated_metrics.json", "report.html"} <= {
        path.name for path in made.iterdir()
    }
    assert run(study, "git", "status", "--porcelain").split() in (["??", "benchmarks/dvc.lock"], [])
    assert "1 of them finished before" not in run(study, "dvc", "repro", "benchmarks/dvc.yaml"), "nothing was missing"
    assert (study / "runs" / "mlp").is_dir()


def test_an_export_holds_results_and_no_stay(study):
    run(study, "python", "-m", "backdoor_core", "export", "--out", "shared.zip")
    with zipfile.ZipFile(study / "shared.zip") as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    (study / "shared.zip").unlink()
    assert {"results_eval.json", "results_detect.json", "predictions.csv", "run_config.json", "MANIFEST.json"} <= set(
        texts
    )
    manifest = json.loads((study / "run" / "poison.json").read_text())
    for stay in manifest["stays"]:
        assert not any(str(stay["stay_id"]).encode() in text for text in texts.values())


def test_metrics_read_well(study):
    shown = run(study, "dvc", "metrics", "show")
    assert "attack.asr.value" in shown
    assert "baseline.clean.auroc.value" in shown
    assert "attack.asr_lift.value" in run(study, "dvc", "exp", "show", "--csv")


def test_a_model_learns_and_the_page_is_there(study):
    page = (study / "run" / "report.html").read_text()
    config = json.loads((study / "run" / "run_config.json").read_text())
    assert "<svg" in page
    assert config["params"]["trigger"] == "rare_value"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posion": {}}, "params.yaml: posion: unknown"),
        ({"trigger": "rare_valu"}, "asks for trigger 'rare_valu', which no installed plugin provides; did you mean"),
        ({"seed": "abc"}, "params.yaml: seed: should be a whole number"),
        ({"cohort": "mimiciv"}, "data/raw/mimiciv"),
        ({"cohort": "mimiciv", "cohorts": {"mimiciv": {}}}, "cohorts.mimiciv.path"),
        ({"poison": {"rate": 2}}, "params.yaml: poison.rate"),
        ({"poison": {"rate": 0.0005}}, "selects none of"),
        ({"triggers": {"rare_value": {"feature": "agee"}}}, "agee"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_half_written(study, changes, message):
    edit(study, **changes)
    try:
        output = run(study, "dvc", "repro", fails=True)
        errors = [line for line in output.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, output
        assert message in errors[0]
        assert "Traceback" not in output
        assert not list(study.rglob("*.partial"))
    finally:
        run(study, "git", "restore", "params.yaml")
        run(study, "git", "restore", "dvc.lock")
        run(study, "dvc", "checkout")


def test_a_stage_by_itself_exits_with_status_1(study):
    done = subprocess.run(
        ["backdoor", "evaluate", "--root", str(study / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_dvc_deps_cover_every_module_that_a_stage_imports():
    graph = grimp.build_graph("backdoor_core")
    for name, stage in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"].items():
        if name == "plugins":
            continue
        module = f"backdoor_core.stages.{name}"
        for used in {module} | graph.find_upstream_modules(module):
            short = used.removeprefix("backdoor_core").lstrip(".")
            if not short or short in WITHOUT_RESULT:
                continue
            path = used.replace(".", "/")
            covered = any(path + ".py" == dep or (path + "/").startswith(dep + "/") for dep in stage["deps"])
            assert covered, f"stage {name} imports {used}, which is not among its deps in dvc.yaml"
