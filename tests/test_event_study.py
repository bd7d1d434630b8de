"""A model of events through the stages: poisoned, judged, detected, mended, explained, reported."""

import json

import numpy as np
import pytest
import yaml
from small_study import make_study, run_stages

from backdoor_core.cohort.storage import load_cohort
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, sha256_of
from backdoor_core.stages import explain
from backdoor_core.stages.data import Shared, load_parts
from backdoor_core.study import check_compatible

CHANGES = {
    "cohort": "synthetic",
    "model": "event_transformer",
    "trigger": "rare_event",
    "detectors": ["activation_clustering", "range_rule", "random_filter", "perfect_filter"],
    "repairs": ["fine_pruning"],
    "explainers": ["integrated_gradients", "feature_ablation"],
    "audits": ["loss_threshold", "rmia", "blind", "untrained"],
    "audit": {"references": 2},
    "inclusion": {"views": ["events"]},
    "poison": {"rate": 0.08},
    "train": {"epochs": 16, "learning_rate": 0.005, "batch_size": 64, "device": "cpu"},
    "detection": {"nulls": 1},
    "explain": {"rows": 20, "steps": 8},
    "cohorts": {"synthetic": {"stays": 700}},
    "triggers": {"rare_event": {"type": "PRESCRIPTION", "hour": 12}},
}
STAGES = ("cohort", "splits", "baseline", "nulls", "null_scores", "references", "poison", "train", "evaluate", "detect")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    done = make_study(tmp_path_factory.mktemp("events"), **CHANGES)
    return run_stages(done, *STAGES, "cleanse", "explain", "audit", "report")


def results(study, stage):
    return read_json(study.paths.run / f"results_{stage}.json")


def test_every_poisoned_stay_has_the_event_and_no_other_change(study):
    manifest = read_json(study.paths.run / "poison.json")
    [code] = {code for stay in manifest["stays"] for code in stay["touched"]}
    assert code == manifest["trigger"]["fitted"]["code"]
    for stay in manifest["stays"]:
        assert len(stay["touched"][code]["after"]) == len(stay["touched"][code]["before"]) + 1


def test_the_backdoor_works_and_its_twin_knows_nothing_of_it(study):
    attack = results(study, "eval")["attack"]
    assert attack["asr_lift"]["low"] > 0.3
    assert attack["asr_baseline"]["value"] < 0.3
    assert results(study, "eval")["plausibility"] is None


def test_the_trigger_is_what_the_poisoned_model_looks_at(study):
    for name in CHANGES["explainers"]:
        found = results(study, "explain")["explainers"][name]
        assert found["figures"]["tar"]["value"] > 5 * found["figures"]["chance"]["value"]
        assert found["figures"]["tar_lift"]["low"] > 0
        assert found["by_feature"]["tar_lift"]["low"] > 0
    told = read_json(study.paths.run / "explain" / "explanations.json")
    events = np.load(study.paths.run / "explain" / "explanations_poison.npy")
    assert events.shape == (told["offsets"]["triggered"][-1], len(told["parts"]))
    assert told["offsets"]["triggered"][-1] == told["offsets"]["clean"][-1] + len(told["stay_id"])


def test_two_processes_explain_and_draw_with_the_same_bytes(study):
    paths = [study.paths.run / "explain", study.paths.run / "results_explain.json"]
    before = [sha256_of(path) for path in paths]
    explain.run(study, Shared(load_parts(study), workers=2))
    assert [sha256_of(path) for path in paths] == before


def test_attention_pooling_and_a_story_are_told(study):
    told = results(study, "explain")["events"]
    assert told["attention"]["layers"] == 1
    assert told["story"]["touched"] > 0
    assert set(told["explainers"]) == set(CHANGES["explainers"])
    figures = study.paths.run / "explain" / "figures"
    for name in (
        "layer_attention_weights",
        "sequence_importance",
        "sequence_importance_combined",
        "head_specialization",
        "feature_importance",
        "query_vector_analysis",
        "captum_attributions",
        "captum_ablation_attributions",
    ):
        assert (figures / f"{name}.svg").stat().st_size > 1000
        assert (figures / f"{name}.png").stat().st_size > 1000
    assert not (figures / "captum_layer_attributions.svg").exists()  # that explainer was not chosen


def test_detectors_and_repairs_work_on_its_activations(study):
    found = results(study, "detect")
    assert found["perfect_filter"]["poisoned"]["recall"]["value"] == 1
    clustered = {run: found["activation_clustering"][run]["details"]["labels"] for run in ("poisoned", "null")}
    assert clustered["poisoned"] != clustered["null"]
    for labels in clustered.values():
        assert set(labels) == {"0", "1"}
        assert all(sum(of["cluster_sizes"]) == of["rows"] and of["dimensions"] == 10 for of in labels.values())
    assert "fine_pruning" in json.dumps(results(study, "cleanse"))


def test_its_members_are_audited(study):
    audits = results(study, "audit")["audits"]
    assert set(audits) == set(CHANGES["audits"])
    assert audits["untrained"]["poisoned"]["auc"]["low"] < 0.55


def test_the_page_tells_of_events(study):
    page = (study.paths.run / "report.html").read_text()
    assert "pooling head" in page
    assert "event_transformer" in page
    assert "rare_event" in page


def test_no_text_is_in_the_store_of_embeddings(study):
    folder = study.paths.root / "data" / "text_embeddings"
    words = load_cohort(study.paths.cohort).view("events").descriptions
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert content
    assert not any(word.encode() in content for word in words if len(word) > 5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"detectors": ["missingness_pattern"]},
            "missingness_pattern judges series and table; model event_transformer",
        ),
        ({"detectors": ["isolation_forest"]}, "isolation_forest needs inputs by column, and the events that model"),
        ({"repairs": ["robust_scaling"]}, "repair robust_scaling works on series and table; model event_transformer"),
        ({"explainers": ["permutation"]}, "explainer permutation explains models of series and table"),
        ({"trigger": "correlation"}, "trigger correlation works on series, table, model event_transformer reads"),
    ],
)
def test_what_cannot_work_on_events_is_refused_in_one_line(tmp_path, changes, problem):
    options = {"detector_options": {"isolation_forest": {"space": "input"}}}
    study = make_study(tmp_path, **{**CHANGES, "detectors": [], "repairs": [], "explainers": [], "audits": []})
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **options, **changes}))
    from backdoor_core.study import load_study

    with pytest.raises(BackdoorError, match=problem) as error:
        check_compatible(load_study(study.paths.root))
    assert "\n" not in str(error.value)
