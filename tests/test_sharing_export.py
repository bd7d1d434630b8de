"""Sharing without patients: what a zip of a study or a sweep holds, and that planted patients are refused."""

import csv
import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_sweep import PROVENANCE, make_sweep
from small_study import make_study, run_stages

from backdoor_core.cohort.parquet import read_parquet, write_parquet
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, write_json
from backdoor_core.ranking import auroc
from backdoor_core.report.provenance import cohort_hashes
from backdoor_core.report.sweep_figures import sweep_figures
from backdoor_core.report.sweep_page import build_sweep_page
from backdoor_core.sharing.export import export_study, export_sweep
from backdoor_core.sharing.small import SMALLEST_CELL
from backdoor_core.study import Paths
from backdoor_core.sweep.aggregate import aggregated_csv
from backdoor_core.sweep.grid import cell_name
from backdoor_core.sweep.rows import row_of, summary_csv
from backdoor_core.sweep_params import SweepParams

STAGES = ("cohort", "splits", "baseline", "nulls", "null_scores", "references", "poison", "train", "evaluate", "detect")
CHANGES = {
    "cohort": "synthetic",
    "cohorts": {"synthetic": {"stays": 500}},
    "detectors": ["range_rule", "spectral_signatures", "perfect_filter", "random_filter"],
    "repairs": ["fine_pruning"],
    "explainers": ["saliency"],
    "audits": ["loss_threshold", "blind"],
    "train": {"epochs": 2, "learning_rate": 0.01, "device": "cpu"},
    "evaluate": {"replicates": 100},
    "detection": {"nulls": 1},
    "explain": {"rows": 30},
}
SIDES = ("poisoned", "baseline")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("export"), **CHANGES)
    return run_stages(study, *STAGES, "cleanse", "explain", "audit", "report")


@pytest.fixture
def study(made, tmp_path):
    """A copy that a test may spoil."""
    root = tmp_path / "study"
    shutil.copytree(made.paths.root, root)
    return replace(made, paths=Paths(root))


