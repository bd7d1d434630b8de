"""What holds for every audit: planted leaks are found as theory says, and nothing is found where nothing is."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from backdoor_audits import (
    Blind,
    Lira,
    LossThreshold,
    MinK,
    MinKPlusPlus,
    Neighborhood,
    Reference,
    Rmia,
    Untrained,
    ZlibEntropy,
)
from backdoor_core.auditing import AuditCase
from backdoor_core.component_check import defect
from backdoor_core.contracts import Context, WithheldError
from backdoor_core.errors import BackdoorError
from backdoor_core.privacy.case import run_audit

ON_CLASSIFIERS = [
    (LossThreshold, {}),
    (Reference, {}),
    *((Lira, {"mode": mode, "variance": form}) for mode in ("online", "offline") for form in ("residual", "student")),
    (Lira, {"variance": "per_record"}),
    (Lira, {"statistic": "loss"}),
    (Rmia, {"mode": "online"}),
    (Rmia, {"mode": "offline"}),
    (Rmia, {"temperature": 2.0}),
]
ON_TEXTS = [
    (LossThreshold, {}),
    (Reference, {}),
    (MinK, {}),
    (MinKPlusPlus, {}),
    (ZlibEntropy, {}),
    (ZlibEntropy, {"loss": "sum"}),
    (Neighborhood, {}),
]
CONTROLS = [Blind, Untrained]
EVERY = list(dict.fromkeys([*(kind for kind, _ in ON_CLASSIFIERS + ON_TEXTS), *CONTROLS]))
classifiers = pytest.mark.parametrize(("kind", "options"), ON_CLASSIFIERS, ids=str)
texts = pytest.mark.parametrize(("kind", "options"), ON_TEXTS, ids=str)


@pytest.mark.parametrize("kind", EVERY)
def test_the_class_is_a_component_and_only_controls_may_see_the_truth(kind):
    assert defect("audit", kind) is None
    assert kind.controls == (kind in CONTROLS)
    assert ("truth" in kind.requires) <= kind.controls
    assert all(field.description for field in kind.Options.model_fields.values())


# ------------------------------------------------------------------------------------------- planted Gaussians
def test_planted_gaussians_without_difficulty_give_the_loss_their_known_auc(audit, classifier, auc):
    signals = classifier(difficulty=0.0)
    found = auc(audit(LossThreshold, signals), signals.truth)
    assert found.low <= norm.cdf(1.5 / np.sqrt(2)) <= found.high
    assert found.high - found.low < 0.04


@pytest.mark.parametrize(("models", "outside"), [(8, False), (2, False), (1, True), (5, True)])
@pytest.mark.parametrize("form", ["residual", "student", "auto"])
def test_planted_gaussians_give_offline_lira_their_known_auc(audit, classifier, auc, models, outside, form):
    signals = classifier(models=models, outside=outside)
    unseen = models if outside else models // 2
    # Target and the mean of n references, which did not see the record, differ by a variance of 1 + 1 / n.
    expected = norm.cdf(1.5 / np.sqrt(2 * (1 + 1 / unseen)))
    found = auc(audit(Lira, signals, mode="offline", variance=form), signals.truth)
    if form == "student" and unseen > 1:  # estimated variances cost a little
        assert expected - 0.03 < found.value < found.high
    else:
        assert found.low <= expected <= found.high
    assert auc(audit(LossThreshold, signals), signals.truth).high < expected


def test_planted_gaussians_give_online_lira_the_auc_of_the_best_test(audit, classifier, auc):
    signals = classifier(models=64, seed=1)
    best = norm.cdf(1.5 / np.sqrt(2))
    for form in ("residual", "student", "per_record", "auto"):
        scores = audit(Lira, signals, variance=form)
        # Three standard errors, and 0.004 for the means being estimated from 32 references.
        assert auc(scores, signals.truth).value == pytest.approx(best, abs=0.022), form
    assert auc(audit(LossThreshold, signals), signals.truth).value < best - 0.1


@pytest.mark.parametrize(("models", "outside"), [(8, False), (1, True)])
def test_planted_gaussians_give_the_calibrated_loss_its_known_auc(audit, classifier, auc, models, outside):
    signals = classifier(models=models, outside=outside)
    rng = np.random.default_rng(1)
    center, member = 2 * rng.normal(size=3000), signals.references.member
    references = center - 1.5 * member + rng.normal(size=(models, 3000))
    planted = dataclasses.replace(
        signals,
        loss=center - 1.5 * signals.truth + rng.normal(size=3000),
        references=dataclasses.replace(signals.references, loss=references),
    )
    unseen = models if outside else models // 2
    found = auc(audit(Reference, planted), planted.truth)
    assert found.low <= norm.cdf(1.5 / np.sqrt(2 * (1 + 1 / unseen))) <= found.high


@pytest.mark.parametrize("kind", [MinK, MinKPlusPlus])
def test_planted_tokens_give_the_whole_text_its_known_auc(audit, language, auc, kind):
    signals = language(tokens=20, shift=0.3, records=3000)
    tokens = signals.tokens
    if kind is MinK:  # one distribution for all tokens, so that the plain mean has a known one too
        standard = (tokens.log_prob - tokens.mean) / tokens.sd
        signals = dataclasses.replace(signals, tokens=dataclasses.replace(tokens, log_prob=standard))
    found = auc(audit(kind, signals, k=1.0), signals.truth)
    assert found.low <= norm.cdf(0.3 * np.sqrt(20) / np.sqrt(2)) <= found.high


def test_planted_neighbors_give_their_known_auc(audit, language, auc):
    signals = language(records=3000, neighbors=5)
    found = auc(audit(Neighborhood, signals), signals.truth)
    assert found.low <= norm.cdf(0.1 / (np.sqrt(2) * 0.1 / np.sqrt(5))) <= found.high


def test_texts_of_one_size_are_ranked_by_their_loss(audit, language):
    signals = dataclasses.replace(language(), texts=["the same text"] * 1000)
    order = np.argsort(-signals.loss)
    for loss in ("mean", "sum"):
        assert (np.diff(audit(ZlibEntropy, signals, loss=loss)[order]) >= 0).all()


# ------------------------------------------------------------------------------------------------ nothing there
@classifiers
def test_permuted_membership_is_at_chance(audit, classifier, auc, kind, options):
    signals = classifier()
    permuted = np.random.default_rng(5).permutation(signals.truth)
    found = auc(audit(kind, signals, **options), permuted)
    assert found.low <= 0.5 <= found.high


@texts
def test_permuted_membership_of_texts_is_at_chance(audit, language, auc, kind, options):
    signals = language(records=3000)
    found = auc(audit(kind, signals, **options), np.random.default_rng(6).permutation(signals.truth))
    assert found.low <= 0.5 <= found.high


@classifiers
def test_a_model_outside_scored_as_the_target_is_at_chance(audit, classifier, auc, kind, options):
    signals = classifier(seed=3)
    outsider = classifier(seed=3, distance=0.0)  # the same draws, without the effect of training
    signals = dataclasses.replace(signals, loss=outsider.loss, logits=outsider.logits)
    found = auc(audit(kind, signals, **options), signals.truth)
    assert found.low <= 0.5 <= found.high


def test_an_untrained_target_is_at_chance_and_a_leak_of_its_loss_is_not(audit, classifier, auc):
    signals = classifier()
    found = auc(audit(Untrained, signals), signals.truth)
    assert found.low <= 0.5 <= found.high
    shifted = dataclasses.replace(signals, untrained_loss=signals.untrained_loss - signals.truth)
    assert auc(audit(Untrained, shifted), signals.truth).low > 0.6


# --------------------------------------------------------------------------------------------- pure functions
@classifiers
def test_the_order_of_records_references_and_population_does_not_matter(audit, classifier, take, kind, options):
    signals = classifier(records=300)
    rng = np.random.default_rng(8)
    order, models, there = rng.permutation(300), rng.permutation(8), rng.permutation(1500)
    moved = take(signals, order)
    references, population = moved.references, moved.population
    moved = dataclasses.replace(
        moved,
        references=type(references)(references.member[models], references.loss[models], references.logits[models]),
        population=type(population)(
            population.loss[there],
            population.reference_loss[models][:, there],
            population.labels[there],
            population.logits[there],
            population.reference_logits[models][:, there],
        ),
    )
    expected = audit(kind, signals, **options)[order]
    assert audit(kind, moved, **options) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@texts
def test_the_order_of_texts_does_not_matter(audit, language, take, kind, options):
    signals = language(records=200)
    order = np.random.default_rng(9).permutation(200)
    expected = audit(kind, signals, **options)[order]
    assert audit(kind, take(signals, order), **options) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("kind", "options"), [*ON_CLASSIFIERS, (Blind, {}), (Untrained, {})], ids=str)
def test_signals_stay_untouched_and_equal_calls_give_equal_scores(audit, classifier, kind, options):
    signals = classifier(records=200)
    before = copy.deepcopy(signals)
    first = audit(kind, signals, **options)
    assert (audit(kind, signals, **options) == first).all()
    np.testing.assert_equal(dataclasses.asdict(signals), dataclasses.asdict(before))


@classifiers
def test_equal_records_get_equal_scores_and_one_membership_is_no_obstacle(audit, classifier, take, kind, options):
    signals = classifier(records=100)
    twice = take(signals, np.repeat(np.arange(100), 2))
    scores = audit(kind, dataclasses.replace(twice, truth=np.ones(200, bool)), **options)
    assert (scores[::2] == scores[1::2]).all()


@classifiers
def test_an_audit_uses_no_more_than_it_declares(classifier, kind, options):
    made = kind(kind.Options(**options), Context(Path()))
    signals = classifier(records=100)
    for missing in made.requires:
        case = AuditCase(signals, np.random.default_rng(0), made.requires - {missing})
        with pytest.raises(WithheldError, match=missing):
            made.score(case)


@pytest.mark.parametrize(("kind", "options"), [(Reference, {}), (Lira, {}), (Rmia, {})], ids=str)
def test_a_record_in_every_training_is_refused(audit, classifier, kind, options):
    signals = classifier(records=100)
    signals.references.member[:, 7] = True
    with pytest.raises(BackdoorError, match="1 of 100 records were in the training of every reference"):
        audit(kind, signals, **options)


@pytest.mark.parametrize("kind", [Lira, Rmia])
def test_online_needs_references_that_saw_each_record(audit, classifier, kind):
    signals = classifier(records=100)
    signals.references.member[:, 7] = False
    with pytest.raises(BackdoorError, match="1 of 100 records were in the training of no reference"):
        audit(kind, signals, mode="online")
    assert (audit(kind, signals) == audit(kind, signals, mode="offline")).all()


def test_the_runner_takes_the_bundled_audits(classifier):
    case = AuditCase(classifier(records=50), np.random.default_rng(0))
    made = LossThreshold(LossThreshold.Options(), Context(Path()))
    assert (run_audit(made, case) == -case.signals.loss).all()
