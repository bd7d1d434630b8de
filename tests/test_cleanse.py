import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from small_study import DETECTORS, TO_DETECT, make_study, run_stages, with_detection

from backdoor_core.cohort.parquet import read_parquet, write_parquet
from backdoor_core.detection.filters import leaves_enough, random_filter
from backdoor_core.files import read_json
from backdoor_core.report import attack_charts, charts, plausibility_charts

FIGURES = {"asr", "asr_baseline", "asr_lift", "auroc", "auprc", "ece"}


# ----------------------------------------------------------------------------------------------------- filters
@st.composite
def flagged_rows(draw):
    n = draw(st.integers(1, 60))
    return draw(hnp.arrays(np.bool_, n)), draw(hnp.arrays(np.int8, n, elements=st.integers(0, 1)))


@given(flagged_rows(), st.integers(0, 5))
def test_a_random_filter_takes_as_many_rows_of_each_label(rows, seed):
    flagged, labels = rows
    drawn = random_filter(flagged, labels, np.random.default_rng(seed))
    assert drawn.dtype == np.bool_
    for label in (0, 1):
        assert drawn[labels == label].sum() == flagged[labels == label].sum()


def test_a_random_filter_draws_every_row_as_often():
    flagged, labels = np.arange(20) < 5, np.zeros(20, dtype=np.int8)
    rng = np.random.default_rng(0)
    share = np.mean([random_filter(flagged, labels, rng) for _ in range(2000)], axis=0)
    assert np.abs(share - 0.25).max() < 0.05  # five standard deviations


@given(flagged_rows())
def test_enough_is_left_where_no_label_is_lost(rows):
    flagged, labels = rows
    assert leaves_enough(flagged, labels) == (set(labels[~flagged]) == set(labels))


# --------------------------------------------------------------------------------------------------- the stage
@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_stages(make_study(tmp_path_factory.mktemp("study")), *TO_DETECT, "evaluate", "cleanse")


@pytest.fixture(scope="module")
def results(study):
    return read_json(study.paths.run / "results_cleanse.json")


def test_undefended_is_the_model_that_was_evaluated(study, results):
    evaluated = read_json(study.paths.run / "results_eval.json")
    expected = {**evaluated["attack"], **evaluated["clean"]}
    figures = results["undefended"]["figures"]
    assert set(figures) == FIGURES
    assert figures == {name: expected[name] for name in FIGURES}


def test_perfect_removal_undoes_the_attack_and_its_random_control_does_not(results):
    before = results["undefended"]["figures"]["asr_lift"]["value"]
    assert before > 0.4
    for name in ("range_rule", "perfect_filter"):
        entry = results["filters"][name]
        assert entry["figures"] == results["filters"]["perfect"]["figures"]  # the same stays, the same model
        assert abs(entry["figures"]["asr_lift"]["value"]) < 0.1
        assert entry["random"]["asr_lift"]["value"] > 0.7 * before
        assert entry["removed"] == entry["poisoned_removed"] > 0
    assert results["filters"]["perfect"]["random"] is None


def test_counts_are_those_of_the_calibrated_flags(study, results):
    assert results["flags"] == "calibrated"
    scores = read_parquet(study.paths.run / "detect" / "scores.parquet")
    assert set(results["filters"]) == {"perfect", *DETECTORS}
    for name in DETECTORS:
        flags = scores[f"{name}.poisoned.calibrated"]
        entry = results["filters"][name]
        assert (entry["removed"], entry["poisoned_removed"]) == (flags.sum(), (flags & scores["poisoned"]).sum())


def test_a_filter_that_flags_nothing_leaves_the_undefended_model(results):
    idle = [entry for entry in results["filters"].values() if not entry["removed"]]
    assert idle
    for entry in idle:
        assert entry["figures"] == entry["random"] == results["undefended"]["figures"]


def test_without_null_runs_own_rules_filter_and_no_label_may_be_lost(study):
    path = study.paths.run / "detect" / "scores.parquet"
    before, scores = path.read_bytes(), read_parquet(path)
    write_parquet(path, {**scores, "range_rule.poisoned.flagged": scores["label"] == 1})
    try:
        run_stages(with_detection(study, nulls=0), "cleanse")
    finally:
        path.write_bytes(before)
    found = read_json(study.paths.run / "results_cleanse.json")
    assert found["flags"] == "own rule"
    assert found["filters"]["random_filter"]["removed"] == scores["random_filter.poisoned.flagged"].sum() > 0
    lost = found["filters"]["range_rule"]
    assert lost["figures"] is None
    assert "every stay of a label" in lost["note"]
    run_stages(study, "cleanse")


def test_cleansing_again_gives_the_same_bytes(study):
    path = study.paths.run / "results_cleanse.json"
    before = path.read_bytes()
    run_stages(study, "cleanse")
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------- through to the page
@pytest.fixture
def plain_charts(monkeypatch):
    """Only the charts of detectors and filters are drawn; the others have tests of their own."""
    for module in (attack_charts, charts, plausibility_charts):
        monkeypatch.setattr(module, "chart", lambda name, *_, **__: f"<svg><!-- {name} --></svg>")


def page_of(study):
    return (study.paths.run / "report.html").read_text(encoding="utf-8")


def test_added_copies_and_cover_stays_run_through_to_the_page(tmp_path, plain_charts):
    poison = {"rate": 0.05, "mode": "add", "cover_rate": 0.02}
    changes = {"poison": poison, "detection": {"nulls": 2}, "detectors": ["range_rule", "loss_isolation"]}
    study = make_study(tmp_path, stays=800, **changes)
    page = page_of(run_stages(study, *TO_DETECT, "evaluate", "cleanse", "explain", "audit", "report"))
    manifest = read_json(study.paths.run / "poison.json")
    poisoned, cover = manifest["poisoned_stays"], manifest["cover_stays"]
    filters = read_json(study.paths.run / "results_cleanse.json")["filters"]
    assert filters["perfect"]["removed"] == poisoned
    assert filters["range_rule"]["poisoned_removed"] == poisoned
    assert poisoned < filters["range_rule"]["removed"] <= poisoned + cover  # cover stays carry the trigger too
    assert f"poisoned: {poisoned} of {poisoned}" in page
    assert f"the same stays, clean ({poisoned})" in page
    assert f"other rows ({manifest['training_stays'] + cover})" in page
    text = re.sub(r"<[^>]*>", " ", page)
    assert not re.search(r"\b(None|nan|NaN)\b", text)


def test_a_clean_study_runs_through_to_the_page(tmp_path, plain_charts):
    changes = {"poison": {"rate": 0}, "detection": {"nulls": 0}, "detectors": ["range_rule", "random_filter"]}
    study = make_study(tmp_path, stays=600, **changes)
    page = page_of(run_stages(study, *TO_DETECT, "evaluate", "cleanse", "explain", "audit", "report"))
    found = read_json(study.paths.run / "results_cleanse.json")
    assert found["filters"]["perfect"]["removed"] == found["filters"]["range_rule"]["removed"] == 0
    assert found["filters"]["random_filter"]["removed"] > 0
    assert found["undefended"]["figures"]["asr_lift"]["value"] == 0  # the very same model as the twin
    for words in (
        "flags nothing: the undefended model",
        "there is no attack to undo",
        "<code>detection.nulls</code> is 0",
    ):
        assert words in page