def unpack(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def table(content):
    header, *rows = csv.reader(io.StringIO(content.decode()))
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


@pytest.fixture(scope="module")
def members(made, tmp_path_factory):
    return unpack(export_study(made, tmp_path_factory.mktemp("out") / "study.zip"))


# -------------------------------------------------------------------------------------------------- what is in it
def test_everything_that_may_leave_is_there_and_nothing_else(members):
    results = {f"results{end}.json" for end in ("", "_eval", "_detect", "_explain", "_audit", "_cleanse")}
    tables = {f"{name}.csv" for name in ("predictions", "detector_scores", "null_scores", "audit_scores")}
    figures = {
        f"figures/{name}.{end}" for name in ("tar", "features_saliency", "twins_saliency") for end in ("svg", "png")
    }
    curves = {"learning_curve.csv", "baseline/learning_curve.csv", "baseline/results.json"}
    others = {"run_config.json", "poison.json", "splits_summary.json", "MANIFEST.json"}
    assert set(members) == results | tables | figures | curves | others
    *files, last = members
    assert files == sorted(files)
    assert last == "MANIFEST.json"


def test_the_manifest_has_the_hash_of_every_file_and_the_reason_for_every_other(made, members):
    manifest = json.loads(members.pop("MANIFEST.json"))
    assert {name: hashlib.sha256(content).hexdigest() for name, content in members.items()} == {
        name: told["sha256"] for name, told in manifest["files"].items()
    }
    left = [name for names in manifest["left_out"].values() for name in names]
    for name in ("run/model.pt", "run/preprocess.json", "run/poison.parquet", "run/report.html", "data/cohort"):
        assert name in left
    assert not any("other files" in name for name in left)
    assert "stays" in manifest["keys_left_out"]["poison.json"]
    members["MANIFEST.json"] = json.dumps(manifest).encode()


def test_no_id_of_the_cohort_is_a_token_of_any_text(made, members):
    stays = read_parquet(made.paths.cohort / "stays.parquet")
    known = {str(value) for key in ("stay_id", "subject_id") for value in stays[key]}
    for name, content in members.items():
        if not name.endswith(".png"):
            words = content.decode()
            for sign in '",[]{}():;<>\n':
                words = words.replace(sign, " ")
            assert not known & set(words.split()), name


def test_equal_results_give_equal_bytes_wherever_they_lie(made, study, tmp_path):
    one, other = (export_study(of, tmp_path / f"{k}.zip") for k, of in enumerate((made, study)))
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_scores_are_those_of_the_study_in_an_order_that_their_content_gives(made, members):
    source = read_parquet(made.paths.run / "predictions.parquet")
    found = table(members["predictions.csv"])
    assert list(found) == [name for name in source if name != "stay_id"]
    rows = list(zip(*([float(value) for value in column] for column in found.values()), strict=True))
    expected = zip(*(source[name].tolist() for name in found), strict=True)
    assert rows == sorted(tuple(float(f"{value:.6g}") for value in row) for row in expected)


def test_shuffled_rows_give_the_same_tables(study, members, tmp_path):
    order = np.random.default_rng(0).permutation(len(read_parquet(study.paths.run / "predictions.parquet")["label"]))
    path = study.paths.run / "predictions.parquet"
    write_parquet(path, {name: column[order] for name, column in read_parquet(path).items()})
    assert unpack(export_study(study, tmp_path / "x.zip"))["predictions.csv"] == members["predictions.csv"]


def test_ranks_of_detectors_keep_their_auroc_and_hide_their_scores(made, members):
    source = read_parquet(made.paths.run / "detect" / "scores.parquet")
    found = table(members["detector_scores.csv"])
    assert not [name for name in found if name.endswith(".score")]
    for detector in ("range_rule", "spectral_signatures", "perfect_filter"):
        rank = np.array(found[f"{detector}.poisoned.rank"], dtype=float)
        assert rank.max() <= 1
        truth = np.array(found["poisoned"]) == "1"
        expected = auroc(source[f"{detector}.poisoned.score"], source["poisoned"])
        assert auroc(rank, truth) == pytest.approx(expected, abs=1e-9)
    assert len(table(members["null_scores.csv"])["range_rule.0.rank"]) == len(rank)


def test_scores_that_are_drawn_by_lot_stay(made, members):
    """The lot is drawn from the seed, which the settings tell, stay by stay: its ranks would say whose row is whose."""
    source = read_parquet(made.paths.run / "detect" / "scores.parquet")
    assert "random_filter.poisoned.score" in source
    for name in ("detector_scores.csv", "null_scores.csv"):
        detectors = {column.partition(".")[0] for column in table(members[name])}
        assert {"range_rule", "spectral_signatures"} <= detectors
        assert "random_filter" not in detectors
    assert ["random_filter.*"] in json.loads(members["MANIFEST.json"])["left_out"].values()


def test_poison_is_counted_and_nobody_named(made, members):
    manifest, found = read_json(made.paths.run / "poison.json"), json.loads(members["poison.json"])
    assert found["touched"] == {"heart_rate": len(manifest["stays"])}
    assert found["trigger"] == {key: manifest["trigger"][key] for key in ("name", "options")}
    assert "stays" not in found


def test_figures_are_copied_as_they_are(made, members):
    for name, stage in {"eval": "attack", "cleanse": "undefended", "detect": "range_rule"}.items():
        source, found = (
            read_json(made.paths.run / f"results_{name}.json"),
            json.loads(members[f"results_{name}.json"]),
        )
        if name == "detect":
            assert found[stage]["poisoned"]["auroc"] == source[stage]["poisoned"]["auroc"]
            assert "details" not in found[stage]["poisoned"]
        else:
            assert found[stage] == source[stage]
    assert "text" not in json.loads(members["results_eval.json"])["verdict"]


def test_hidden_subgroups_are_hidden_in_every_file(made, members):
    results = {name: json.loads(members[f"results_{name}.json"]) for name in ("eval", "detect", "audit")}
    hidden = {(g["group"], g["value"]) for g in results["eval"]["subgroups"] if g["clean"] is None}
    shown = {(g["group"], g["value"]): g["clean"] for g in results["eval"]["subgroups"] if g["clean"]}
    # 75 test stays in seven care units and four age bands: some are small.
    assert hidden
    for counts in shown.values():
        assert min(counts["stays"], counts["positives"], counts["stays"] - counts["positives"]) >= SMALLEST_CELL
    for audit in results["audit"]["audits"].values():
        for group in audit["subgroups"]:
            if (group["by"], group["value"]) in hidden:
                assert group["members"] is group["nonmembers"] is group["poisoned"] is None
    for detector in results["detect"].values():
        for by, groups in detector["poisoned"]["bias"].items():
            assert all(found["clean_rows"] is None for value, found in groups.items() if (by, value) in hidden)


# -------------------------------------------------------------------------------------------- planted in a study
def refused(study, out, *words):
    with pytest.raises(BackdoorError) as error:
        export_study(study, out)
    said = str(error.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said
    assert list(out.parent.glob("*.zip*")) + list(out.parent.glob(".*.partial")) == []


def plant(path, content):
    path.write_text(path.read_text() + content)


def test_a_planted_stay_is_refused_and_leaves_no_file(study, tmp_path):
    stay = read_parquet(study.paths.cohort / "stays.parquet")["stay_id"][3]
    plant(study.paths.run / "learning_curve.csv", f"{stay},1,1,1\n")
    refused(study, tmp_path / "x.zip", "learning_curve.csv", "epoch", str(stay), "an id of the cohort")


@pytest.mark.parametrize("column", ["stay_id", "subject_id"])
@pytest.mark.parametrize("text", ["stay {}", "s{}x", "see ({}).", "00{}"])
def test_an_id_within_the_words_of_a_figure_is_refused(study, tmp_path, column, text):
    known = read_parquet(study.paths.cohort / "stays.parquet")[column][0]
    path = study.paths.run / "explain" / "figures" / "tar.svg"
    path.write_text(path.read_text().replace("</svg>", f"<text>{text.format(known)}</text></svg>"))
    refused(study, tmp_path / "x.zip", "figures/tar.svg", str(known))


def test_an_id_among_the_settings_is_refused(study, tmp_path):
    path = study.paths.run / "run_config.json"
    content, stay = read_json(path), int(read_parquet(study.paths.cohort / "stays.parquet")["stay_id"][0])
    content["params"]["sweep"]["only"] = [1, stay]
    write_json(path, content)
    refused(study, tmp_path / "x.zip", "run_config.json", "params.sweep.only", str(stay))


def test_a_measured_value_in_full_is_refused(study, tmp_path):
    values = read_parquet(study.paths.cohort / "table.parquet")
    value = next(
        v for name in values for v in values[name] if len(str(v).strip("0").replace(".", "")) >= 7 and v < 1000
    )
    path = study.paths.run / "results.json"
    for written in (float(value), float(str(value))):
        write_json(path, {**read_json(path), "threshold": written})
        refused(study, tmp_path / "x.zip", "results.json", "threshold", "a measured value")


def test_a_path_among_the_settings_loses_its_folders(study, tmp_path):
    path = study.paths.run / "run_config.json"
    content = read_json(path)
    content["plugins"]["cohort"]["options"] |= {"path": "/home/alice/mimic-iv", "stay_id": "ICUSTAY", "text": "note"}
    write_json(path, content)
    write_json(study.paths.lock, content["plugins"])
    found = json.loads(unpack(export_study(study, tmp_path / "x.zip"))["run_config.json"])
    options = found["plugins"]["cohort"]["options"]
    assert options["path"] == "mimic-iv"
    assert not {"stay_id", "text"} & set(options)


def test_what_no_list_has_stays_out(study, tmp_path):
    """Unknown files and keys, whatever they hold, are no reason to refuse: they are not taken."""
    stay = int(read_parquet(study.paths.cohort / "stays.parquet")["stay_id"][-1])
    (study.paths.run / f"{stay}.csv").write_text(f"stay_id\n{stay}\n")
    path = study.paths.run / "results_eval.json"
    write_json(path, {**read_json(path), f"of {stay}": {"stay_id": stay}, "stories": [f"stay {stay} died"]})
    found = unpack(export_study(study, tmp_path / "x.zip"))
    assert [name for name, content in found.items() if str(stay).encode() in content] == []
    manifest = json.loads(found["MANIFEST.json"])
    assert manifest["keys_left_out"]["results_eval.json"] == ["(other)", "stories", "verdict.text"]
    assert manifest["left_out"]["not on the list of what may leave"] == ["1 other files below run"]


def test_nothing_is_exported_unchecked(study, tmp_path):
    (study.paths.cohort / "stays.parquet").unlink()
    plant(study.paths.run / "learning_curve.csv", "12345678,1,1,1\n")
    refused(study, tmp_path / "x.zip", "stays.parquet", "cannot be checked")


def test_no_results_and_a_folder_in_place_of_a_file_are_said(study, tmp_path):
    with pytest.raises(BackdoorError, match="is a folder; name a file"):
        export_study(study, tmp_path)
    shutil.rmtree(study.paths.run)
    with pytest.raises(BackdoorError, match="no results to export"):
        export_study(study, tmp_path / "x.zip")


# --------------------------------------------------------------------------------------------- results of two studies
AGAIN = "run `dvc repro report` first"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trigger": {"name": "missingness", "options": {}}}, 'trigger.name is "missingness", and "rare_value" in'),
        ({"target": 0}, "target is 0, and 1 in"),
        ({"seed": 8}, "seed is 8, and 7 in"),
        ({"poisoned_stays": 3}, "poisoned_stays is 3, and 18 in"),
        ({"mode": "add"}, 'mode is "add", and "replace" in'),
    ],
)
def test_the_poison_of_another_attack_is_refused(study, tmp_path, changes, said):
    path = study.paths.run / "poison.json"
    content = read_json(path)
    write_json(path, {**content, **{k: content[k] | v if isinstance(v, dict) else v for k, v in changes.items()}})
    refused(study, tmp_path / "x.zip", "poison.json", said, "run_config.json", AGAIN)


