"""A study whose parts cannot work together is refused in one line before any work; the lock tells all that it uses."""

import pytest
import yaml
from test_pipeline import REPOSITORY

from backdoor_core.errors import BackdoorError
from backdoor_core.study import check_compatible, idle_options, load_study, plugin_lock


@pytest.fixture
def study(tmp_path):
    def make(**changes):
        content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        for key, value in changes.items():
            content[key] = content[key] | value if isinstance(value, dict) and content.get(key) else value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        return load_study(tmp_path)

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lstm", "inclusion": {"views": ["table"]}}, "reads the series view, which inclusion.views does not"),
        ({"trigger": "temporal_pattern"}, "trigger temporal_pattern works on series, model mlp reads the table view"),
        ({"trigger": "rare_event"}, "trigger rare_event works on events"),
        ({"model": "gbdt", "repairs": []}, "detector activation_clustering needs embedding; model gbdt has none of it"),
        ({"model": "gbdt", "detectors": ["influence"], "repairs": []}, "detector influence needs"),
        (
            {"detectors": ["loss_isolation"], "train": {"checkpoints": False}},
            "detector loss_isolation needs checkpoints of the training; set train.checkpoints to true",
        ),
        (
            {"detectors": ["scan"], "detector_options": {"scan": {"trusted": True}}},
            "detector scan needs stays known to be clean; set detection.trusted",
        ),
        ({"model": "gbdt", "detectors": []}, "repair fine_pruning mends torch models; gbdt is none"),
        ({"model": "gbdt", "preprocess": {"missing": "sentinel"}}, "choose indicator or median"),
        ({"detectors": ["spectre", "spectre"]}, "detectors lists spectre more than once"),
        ({"repairs": ["dp_sgd", "dp_sgd"]}, "repairs lists dp_sgd more than once"),
        (
            {"triggers": {"rare_valu": {"feature": 0}}},
            "triggers.rare_valu is of no installed trigger; did you mean 'rare_value'? Installed: ",
        ),
        (
            {"notes": {"audit_options": {"blnd": {}}}},
            "notes.audit_options.blnd is of no installed audit; did you mean 'blind'?",
        ),
        (
            {"model": "event_transformer", "trigger": "rare_event", "preprocess": {"outliers": None}},
            "preprocess.outliers is null, but codes of events have no plausible range; set winsorize or keep for model",
        ),
        (
            {"trigger": "hybrid", "triggers": {"hybrid": {"triggers": [{"name": "hybrid"}]}}},
            "triggers.hybrid.triggers: hybrid is itself made of triggers",
        ),
        (
            {"trigger": "hybrid", "triggers": {"hybrid": {"triggers": [{"name": "rare_event"}, {"name": "in_range"}]}}},
            "no view is common to rare_event",
        ),
    ],
)
def test_what_cannot_work_is_refused(study, changes, message):
    with pytest.raises(BackdoorError, match=r"^params.yaml|^triggers") as error:
        check_compatible(study(**changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"detectors": ["spectre", "beatrix"]},
        {
            "model": "gbdt",
            "detectors": ["isolation_forest", "range_rule"],
            "detector_options": {"isolation_forest": {"space": "input"}},
            "repairs": [],
            "explainers": [],
        },
        {"detectors": ["scan"], "detector_options": {"scan": {"trusted": True}}, "detection": {"trusted": 50}},
        {"model": "lstm", "trigger": "sampling_pattern"},
    ],
)
def test_what_can_work_is_not(study, changes):
    check_compatible(study(**changes))


def test_options_of_what_is_not_installed_are_told_and_no_reason_to_stop(study, monkeypatch):
    found = study(detector_options={"of_another_machine": {}})
    check_compatible(found)
    assert idle_options(found) == ["params.yaml: detector_options.of_another_machine is of no installed detector"]
    # A plugin that is left out on purpose has options in params.yaml that are right.
    monkeypatch.setenv("BACKDOOR_BLOCK_PLUGINS", "backdoor-repairs")
    near = study(repairs=[], repair_options={"fine_pruning": {}}, detector_options={"range_rul": {}})
    check_compatible(near)
    assert [line.partition(" is of")[0] for line in idle_options(near)] == [
        "params.yaml: detector_options.range_rul",
        "params.yaml: repair_options.fine_pruning",
    ]


def test_the_study_of_the_repository_has_no_idle_options(study):
    assert idle_options(study()) == []


def test_the_parts_of_a_component_stand_in_the_lock(study):
    first = plugin_lock(study(trigger="hybrid"))["trigger"]
    assert [part["name"] for part in first["parts"]] == ["rare_value", "missingness"]
    parts = [{"name": "rare_value", "value": -1.0}]
    other = plugin_lock(study(trigger="hybrid", triggers={"hybrid": {"triggers": parts}}))["trigger"]
    assert other["parts"][0]["options"]["value"] == -1.0
    assert other["parts"][0]["code"] == first["parts"][0]["code"]


def test_repairs_stand_in_the_lock_with_their_options(study):
    chosen = ["robust_scaling", "fine_pruning"]
    lock = plugin_lock(study(repairs=chosen, repair_options={"fine_pruning": {"prune": 0.5}}))["repairs"]
    assert list(lock) == ["fine_pruning", "robust_scaling"]
    assert lock["fine_pruning"]["options"]["prune"] == 0.5
