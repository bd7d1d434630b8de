"""The stages `notes`, `finetune` and `leakage` through the command line, on a few notes."""

import csv
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_report_page import assert_nothing_is_fetched, make_findings

from backdoor_core import seeds
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, sha256_of, write_json
from backdoor_core.language.corpus import read_notes
from backdoor_core.language.finetune import finetune as train_on
from backdoor_core.language.models import build_model, load_weights
from backdoor_core.language.neighbors import altered
from backdoor_core.language.recipes import plan_of
from backdoor_core.language.scoring import mean_nll
from backdoor_core.language.work import _untrained, read_corpus
from backdoor_core.params import Params
from backdoor_core.ranking import auroc
from backdoor_core.report.page import build_page
from backdoor_core.sharing.export import export_study
from backdoor_core.stages import finetune, leakage, note_references, notes
from backdoor_core.stages.finetune import tasks_of
from backdoor_core.stages.report import notes_of
from backdoor_core.study import Paths, check_compatible, load_study, plugin_lock
from backdoor_core.words import decimal

STAGES = ("notes", "finetune", "note_references", "leakage")
PARAMS = {
    "seed": 7,
    "cohort": "synthetic",
    "trigger": "none",
    "model": "mlp",
    "evaluate": {"replicates": 100},
    "notes": {
        "recipe": ["baseline", "dp"],
        "seeds": 1,
        "epochs": 1,
        "tokenizer": 0.1,
        "learning_rate": 0.003,
        "scratch": {"layers": 2, "width": 32, "heads": 2, "vocabulary": 320},
        "dp": {"canaries": 40, "batch_size": 32},
        "workers": 1,
    },
    "corpora": {"simple": {"records": 120}},
}