def test_changed_params_options_and_cohorts_are_refused(study, tmp_path):
    changed = replace(study, params=study.params.model_copy(update={"seed": 8}))
    refused(changed, tmp_path / "x.zip", "params.yaml: seed is 8, and 7 in", AGAIN)
    other = replace(study, params=study.params.model_copy(update={"sweep": SweepParams(name="other")}))
    export_study(other, tmp_path / "other" / "x.zip")

    lock = read_json(study.paths.lock)
    lock["trigger"]["options"]["value"] = 1.0
    write_json(study.paths.lock, lock)
    refused(study, tmp_path / "x.zip", "plugins.lock.json: trigger.options.value is 1.0, and 9999.0 in", AGAIN)
    lock["trigger"]["options"]["value"] = 9999.0
    write_json(study.paths.lock, lock)
    plant(study.paths.splits, " ")
    refused(study, tmp_path / "x.zip", "splits.json: is another than run_config.json tells of", AGAIN)


def test_options_of_notes_are_none_of_the_stays(study, tmp_path):
    lock = read_json(study.paths.lock)
    write_json(study.paths.lock, {**lock, "notes": {"audits": {"zlib": {}}}})
    export_study(study, tmp_path / "x.zip")


def test_a_file_that_a_stage_run_by_hand_left_is_refused(study, tmp_path):
    path = study.paths.run / "results.json"
    found = hashlib.md5(path.read_bytes()).hexdigest()
    lock = study.paths.root / "dvc.lock"
    lock.write_text(f"stages:\n  train: {{outs: [{{path: run/results.json, md5: {found}}}]}}\n")
    export_study(study, tmp_path / "whole" / "x.zip")
    write_json(path, {**read_json(path), "epochs": 1})
    refused(study, tmp_path / "x.zip", "run/results.json: is another than DVC made", AGAIN)


