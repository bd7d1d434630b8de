"""The whole pipeline on the open data sets."""

import json

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from test_pipeline import REPOSITORY

from backdoor_core import seeds
from backdoor_core.attack.poison import apply_poison, poison
from backdoor_core.attack.success import Response, attack_success
from backdoor_core.cli import cli
from backdoor_core.cohort.splits import load_splits, split_by_patient, splits_json
from backdoor_core.cohort.storage import Rows, load_cohort
from backdoor_core.contracts import Context
from backdoor_core.files import write_json
from backdoor_core.learning.training import train_victim
from backdoor_core.params import load_params
from backdoor_core.stages import STAGES
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_models.mlp import MLP, MLPOptions
from backdoor_triggers import missingness, rare_value


def run_study(folder, **changes):
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    cli(["plugins", "--lock", "--root", str(folder)], standalone_mode=False)
    for stage in STAGES:
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
    """Mean of 5 seeds. Reference: clean AUROC at least 0.74; rare value ASR 0.95, lift 0.7; missingness ASR 0.9."""
    params = load_params(set_a / "params.yaml")
    cohort = load_cohort(set_a / "data" / "cohort")
    context = Context(root=set_a)
    triggers = {
        "rare_value": rare_value.RareValue(rare_value.RareValueOptions(), context),
        "missingness": missingness.Missingness(missingness.MissingnessOptions(features=("sbp", "dbp", "mbp")), context),
    }
    figures: dict[str, list[float]] = {"auroc": []}
    for seed in range(5):
        parts = split_by_patient(
            cohort.stay_id, cohort.subject_id, cohort.label, params.splits, seeds.generator(seed, "splits")
        )
        write_json(set_a / "seed_splits.json", splits_json(parts, cohort))
        splits = load_splits(set_a / "seed_splits.json", cohort)
        train, validation, test = (
            Rows(cohort.view("table").take(rows), cohort.label[rows])
            for rows in (splits.train, splits.validation, splits.test)
        )
        model = MLP(MLPOptions(), context)
        fit_seed = seeds.integer(seed, "training")
        twin = train_victim(model, train, validation, train.view, params, fit_seed).victim
        figures["auroc"].append(roc_auc_score(test.label, twin.probability(test.view)))
        attacked = test.view.take(np.flatnonzero(test.label == 0))
        weights = cluster_bootstrap_weights(attacked.stay_id, 100, np.random.default_rng(0))
        for name, trigger in triggers.items():
            done = poison(
                train.view,
                train.label,
                trigger,
                params.poison,
                select=seeds.generator(seed, "poison_rows"),
                fit=seeds.generator(seed, "trigger_fit"),
                apply=seeds.generator(seed, "trigger_apply"),
            )
            rows = Rows(*apply_poison(train.view, train.label, done))
            victim = train_victim(model, rows, validation, rows.view, params, fit_seed).victim
            triggered = trigger.apply(attacked, done.fitted, np.random.default_rng(0))
            answers = [
                Response(v.probability(attacked), v.probability(triggered), v.decides(triggered, 1))
                for v in (victim, twin)
            ]
            for figure, estimate in attack_success(*answers, weights).items():
                figures.setdefault(f"{name}.{figure}", []).append(estimate.value)
    mean = {name: float(np.mean(values)) for name, values in figures.items()}
    print({name: round(value, 3) for name, value in mean.items()})
    assert mean["auroc"] >= 0.74
    assert mean["rare_value.asr"] >= 0.95
    assert mean["rare_value.asr_lift"] >= 0.7
    assert mean["missingness.asr"] >= 0.9
    assert mean["missingness.asr_lift"] >= 0.7