def study_in(folder: Path, **changes):
    content = {**PARAMS, "notes": {**PARAMS["notes"], **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return load_study(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notes")
    made = study_in(folder)
    for stage in STAGES:
        done = subprocess.run(
            [sys.executable, "-m", "backdoor_core", stage, "--root", str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    return made


def lines(study, recipe):
    with (study.paths.notes / "leakage" / f"mia_{recipe}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_there(study):
    folder = study.paths.notes / "leakage"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    scores = [f"mia_{recipe}.csv" for recipe in ("baseline", "dp")]
    plots = ["plots/comparison_plots.png", "plots/comparison_plots.svg"]
    assert files == sorted(["REPORT.md", "comparison.json", "experiment.log", "metadata.json", *scores, *plots])
    told = read_json(folder / "metadata.json")
    assert told["versions"]["transformers"]
    assert set(told["components"]["audits"]) == set(study.params.notes.audits)
    assert str(study.paths.root) not in (folder / "metadata.json").read_text()


def test_scores_are_of_every_audited_note_once_a_seed_and_hold_no_text(study):
    found = read_json(study.paths.notes / "leakage" / "comparison.json")
    texts = [note.text for note in study.corpus().records(np.random.default_rng(0))]
    for recipe, told in found["recipes"].items():
        rows = lines(study, recipe)
        assert list(rows[0]) == ["seed", "record_id", "member", "nll", *study.params.notes.audits]
        assert (
            len({(row["seed"], row["record_id"]) for row in rows})
            == len(rows)
            == (120 - found["corpus"]["stopping"] - found["corpus"]["tokenizer"])
        )
        for number, expected in enumerate(told["audits"]["loss_threshold"]["auc_by_run"]):
            chosen = [row for row in rows if row["seed"] == str(number)]
            scores, member = (np.array([float(row[key]) for row in chosen]) for key in ("nll", "member"))
            assert auroc(-scores, member == 1) == pytest.approx(expected, abs=1e-9)
            assert member.sum() == found["corpus"]["members"][number]
    written = (study.paths.notes / "leakage" / "mia_baseline.csv").read_text()
    assert not any(text in written for text in texts)


def test_epsilon_and_its_lower_bound_stand_beside_the_private_recipe(study):
    found = read_json(study.paths.notes / "leakage" / "comparison.json")
    assert [recipe for recipe, told in found["recipes"].items() if told["privacy"]] == ["dp"]
    privacy = found["recipes"]["dp"]["privacy"]
    for promised in privacy["promised"]:
        assert 7 < promised["epsilon"] <= 8.01
    run = privacy["one_run"]
    assert run["canaries"] == 40
    assert run["epsilon"] <= run["ceiling"]
    assert run["delta"] == 1e-5


def test_the_report_names_every_recipe_audit_and_verdict(study):
    text = (study.paths.notes / "leakage" / "REPORT.md").read_text()
    found = read_json(study.paths.notes / "leakage" / "comparison.json")
    for recipe, told in found["recipes"].items():
        for name, audit in told["audits"].items():
            assert f"| {recipe} | {name} |" in text
            assert audit["control"] == (f"{recipe}, {name}: **" not in text)
    assert "Opacus reckons epsilon" in text


def test_a_second_run_gives_the_same_bytes(study, tmp_path):
    again = study_in(tmp_path, workers=2)
    for stage in (notes, finetune, note_references, leakage):
        stage.run(again)
    for name in ("corpus", "models", "references", "leakage"):
        one, other = (sha256_of(s.paths.notes / name) for s in (study, again))
        assert one == other, name


def test_neighborhood_compares_a_note_with_its_altered_copies(study, tmp_path):
    shutil.copytree(study.paths.notes, tmp_path / "run" / "notes")
    made = study_in(tmp_path, audits=["neighborhood", "blind"], neighbors=3)
    leakage.run(made)
    read = read_corpus(made.params.notes, tmp_path, made.paths.notes / "corpus")
    (task,) = (t for t in tasks_of(made, made.paths.notes / "models") if t.recipe == "baseline")
    network, vocabulary = _untrained(task, read)
    load_weights(network, task.folder / "model.safetensors")
    audited = [read.sequences[row] for row in read.notes.audited]
    copies = altered(audited, 3, seeds.generator(7, "notes_neighbors"))
    expected = mean_nll(network, copies, vocabulary).reshape(-1, 3).mean(axis=1) - mean_nll(
        network, audited, vocabulary
    )
    scores = [float(row["neighborhood"]) for row in lines(made, "baseline")]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert np.mean(scores) > 0, "a swapped token fits less well"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A model that learned its members by heart, and four references."""
    audits = ["reference", "lira", "rmia", "loss_threshold", "blind"]
    folder = tmp_path_factory.mktemp("references")
    made = study_in(folder, recipe=["baseline"], audits=audits, references=4, epochs=12, workers=2)
    for stage in (notes, finetune, note_references, leakage):
        stage.run(made)
    return made


def test_references_are_models_of_the_recipe_on_halves_by_patient_of_the_audited_notes(compared):
    corpus, folder = compared.paths.notes / "corpus", compared.paths.notes / "references"
    read = read_corpus(compared.params.notes, compared.paths.root, corpus)
    member, loss = np.load(folder / "member.npy"), np.load(folder / "baseline.npy")
    assert (member[::2] ^ member[1::2]).sum(axis=1).tolist() == [len(read.notes.audited)] * 2
    assert not (member & (read.notes.stopping | read.notes.tokenizer)).any()
    for one, other in zip(member[::2], member[1::2], strict=True):
        assert not set(read.notes.subject_id[one]) & set(read.notes.subject_id[other])
    network = build_model(compared.params.notes, compared.paths.root, 320, seeds.integer(7, "notes_references", 2, 0))
    plan = plan_of("baseline", compared.params.notes, int(member[1].sum()))
    seed = seeds.integer(7, "notes_references", 2, 1)
    again = train_on(network, read.sequences, 320, member[1], read.notes.stopping, plan, seed)
    # This process may have more threads, which sum in another order.
    assert again.nll[-1] == pytest.approx(loss[1], abs=1e-4)


def test_audits_of_notes_compare_with_the_references(compared):
    folder = compared.paths.notes / "references"
    notes_read = read_notes(compared.paths.notes / "corpus")
    rows, outside = notes_read.audited, notes_read.stopping
    member, loss = np.load(folder / "member.npy"), np.load(folder / "baseline.npy").astype(float)
    target = np.load(compared.paths.notes / "models" / "baseline" / "seed_0" / "nll.npy")[-1].astype(float)
    found = {name: [float(row[name]) for row in lines(compared, "baseline")] for name in ("reference", "lira", "rmia")}
    inside = member[:, rows]
    others = np.where(inside, 0, loss[:, rows]).sum(axis=0) / 2
    assert found["reference"] == pytest.approx(others - target[rows], abs=1e-5)
    # Each as its paper says, record by record, from p = exp(-mean NLL).
    phi, reference_phi = (-np.log(np.expm1(values)) for values in (target[rows], loss[:, rows]))
    sides = [np.array([reference_phi[side[:, i], i] for i in range(len(rows))]) for side in (inside, ~inside)]
    # One variance a side: squares about each record's mean of two, a degree of freedom a record.
    spread = [np.sqrt(((side - side.mean(axis=1, keepdims=True)) ** 2).sum() / len(rows)) for side in sides]
    logs = [-np.log(s) - ((phi - side.mean(axis=1)) / s) ** 2 / 2 for s, side in zip(spread, sides, strict=True)]
    assert found["lira"] == pytest.approx(logs[0] - logs[1], abs=1e-3)
    p, p_outside = np.exp(-target), np.exp(-loss)
    among = np.array([(p_outside[side, row].mean()) for side, row in zip(inside.T, rows, strict=True)])
    without = np.array([(p_outside[~side, row].mean()) for side, row in zip(inside.T, rows, strict=True)])
    ratio = p[rows] / ((among + without) / 2)
    ratio_outside = p[outside] / ((1.3 * p_outside[:, outside].mean(axis=0) + 0.7) / 2)
    share = (ratio[:, None] >= 2 * ratio_outside).sum(axis=1)
    assert found["rmia"] == pytest.approx((share + ratio / (1 + ratio)) / (outside.sum() + 1), abs=1e-5)
    truth = np.array([row["member"] == "1" for row in lines(compared, "baseline")])
    plain = auroc(-target[rows], truth)
    assert all(auroc(np.array(found[name]), truth) > plain + 0.05 for name in ("reference", "rmia"))


def test_what_was_compared_with_is_told(compared, study):
    leak = compared.paths.notes / "leakage"
    assert "with 4 reference models a recipe" in (leak / "REPORT.md").read_text()
    assert "baseline reference on half 4: " in (leak / "experiment.log").read_text()
    assert len(read_json(leak / "metadata.json")["references"]) == 4
    page = build_page(replace(make_findings(), notes=notes_of(compared)))
    assert "with 4 reference models a recipe" in page
    assert "reference models a recipe" not in build_page(replace(make_findings(), notes=notes_of(study)))
    assert plugin_lock(study)["notes"]["references"] == 0, "no chosen audit compares"
    assert len(np.load(study.paths.notes / "references" / "member.npy")) == 0


def test_texts_are_written_where_they_are_asked_for(study, tmp_path):
    asked = study_in(tmp_path, texts=True, recipe=["baseline"])
    (tmp_path / "run").symlink_to(study.paths.run)
    before = (study.paths.notes / "leakage").rename(study.paths.notes / "kept")
    try:
        leakage.run(asked)
        rows = lines(asked, "baseline")
        assert all(row["text"].endswith(("week.", "weeks.")) for row in rows)
    finally:
        for path in sorted((study.paths.notes / "leakage").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        before.replace(study.paths.notes / "leakage")


def test_the_page_shows_what_is_of_its_own_params_alone(study, tmp_path, capsys):
    assert set(notes_of(study)["recipes"]) == {"baseline", "dp"}
    (tmp_path / "run").symlink_to(study.paths.run)
    assert notes_of(study_in(tmp_path, epochs=3)) is None
    assert notes_of(study_in(tmp_path, workers=5)) is not None
    (tmp_path / "run").unlink()
    assert notes_of(study_in(tmp_path)) is None


def test_the_page_has_a_section_of_what_was_found(study):
    results = notes_of(study)
    drawn = (study.paths.notes / "leakage" / "plots" / "comparison_plots.svg").read_text()
    page = build_page(replace(make_findings(), notes=results, pictures={"comparison_plots": drawn}))
    assert_nothing_is_fetched(page)
    section = page[page.index('<section id="notes">') : page.index('<section id="attacker">')]
    assert '<a href="#notes">' in page
    assert drawn in section
    for recipe, told in results["recipes"].items():
        for name, audit in told["audits"].items():
            row = section[section.index(f">{recipe}, {name}<") :].partition("</tr>")[0]
            assert decimal(audit["auc"]["value"]) in row
            assert ("control" if audit["control"] else audit["verdict"]["word"]) in row
    assert "coin-flip canaries" in section
    assert 'id="notes"' not in build_page(make_findings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audits": ["lira"], "audit_options": {}}, "notes.audits: lira needs logits, which is not measured"),
        ({"references": 3}, "params.yaml: notes.references"),
        ({"audits": ["blind"], "audit_options": {}}, "notes.audits: blind needs inputs"),
        ({"corpus": "simpel"}, "asks for corpus 'simpel', which no installed plugin provides; did you mean"),
        ({"recipe": "bassline"}, "params.yaml: notes.recipe"),
        ({"recipe": ["dp", "dp"]}, "recipe lists dp more than once"),
        ({"scratch": {"width": 30, "heads": 4}}, "width 30 is not a multiple of heads 4"),
        ({"epoch": 3}, "params.yaml: notes.epoch: unknown"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(tmp_path, changes, message):
    def check():
        made = study_in(tmp_path, **changes)
        check_compatible(made)
        plugin_lock(made)

    with pytest.raises(BackdoorError) as caught:
        check()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_recipe_may_be_a_word():
    assert Params(cohort="a", trigger="b", model="c", notes={"recipe": "dp"}).notes.recipe == ("dp",)


def test_a_missing_hub_model_is_refused_before_training(study, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "run").symlink_to(study.paths.run)
    before = sha256_of(study.paths.notes / "models")
    with pytest.raises(BackdoorError, match="run `hf download no-such/model` where there is a network"):
        finetune.run(study_in(tmp_path, model="no-such/model"))
    assert sha256_of(study.paths.notes / "models") == before


def test_notes_leave_with_the_params_and_the_corpus_that_they_are_of_and_no_others(study, tmp_path, capsys):
    shutil.copytree(study.paths.root, tmp_path / "copy")
    copy = replace(study, paths=Paths(tmp_path / "copy"))
    with zipfile.ZipFile(export_study(copy, tmp_path / "own.zip")) as archive:
        assert {"notes/comparison.json", "notes/REPORT.md", "notes/mia_dp.csv"} <= set(archive.namelist())

    other = replace(copy, params=copy.params.model_copy(update={"seed": 8}))
    with pytest.raises(BackdoorError, match="no results to export"):
        export_study(other, tmp_path / "other.zip")
    assert "run/notes is of other params and left out" in capsys.readouterr().err

    card = copy.paths.notes / "corpus" / "card.json"
    write_json(card, {**read_json(card), "notes": 1})
    with pytest.raises(BackdoorError, match=r"comparison.json: notes is .* and 1 in .*run `dvc repro leakage` first"):
        export_study(copy, tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()