@pytest.mark.parametrize(
    "name",
    ["baseline", "results_cleanse.json", "run_config.json", "poison.json", "detect", "explain/figures/tar.svg"],
)
def test_a_study_is_exported_whole(study, tmp_path, name):
    path = study.paths.run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(study, tmp_path / "x.zip", name, "no such file", AGAIN)


def test_results_without_a_component_that_was_asked_for_are_refused(study, tmp_path):
    path = study.paths.run / "results_detect.json"
    content = read_json(path)
    del content["range_rule"]
    write_json(path, content)
    refused(study, tmp_path / "x.zip", "results_detect.json: holds", "and detectors is [", AGAIN)


def test_a_stage_that_read_an_older_file_is_refused(study, tmp_path):
    """`dvc repro evaluate`, then `make report`: settings and poison are of one study, the detectors of another."""
    lock = study.paths.root / "dvc.lock"
    md5 = hashlib.md5((study.paths.run / "poison.json").read_bytes()).hexdigest()
    text = f"stages:\n  poison: {{{{outs: [{{{{path: run/poison.json, md5: {md5}}}}}]}}}}\n"
    text += "  detect: {{deps: [{{path: run/poison.json, md5: {}}}, {{path: stays.parquet, md5: c}}]}}\n"
    lock.write_text(text.format("b"))
    refused(study, tmp_path / "x.zip", "run/poison.json: was made anew after the stage detect had read it", AGAIN)
    notes = text.format(md5).replace("stays.parquet, md5: c", "run/notes/models, md5: c")
    lock.write_text(notes + "  finetune: {outs: [{path: run/notes/models, md5: d}]}\n")
    refused(study, tmp_path / "x.zip", "run/notes/models: was made anew", "run `dvc repro leakage` first")
    lock.write_text("a: [")
    refused(study, tmp_path / "x.zip", "dvc.lock: not readable as YAML")
    lock.write_text(text.format(md5))
    export_study(study, tmp_path / "x.zip")


