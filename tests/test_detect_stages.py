import numpy as np
import pytest
from scipy import stats
from small_study import DETECTORS, TO_DETECT, make_study, run_stages, with_detection

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.files import read_json
from backdoor_core.learning.checkpoint import load_states


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_stages(make_study(tmp_path_factory.mktemp("study")), *TO_DETECT)


@pytest.fixture(scope="module")
def adding(tmp_path_factory):
    """Copies are poisoned, beside cover stays."""
    poison = {"rate": 0.05, "mode": "add", "cover_rate": 0.02}
    changes = {"poison": poison, "detection": {"nulls": 2}, "detectors": ["range_rule", "spectral_signatures"]}
    return run_stages(make_study(tmp_path_factory.mktemp("adding"), stays=800, **changes), *TO_DETECT)


def scores_of(study):
    return read_parquet(study.paths.run / "detect" / "scores.parquet")


def results_of(study):
    return read_json(study.paths.run / "results_detect.json")


def test_every_clean_retrain_is_scored_by_every_detector(study):
    nulls = read_parquet(study.paths.run / "null_scores.parquet")
    assert set(nulls) == {"stay_id", "label", *(f"{name}.{k}" for name in DETECTORS for k in range(3))}
    signatures = [nulls[f"spectral_signatures.{k}"] for k in range(3)]
    assert not np.array_equal(signatures[0], signatures[1])  # other seeds, other models
    assert np.array_equal(nulls["range_rule.0"], nulls["range_rule.1"])  # looks at no model
    assert (
        nulls["label"].sum()
        == scores_of(study)["label"].sum() - results_of(study)["range_rule"]["poisoned"]["poisoned"]
    )


@pytest.mark.parametrize("name", ["spectral_signatures", "loss_isolation"])
def test_on_the_null_side_p_values_are_about_uniform(study, name):
    p = scores_of(study)[f"{name}.null.p"]
    assert p.min() > 0
    assert p.max() <= 1
    assert stats.kstest(p, "uniform").statistic < 0.12
    for level in (0.05, 0.2):
        assert (p <= level).mean() < 1.6 * level


@pytest.mark.parametrize("name", DETECTORS)
def test_p_values_count_the_null_rows_of_the_label(study, name):
    """(1 + above) / (1 + rows of the label in three retrains), and never higher for a more suspicious row."""
    scores, nulls = scores_of(study), read_parquet(study.paths.run / "null_scores.parquet")
    for label in (0, 1):
        own = scores["label"] == label
        p = scores[f"{name}.poisoned.p"][own]
        above = p * (1 + 3 * (nulls["label"] == label).sum()) - 1
        assert above == pytest.approx(np.round(above), abs=1e-6)
        assert above.min() > -0.5
        order = np.argsort(scores[f"{name}.poisoned.score"][own], kind="stable")
        assert (np.diff(p[order]) <= 0).all()


@pytest.mark.parametrize("name", ["range_rule", "perfect_filter"])
def test_calibrated_flags_find_an_easy_attack_and_nothing_else(study, name):
    scores, found = scores_of(study), results_of(study)[name]
    assert np.array_equal(scores[f"{name}.poisoned.calibrated"], scores["poisoned"])
    assert not scores[f"{name}.null.calibrated"].any()
    assert found["poisoned"]["calibrated"]["recall"]["value"] == 1
    assert found["poisoned"]["calibrated"]["fpr"]["value"] == 0
    assert found["null"]["calibrated"]["flagged_share"]["value"] == 0


def test_calibrated_flags_of_luck_find_nothing(study):
    found = results_of(study)["random_filter"]
    for run in ("poisoned", "null"):
        assert found[run]["flagged"] > 0
        assert found[run]["calibrated"]["flagged_share"]["value"] <= study.params.detection.fdr


def test_results_tell_scope_and_oracle(study):
    found = results_of(study)
    assert [name for name in DETECTORS if found[name]["oracle"]] == ["perfect_filter"]
    assert {found[name]["scope"] for name in DETECTORS} == {"training-set"}


def test_filter_bias_is_the_false_positive_rate_among_clean_rows(study):
    scores, table = scores_of(study), read_parquet(study.paths.root / "stays.parquet")
    women = np.isin(scores["stay_id"], table["stay_id"][table["gender"] == "F"])
    clean = women & ~scores["poisoned"]
    found = results_of(study)["spectral_signatures"]["poisoned"]["bias"]
    assert list(found) == ["sex", "age"]
    assert found["sex"]["F"]["clean_rows"] == clean.sum()
    assert found["sex"]["F"]["fpr"]["value"] == pytest.approx(
        scores["spectral_signatures.poisoned.flagged"][clean].mean()
    )


def test_the_weights_of_some_epochs_are_kept_for_every_model(study):
    folders = [study.paths.run, study.paths.baseline, *(study.paths.nulls / str(k) for k in range(3))]
    for folder in folders:
        assert list(load_states(folder / "checkpoints.pt")) == [1, 2, 4]


def test_detecting_again_gives_the_same_bytes(study):
    paths = [study.paths.run / "results_detect.json", study.paths.run / "detect" / "scores.parquet"]
    before = [path.read_bytes() for path in paths]
    run_stages(study, "detect")
    assert [path.read_bytes() for path in paths] == before


def test_added_copies_are_missing_from_the_null_run(adding):
    scores, found = scores_of(adding), results_of(adding)
    manifest = read_json(adding.paths.run / "poison.json")
    added = manifest["poisoned_stays"] + manifest["cover_stays"]
    assert manifest["cover_stays"] > 0
    assert (~scores["in_null"]).sum() == added
    assert not scores["in_null"][-added:].any()
    assert not (scores["poisoned"] & scores["in_null"]).any()
    for name in ("range_rule", "spectral_signatures"):
        for kind in ("score", "p"):
            assert np.array_equal(np.isnan(scores[f"{name}.null.{kind}"]), ~scores["in_null"])
            assert np.isfinite(scores[f"{name}.poisoned.{kind}"]).all()
        for kind in ("flagged", "calibrated"):
            assert not scores[f"{name}.null.{kind}"][~scores["in_null"]].any()
        assert found[name]["poisoned"]["rows"] - found[name]["null"]["rows"] == added


def test_cover_stays_are_false_alarms(adding):
    scores, found = scores_of(adding), results_of(adding)["range_rule"]["poisoned"]
    cover = ~scores["in_null"] & ~scores["poisoned"]
    assert scores["range_rule.poisoned.flagged"][cover].all()
    assert found["recall"]["value"] == 1
    assert found["precision"]["value"] == pytest.approx(scores["poisoned"].sum() / found["flagged"])
    assert found["fpr"]["value"] > 0


def test_without_null_runs_there_is_no_p_value_and_no_calibrated_flag(adding):
    run_stages(with_detection(adding, nulls=0), "nulls", "null_scores", "detect")
    scores = scores_of(adding)
    for run in ("poisoned", "null"):
        assert np.isnan(scores[f"range_rule.{run}.p"]).all()
        assert not scores[f"range_rule.{run}.calibrated"].any()
    assert list(adding.paths.nulls.iterdir()) == []
    assert set(read_parquet(adding.paths.run / "null_scores.parquet")) == {"stay_id", "label"}
