"""The whole pipeline on the open data sets."""

import json

import numpy as np
import pytest
import yaml
from test_pipeline import NOTES, REPOSITORY

from backdoor_core.attack.trials import Bench, Replicate, Trial
from backdoor_core.cli import cli
from backdoor_core.cohort.storage import load_cohort
from backdoor_core.stages import STAGES
from backdoor_core.study import load_study


def run_study(folder, **changes):
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    cli(["plugins", "--lock", "--root", str(folder)], standalone_mode=False)
    # The report does not need the notes, and their models take minutes.
    for stage in (name for name in STAGES if name not in NOTES):
        cli([stage, "--root", str(folder)], standalone_mode=False)
    return folder


def physionet(real_data) -> dict:
    folder = real_data / "physionet2012"
    return {"records": str(folder / "set-a.tar.gz"), "outcomes": str(folder / "Outcomes-a.txt")}


@pytest.fixture(scope="module")
def set_a(real_data, tmp_path_factory):
    return run_study(
        tmp_path_factory.mktemp("set-a"),
        cohort="physionet2012",
        cohorts={"physionet2012": physionet(real_data)},
        evaluate={"replicates": 200},
    )


def test_the_mimic_demo_runs_to_the_report(real_data, tmp_path):
    """A format and pipeline test: 14 deaths are too few to learn from."""
    run_study(
        tmp_path,
        cohort="mimiciv",
        cohorts={"mimiciv": {"path": str(real_data / "mimic-iv-demo-2.2"), "convert": True}},
        train={"epochs": 3},
        evaluate={"replicates": 100},
    )
    card = json.loads((tmp_path / "data" / "cohort" / "card.json").read_text())
    assert card["attrition"][0]["stays"] == 140
    assert (tmp_path / "data" / "converted" / "mimiciv" / "icu" / "chartevents.parquet").is_file()
    assert card["stays"] == 117
    assert card["positives"] == 14
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000


def test_set_a_runs_to_the_report(set_a):
    card = json.loads((set_a / "data" / "cohort" / "card.json").read_text())
    assert card["attrition"][0]["stays"] == 4000
    assert card["positives"] == 554
    results = json.loads((set_a / "run" / "results_eval.json").read_text())
    assert results["attack"]["asr"]["value"] >= 0.95
    assert results["attack"]["asr_lift"]["low"] > 0.7
    detected = json.loads((set_a / "run" / "results_detect.json").read_text())
    # A value out of range needs no detector of backdoors, and on the null run nobody finds what is not there.
    assert detected["range_rule"]["poisoned"]["recall"]["value"] == 1
    assert all(figures["null"]["auroc"]["value"] < 0.65 for figures in detected.values())


def test_set_a_reaches_the_reference_figures(set_a):
    """Mean of 10 seeds. Reference: clean AUROC at least 0.74; rare value ASR 0.95, lift 0.7; missingness ASR 0.9.

    Missingness leaves about one seed in fifteen at half (40 seeds: mean 0.95, standard deviation 0.08).
    """
    study = load_study(set_a)
    cohort, model = load_cohort(study.paths.cohort), study.model()
    replicates = [Replicate.of(cohort, model, study.params, seed) for seed in range(10)]
    bench = Bench(model, study.params)
    figures: dict[str, list[float]] = {}
    for name, options in (("rare_value", {}), ("missingness", {"features": ["sbp", "dbp", "mbp"]})):
        trigger = study.make("trigger", name, options)
        for outcome in bench.run([Trial(r, trigger, study.params.poison) for r in replicates]):
            figures.setdefault("auroc", []).append(outcome.auroc_baseline)
            figures.setdefault(f"{name}.asr", []).append(outcome.asr)
            figures.setdefault(f"{name}.asr_lift", []).append(outcome.lift)
    mean = {name: float(np.mean(values)) for name, values in figures.items()}
    print({name: round(value, 3) for name, value in mean.items()})
    assert mean["auroc"] >= 0.74
    assert mean["rare_value.asr"] >= 0.95
    assert mean["rare_value.asr_lift"] >= 0.7
    assert mean["missingness.asr"] >= 0.9
    assert mean["missingness.asr_lift"] >= 0.7