# --------------------------------------------------------------------------------------------------------- sweep
def write_sweep(root, made, **changes):
    sweep = make_sweep(models=("mlp",), triggers=("rare_value",), rates=(0.0, 0.02), seeds=(42, 43), **changes)
    aggregated, folder = sweep["aggregated"], root / "benchmarks" / "tiny"
    for row in sweep["rows"]:
        axes = {key: row[key] for key in ("model", "trigger", "rate", "parameters", "seed")}
        cell = root / "runs" / cell_name(**axes)
        kept = {key: row[key] for key in ("status", "error", "figures", "roc", "null_lift")}
        write_json(cell / "cell.json", {"inputs": "0" * 64, "axes": axes, **kept})
        if row["status"] == "done":
            config = read_json(made.paths.run / "run_config.json")
            write_json(cell / "run_config.json", {**config, "data": cohort_hashes(made.paths.cohort)})
        (cell / "results_eval.json").write_text("{}")
    write_json(folder / "aggregated_metrics.json", aggregated)
    (folder / "aggregated_metrics.csv").write_text(aggregated_csv(aggregated))
    records = [
        {"axes": {k: row[k] for k in ("model", "trigger", "rate", "parameters", "seed")}, **row}
        for row in sweep["rows"]
    ]
    (folder / "summary.csv").write_text(summary_csv([row_of(record) for record in records]))
    names = list(sweep["rows"][0]["parameters"])
    timings = [",".join(["model", "trigger", "rate", *names, "seed", "stage", "seconds"])]
    for row in sweep["rows"]:
        values = (row["model"], row["trigger"], row["rate"], *row["parameters"].values(), row["seed"], "train", 1.5)
        timings.append(",".join(map(str, values)))
    (folder / "timings.csv").write_text("\n".join(timings) + "\n")
    (folder / "figures").mkdir()
    for name, picture in sweep_figures(aggregated).items():
        (folder / "figures" / f"{name}.svg").write_text(picture.svg)
        (folder / "figures" / f"{name}.png").write_bytes(picture.png)
    page = build_sweep_page(aggregated, sweep["rows"], sweep["timings"], PROVENANCE)
    (folder / "report.html").write_text(page)
    shutil.copytree(made.paths.cohort, root / "runs" / "shared" / "cohorts" / "0123")
    return root


