import dataclasses

import numpy as np
import pytest
from scipy.stats import norm, t

from backdoor_audits import Lira
from backdoor_audits.gaussians import Side, predictive
from backdoor_audits.lira import log_odds_of
from backdoor_core.contracts import References, Signals
from backdoor_core.errors import BackdoorError


def confidences(signals):
    signs = 2 * signals.labels - 1
    return signs * signals.logits, signs * signals.references.logits


def sides(values, member):
    """Lists of each record's confidences under references that saw it and under those that did not."""
    n = values.shape[1]
    return [values[member[:, i], i] for i in range(n)], [values[~member[:, i], i] for i in range(n)]


def residual_sd(lists):
    squares = sum(((one - one.mean()) ** 2).sum() for one in lists)
    return np.sqrt(squares / sum(len(one) - 1 for one in lists))


def test_online_scores_equal_the_ratio_of_scipys_densities(audit, classifier):
    signals = classifier(records=60, models=6)
    phi, references = confidences(signals)
    seen, unseen = sides(references, signals.references.member)
    expected = [
        norm.logpdf(phi[i], seen[i].mean(), residual_sd(seen))
        - norm.logpdf(phi[i], unseen[i].mean(), residual_sd(unseen))
        for i in range(60)
    ]
    assert audit(Lira, signals, mode="online", variance="residual") == pytest.approx(np.array(expected))
    own = [
        norm.logpdf(phi[i], seen[i].mean(), seen[i].std(ddof=1))
        - norm.logpdf(phi[i], unseen[i].mean(), unseen[i].std(ddof=1))
        for i in range(60)
        if min(seen[i].std(ddof=1), unseen[i].std(ddof=1)) > 0.02
    ]
    assert len(own) > 50
    assert set(np.round(own, 6)) <= set(np.round(audit(Lira, signals, variance="per_record"), 6))


def test_offline_scores_are_in_the_order_of_the_one_sided_probability(audit, classifier):
    signals = classifier(records=60, models=6)
    phi, references = confidences(signals)
    unseen = sides(references, signals.references.member)[1]
    expected = [(phi[i] - unseen[i].mean()) / residual_sd(unseen) for i in range(60)]
    scores = audit(Lira, signals, mode="offline")
    assert scores == pytest.approx(np.array(expected))
    # A two-sided density, as some tools score it, would put a record far below its references above one at them.
    assert (np.diff(norm.cdf(np.array(expected))[np.argsort(scores)]) >= 0).all()


def test_student_scores_equal_scipys_t_with_the_conjugate_posterior(audit, classifier):
    signals = classifier(records=40, models=6)
    phi, references = confidences(signals)
    seen, unseen = sides(references, signals.references.member)

    def distribution(lists, i):
        own, n = lists[i], len(lists[i])
        freedom = 4 + n - 1
        scale = (4 * residual_sd(lists) ** 2 + ((own - own.mean()) ** 2).sum()) / freedom
        return t(freedom, own.mean(), np.sqrt(scale * (1 + 1 / n)))

    online = [distribution(seen, i).logpdf(phi[i]) - distribution(unseen, i).logpdf(phi[i]) for i in range(40)]
    assert audit(Lira, signals, variance="student") == pytest.approx(np.array(online))
    below = np.array([distribution(unseen, i).cdf(phi[i]) for i in range(40)])
    offline = audit(Lira, signals, mode="offline", variance="student")
    assert offline == pytest.approx(np.log(below) - np.log1p(-below))


def test_a_heavy_prior_gives_the_common_variance_and_scores_do_not_saturate(audit, classifier):
    signals = classifier(records=50, models=6)
    heavy = audit(Lira, signals, mode="offline", variance="student", prior=1e9)
    common = audit(Lira, signals, mode="offline", variance="residual")
    assert (np.argsort(heavy) == np.argsort(common)).all()
    far = dataclasses.replace(signals, logits=signals.logits + (2 * signals.labels - 1) * 500 * np.arange(1, 51))
    for form in ("residual", "student"):
        assert len(np.unique(audit(Lira, far, mode="offline", variance=form))) == 50


