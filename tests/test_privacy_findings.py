import numpy as np
import pytest
from scipy.stats import norm

from backdoor_core.privacy.findings import audit_findings, difference, gap
from backdoor_core.privacy.judge import Run, resamples
from backdoor_core.privacy.signals import label_loss, raw_features
from backdoor_core.ranking import auroc
from backdoor_core.testing.views import events_view, series_view, table_view

N = 600
MEMBER = np.arange(N) < 400
PATIENTS = np.arange(N)


def found(shift=1.0, blind_shift=0.0, **more):
    rng = np.random.default_rng(4)

    def scores(by):
        return rng.normal(size=N) + by * MEMBER

    given = {
        "loss_threshold": {"poisoned": scores(shift), "baseline": scores(0.0)},
        "blind": dict.fromkeys(("poisoned", "baseline"), scores(blind_shift)),
        **more,
    }
    weights = resamples([Run(given["loss_threshold"]["poisoned"], MEMBER, PATIENTS)], 200, np.random.default_rng(1))
    groups = [("sex", "F", np.arange(N) % 2 == 0), ("unit", "rare", np.arange(N) < 10)]
    return audit_findings(given, frozenset({"blind", "untrained"}), MEMBER, PATIENTS, weights, groups), given


def test_a_planted_leak_of_the_poisoned_model_alone_is_told():
    answer, given = found()
    loss = answer["loss_threshold"]
    expected = norm.cdf(1 / np.sqrt(2))
    assert loss["poisoned"]["auc"]["low"] < expected < loss["poisoned"]["auc"]["high"]
    assert (loss["poisoned"]["verdict"]["word"], loss["baseline"]["verdict"]["word"]) == ("leaks", "none shown")
    both = [auroc(given["loss_threshold"][side], MEMBER) for side in ("poisoned", "baseline")]
    assert loss["difference"]["value"] == pytest.approx(both[0] - both[1])
    assert loss["difference"]["low"] > 0


def test_the_verdict_is_withheld_where_members_differ_in_themselves():
    answer, _ = found(blind_shift=1.0)
    assert answer["loss_threshold"]["poisoned"]["verdict"]["word"] == "withheld"
    assert answer["blind"]["poisoned"]["verdict"] is None
    assert answer["blind"]["control"]
    assert answer["blind"]["poisoned"]["widened"]["low"] < answer["blind"]["poisoned"]["auc"]["low"]


def test_without_the_blind_control_there_is_no_verdict():
    scores = {"loss_threshold": dict.fromkeys(("poisoned", "baseline"), np.arange(N, dtype=float))}
    weights = resamples([Run(scores["loss_threshold"]["poisoned"], MEMBER, PATIENTS)], 100, np.random.default_rng(1))
    answer = audit_findings(scores, frozenset(), MEMBER, PATIENTS, weights, [])
    assert answer["loss_threshold"]["poisoned"]["verdict"]["word"] == "withheld"


def test_an_untrained_model_that_is_not_at_a_half_is_a_caution():
    shifted = {"poisoned": np.arange(N, 0, -1.0), "baseline": np.random.default_rng(3).normal(size=N)}
    answer, _ = found(untrained=shifted)
    assert answer["loss_threshold"]["poisoned"]["verdict"]["cautions"]
    assert not any("untrained" in text for text in answer["loss_threshold"]["baseline"]["verdict"]["cautions"])


def test_a_subgroup_has_its_own_auc_and_a_small_one_none():
    answer, given = found()
    women, rare = answer["loss_threshold"]["subgroups"]
    rows = np.arange(N) % 2 == 0
    assert women["poisoned"]["value"] == pytest.approx(auroc(given["loss_threshold"]["poisoned"][rows], MEMBER[rows]))
    assert (women["members"], women["nonmembers"]) == (200, 100)
    assert rare["poisoned"] is None
    assert "fewer than 20" in rare["why"]


def test_equal_scores_of_two_models_differ_by_nothing():
    scores = np.random.default_rng(0).normal(size=N)
    weights = resamples([Run(scores, MEMBER, PATIENTS)], 100, np.random.default_rng(1))
    same = difference({"poisoned": scores, "baseline": scores}, MEMBER, PATIENTS, weights)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_loss_is_the_cross_entropy_of_the_label():
    logits, labels = np.array([0.3, -2.0, 800.0, -800.0]), np.array([1, 0, 1, 1])
    p = 1 / (1 + np.exp(-logits[:2]))
    assert label_loss(logits, labels)[:2] == pytest.approx([-np.log(p[0]), -np.log(1 - p[1])])
    assert label_loss(logits, labels)[2:].tolist() == [0, 800]
    assert label_loss(np.stack([logits, -logits]), labels).shape == (2, 4)


def test_the_gap_is_of_means():
    loss = np.where(MEMBER, 0.2, 0.5)
    assert gap(loss, MEMBER) == pytest.approx({"members": 0.2, "nonmembers": 0.5, "gap": 0.3})
    assert gap(loss, np.ones(N, dtype=bool))["gap"] is None


def test_the_blind_control_reads_raw_features_of_every_view():
    table = table_view(5)
    assert np.array_equal(raw_features(table), table.values, equal_nan=True)
    series = series_view(5)
    features = series.values.shape[2]
    found = raw_features(series)
    measured = np.ma.masked_invalid(series.values.astype(np.float64))
    assert np.allclose(found[:, :features], measured.mean(axis=1).filled(np.nan), equal_nan=True)
    assert np.array_equal(found[:, features:], (series.counts > 0).sum(axis=1))
    events = events_view(5)
    counts = np.expm1(raw_features(events))
    assert counts.sum() == pytest.approx(len(events.code))
    assert counts[0, events.code[0]] >= 1