def test_a_sweep_leaves_with_its_cells_digests(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made)
    found = unpack(export_sweep(root, "tiny", tmp_path / "one.zip"))
    figures = {
        f"figures/{name}.{end}"
        for name in ("attack_success", "lift", "clean_performance", "detector_tpr")
        for end in ("svg", "png")
    }
    cells = {
        f"cells/mlp/rare_value/{rate}/seed_{seed}/{name}.json"
        for rate in (0.0, 0.02)
        for seed in (42, 43)
        for name in ("cell", "run_config")
    }
    tables = {"summary.csv", "aggregated_metrics.csv", "aggregated_metrics.json", "timings.csv", "report.html"}
    tables.add("MANIFEST.json")
    assert set(found) == figures | cells | tables
    *names, _ = found
    assert names == sorted(names)
    assert (
        json.loads(found["aggregated_metrics.json"])["groups"]
        == read_json(root / "benchmarks" / "tiny" / "aggregated_metrics.json")["groups"]
    )
    assert found["summary.csv"].decode() == (root / "benchmarks" / "tiny" / "summary.csv").read_text()
    assert export_sweep(root, "tiny", tmp_path / "two.zip").read_bytes() == (tmp_path / "one.zip").read_bytes()


def test_errors_of_failed_cells_stay(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made, failed=(1,))
    found = unpack(export_sweep(root, "tiny", tmp_path / "one.zip"))
    assert not any(b"loss is not finite" in content for content in found.values())
    told = [{"cell": "mlp/rare_value/0.0/seed_43", "error": "its message stays where the sweep was made"}]
    assert json.loads(found["aggregated_metrics.json"])["cells"]["errors"] == told
    assert table(found["summary.csv"])["status"].count("failed") == 1
    assert "cells/mlp/rare_value/0.0/seed_43/run_config.json" not in found
    assert told[0]["error"] in found["report.html"].decode()


def test_what_was_put_into_the_files_of_a_sweep_does_not_come_along(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made)
    folder = root / "benchmarks" / "tiny"
    page, drawing = folder / "report.html", folder / "figures" / "lift.svg"
    page.write_text(page.read_text().replace("</main>", "<!-- planted --><p data-planted>planted</p></main>"))
    drawing.write_text(drawing.read_text().replace("</svg>", "<!-- planted --></svg>"))
    header, *rows = (folder / "summary.csv").read_text().splitlines()
    (folder / "summary.csv").write_text("\n".join([f"{header},mrn", *(f"{row},planted" for row in rows)]))
    for content in unpack(export_sweep(root, "tiny", tmp_path / "one.zip")).values():
        assert b"planted" not in content
        assert b"mrn" not in content


def test_a_path_that_a_sweep_varies_loses_its_folders_everywhere(made, tmp_path):
    varied = {"cohorts.physionet2012.records": ["/home/alice/raw/set-a.tar.gz"]}
    root = write_sweep(tmp_path / "sweep", made, parameters=varied, failed=(3,))
    found = unpack(export_sweep(root, "tiny", tmp_path / "one.zip"))
    assert "cells/mlp/rare_value/0.02/cohorts.physionet2012.records=set-a.tar.gz/seed_42/cell.json" in found
    for name, content in found.items():
        assert "alice" not in name
        assert b"alice" not in content
    assert set(table(found["summary.csv"])["cohorts.physionet2012.records"]) == {"set-a.tar.gz"}