def test_the_residual_variance_leaves_out_how_far_records_differ(classifier):
    # The raw standard deviation over all records, which some tools take, is far larger; and one side's variance is
    # not the other's.
    signals = classifier(records=4000, models=8, difficulty=5.0)
    references = confidences(signals)[1]
    member = signals.references.member
    stretched = np.where(member, 3 * references, references)
    assert Side.of(stretched, ~member).common == pytest.approx(1, rel=0.05)
    assert Side.of(stretched, member).common == pytest.approx(3, rel=0.05)
    assert references[~member].std() > 4


def test_the_variance_is_by_record_from_64_models_on(audit, classifier):
    for models, form in ((62, "residual"), (64, "per_record")):
        signals = classifier(records=30, models=models)
        assert (audit(Lira, signals) == audit(Lira, signals, variance=form)).all()
    offline = classifier(records=30, models=32, outside=True)
    assert (audit(Lira, offline) == audit(Lira, offline, variance="per_record")).all()


def test_one_logit_is_exact_where_a_probability_would_saturate(audit):
    # Both probabilities are 1 in double precision; the confidences are 40 and 800.
    member = np.zeros((2, 2), bool)
    logits = np.array([[38.0, 790.0], [39.0, 791.0]])
    references = References(member, np.zeros((2, 2)), logits * [1, -1])
    signals = Signals(np.arange(2), logits=np.array([40.0, -800.0]), labels=np.array([1, 0]), references=references)
    scores = audit(Lira, signals, variance="residual")
    assert scores == pytest.approx(np.array([1.5, 9.5]) / np.sqrt(0.5))


def test_confidence_from_the_loss_equals_the_logit(audit, classifier):
    phi = np.array([-700.0, -40.0, -1.0, 0.0, 1e-9, 3.0, 40.0, 600.0])
    assert log_odds_of(np.logaddexp(0, -phi)) == pytest.approx(phi)
    assert np.isfinite(log_odds_of(np.array([0.0, 5e-324, 1e4]))).all()
    signals = classifier(records=200)
    assert audit(Lira, signals, statistic="loss") == pytest.approx(audit(Lira, signals), rel=1e-9)


def test_one_reference_gives_the_plain_difference_and_two_complementary_ones_too(audit, classifier):
    for models, outside in ((1, True), (2, False)):
        signals = classifier(records=50, models=models, outside=outside)
        phi, references = confidences(signals)
        expected = phi - references[(~signals.references.member).argmax(axis=0), np.arange(50)]
        assert audit(Lira, signals) == pytest.approx(expected)
    with pytest.raises(BackdoorError, match="mode online with 2 references leaves no variance"):
        audit(Lira, signals, mode="online")


def test_references_that_agree_give_finite_scores(audit, classifier):
    signals = classifier(records=50, models=8)
    same = dataclasses.replace(signals.references, logits=np.tile(signals.logits, (8, 1)))
    for form in ("residual", "per_record", "student"):
        scores = audit(Lira, dataclasses.replace(signals, references=same), mode="offline", variance=form)
        assert scores == pytest.approx(np.zeros(50), abs=1e-3)
    one_quiet = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    quiet = predictive(Side.of(one_quiet, np.ones((3, 2), bool)), "per_record", 4.0)
    assert quiet.scale == pytest.approx([0.01 * np.sqrt(2 / 4), 1.0])


def test_references_without_log_odds_are_refused(audit, classifier):
    signals = classifier(records=20)
    bare = dataclasses.replace(signals, references=dataclasses.replace(signals.references, logits=None))
    with pytest.raises(BackdoorError, match="the references have no log-odds; set statistic to loss"):
        audit(Lira, bare)
    audit(Lira, bare, statistic="loss")
