"""The stages `references` and `audit` on a small study."""

import numpy as np
import pytest
from small_study import make_study, run_stages

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.stages.audited import audited_stays
from backdoor_core.stages.data import load_parts
from backdoor_core.study import check_compatible, plugin_lock

CHANGES = {
    "audits": ["loss_threshold", "rmia", "lira", "reference", "blind", "untrained"],
    "audit": {"references": 4},
    "detectors": [],
}
BY_HEART = {"learning_rate": 0.3, "max_leaf_nodes": 60, "min_samples_leaf": 2, "n_iter_no_change": 500, "max_iter": 150}
"""Trees that learn their training stays by heart."""
TO_AUDIT = ("cohort", "splits", "baseline", "poison", "train", "references", "audit")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_stages(make_study(tmp_path_factory.mktemp("audit"), stays=800, **CHANGES), *TO_AUDIT)


def results(study):
    return read_json(study.paths.run / "results_audit.json")


def test_every_audit_is_judged_on_both_models_without_the_poisoned_stays(study):
    found = results(study)
    assert list(found["audits"]) == CHANGES["audits"]
    manifest = read_json(study.paths.run / "poison.json")
    parts = load_parts(study)
    assert found["members"] == len(parts.splits.train) - len(manifest["stays"])
    # Of the others as large a share of those that are alike, or what the attacker left would differ from them.
    dead, taken = parts.train.label == 1, len(manifest["stays"])
    gone = round((parts.test.label == 0).sum() * taken / (~dead).sum())
    assert gone > 0
    assert found["nonmembers"] == len(parts.splits.test) - gone
    scores = read_parquet(study.paths.run / "audit_scores.parquet")
    assert not np.isin(scores["stay_id"], [stay["stay_id"] for stay in manifest["stays"]]).any()
    assert scores["member"].sum() == found["members"]
    assert scores["rmia.poisoned"].shape == scores["stay_id"].shape


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory):
    changes = {"model": "gbdt", "models": {"gbdt": BY_HEART}, "audits": ["loss_threshold", "rmia", "lira", "blind"]}
    done = make_study(tmp_path_factory.mktemp("by_heart"), stays=800, **{**CHANGES, **changes})
    return run_stages(done, *TO_AUDIT)


def test_a_model_that_learned_its_stays_by_heart_leaks_them(by_heart):
    audits = results(by_heart)["audits"]
    for name in ("loss_threshold", "rmia", "lira"):
        for side in ("poisoned", "baseline"):
            assert audits[name][side]["auc"]["low"] > 0.6
            assert audits[name][side]["verdict"]["word"] == "leaks"
    assert results(by_heart)["loss"]["baseline"]["gap"] > 0.2


def test_references_know_their_own_half_better(by_heart):
    folder = by_heart.paths.run / "references"
    member, logits = np.load(folder / "member.npy"), np.load(folder / "logits.npy")
    label = audited_stays(load_parts(by_heart)).label
    margin = np.where(label == 1, 1, -1) * logits
    assert all(margin[k][member[k]].mean() > margin[k][~member[k]].mean() + 0.5 for k in range(4))


def test_the_controls_are_at_a_half_and_have_no_verdict(study):
    audits = results(study)["audits"]
    for name in ("blind", "untrained"):
        assert audits[name]["control"]
        auc = audits[name]["poisoned"]["auc"]
        assert auc["low"] - 0.02 <= 0.5 <= auc["high"] + 0.02
        assert audits[name]["poisoned"]["verdict"] is None
    scores = read_parquet(study.paths.run / "audit_scores.parquet")
    assert np.array_equal(scores["blind.poisoned"], scores["blind.baseline"])  # it sees no model


def test_references_are_trained_on_complementary_halves_of_patients(study):
    folder = study.paths.run / "references"
    member, logits = np.load(folder / "member.npy"), np.load(folder / "logits.npy")
    stays = audited_stays(load_parts(study))
    assert member.shape == logits.shape == (4, len(stays.label))
    assert np.array_equal(member[0], ~member[1])
    for patient in np.unique(stays.patients)[:50]:
        assert len(np.unique(member[:, stays.patients == patient], axis=1).T) == 1


def test_poisoned_stays_are_audited_as_the_model_met_them(study):
    found = results(study)["poisoned_stays"]
    manifest = read_json(study.paths.run / "poison.json")
    assert found["members"] == manifest["poisoned_stays"]
    assert 0 <= found["poisoned"]["value"] <= 1
    assert found["baseline"]["low"] - 0.1 <= 0.5 <= found["baseline"]["high"] + 0.1


def test_the_same_bytes_twice(study):
    names = ("results_audit.json", "audit_scores.parquet", "references/logits.npy")
    before = [(study.paths.run / name).read_bytes() for name in names]
    run_stages(study, "references", "audit")
    assert [(study.paths.run / name).read_bytes() for name in names] == before


def test_references_wait_for_an_audit_that_wants_them(tmp_path):
    changes = {**CHANGES, "audits": ["loss_threshold", "blind"]}
    study = make_study(tmp_path, stays=400, **changes)
    assert study.params.audit.references == 4
    assert plugin_lock(study)["references"] == 0
    run_stages(study, *TO_AUDIT)
    assert np.load(study.paths.run / "references" / "member.npy").shape[0] == 0
    assert results(study)["references"] == 0


def test_the_results_tell_how_many_references_were_trained(study):
    assert results(study)["references"] == len(np.load(study.paths.run / "references" / "member.npy")) == 4


def test_a_study_without_audits_says_so(tmp_path):
    study = run_stages(make_study(tmp_path, stays=400, audits=[]), *TO_AUDIT)
    assert results(study) == {"audits": {}, "note": "the study chose no audit"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"audits": ["min_k"]}, "audit min_k needs token_logprobs, which models of stays do not have"),
        ({"audits": ["rmia"], "audit": {"references": 0}}, "audit rmia needs reference models; set audit.references"),
        ({"audits": ["untrained"], "model": "gbdt", "detectors": []}, "audit untrained needs an untrained model"),
    ],
)
def test_an_audit_that_cannot_run_is_refused_in_one_line(tmp_path, changes, problem):
    with pytest.raises(BackdoorError, match=problem):
        check_compatible(make_study(tmp_path, **{**changes, "models": {}}))


def test_an_odd_number_of_references_is_refused(tmp_path):
    with pytest.raises(BackdoorError, match="3 is odd"):
        make_study(tmp_path, audit={"references": 3})


def test_where_copies_are_poisoned_every_stay_is_judged(tmp_path):
    changes = {**CHANGES, "audits": ["loss_threshold", "blind"], "poison": {"mode": "add"}, "train": {"epochs": 1}}
    study = run_stages(make_study(tmp_path, stays=400, **changes), *TO_AUDIT)
    found, parts = results(study), load_parts(study)
    assert read_json(study.paths.run / "poison.json")["poisoned_stays"] > 0
    assert (found["members"], found["nonmembers"]) == (len(parts.splits.train), len(parts.splits.test))