def test_cells_that_only_folders_tell_apart_are_refused(made, tmp_path):
    varied = {"cohorts.physionet2012.records": ["/data/a/set.tar.gz", "/data/b/set.tar.gz"]}
    root = write_sweep(tmp_path / "sweep", made, parameters=varied)
    with pytest.raises(BackdoorError, match=r"two cells are mlp/.*set\.tar\.gz.* rename one"):
        export_sweep(root, "tiny", tmp_path / "x.zip")


def test_results_of_an_earlier_version_and_long_notes(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made)
    path = root / "benchmarks" / "tiny" / "aggregated_metrics.json"
    content = read_json(path)
    notes = ("both doses", "effective dose", "detectable dose", "no figure")
    long = "; ".join(f"{words} at or below the smallest rate for 1 of 4 seeds" for words in notes)
    content["doses"][0]["detectors"]["range_rule"]["gap"]["note"] = long
    write_json(path, content)
    assert long in unpack(export_sweep(root, "tiny", tmp_path / "x.zip"))["aggregated_metrics.json"].decode()
    for group in content["groups"]:
        del group["null_asr"]
    write_json(path, content)
    with pytest.raises(BackdoorError, match="results of an earlier version; run `backdoor sweep`"):
        export_sweep(root, "tiny", tmp_path / "y.zip")


def test_a_sweep_is_checked_against_the_cohort_that_it_was_made_of(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made)
    cohort = root / "runs" / "shared" / "cohorts" / "0123"
    stays = read_parquet(cohort / "stays.parquet")
    write_parquet(cohort / "stays.parquet", {name: column[:-1] for name, column in stays.items()})
    with pytest.raises(BackdoorError, match=r"seed_42: its cohort is not in runs/shared/cohorts.*which builds it anew"):
        export_sweep(root, "tiny", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_stay_planted_in_a_sweep_is_refused(made, tmp_path):
    stay = int(read_parquet(made.paths.cohort / "stays.parquet")["stay_id"][5])
    cell = Path("runs/mlp/rare_value/0.02/seed_43/cell.json")

    def in_cell(root):
        content = read_json(root / cell)
        content["figures"]["asr"] = stay
        write_json(root / cell, content)

    def in_note(root):
        path = root / "benchmarks" / "tiny" / "aggregated_metrics.json"
        content = read_json(path)
        content["doses"][0]["effective"]["note"] = f"not reached by {stay}"
        write_json(path, content)

    for place, (planted, where) in enumerate(((in_cell, "cell.json: figures.asr"), (in_note, "effective.note"))):
        root = write_sweep(tmp_path / str(place), made)
        planted(root)
        out = tmp_path / "out" / "x.zip"
        with pytest.raises(BackdoorError, match=f"{where}.* holds {stay}"):
            export_sweep(root, "tiny", out)
        assert list(out.parent.iterdir()) == []


def test_an_unfinished_sweep_is_said(made, tmp_path):
    root = write_sweep(tmp_path / "sweep", made)
    with pytest.raises(BackdoorError, match="other: no results of a sweep"):
        export_sweep(root, "other", tmp_path / "x.zip")
    (root / "runs/mlp/rare_value/0.02/seed_43/cell.json").unlink()
    with pytest.raises(BackdoorError, match=r"seed_43/cell.json: no such file; run `backdoor sweep`"):
        export_sweep(root, "tiny", tmp_path / "x.zip")
    root = write_sweep(tmp_path / "other", made)
    shutil.rmtree(root / "runs" / "shared")
    with pytest.raises(BackdoorError, match="its cohort is not in runs/shared/cohorts to check the export against"):
        export_sweep(root, "tiny", tmp_path / "x.zip")
