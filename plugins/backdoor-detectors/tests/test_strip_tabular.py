from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Context, SeriesView, Trusted
from backdoor_core.detection.calibrate import Scored, flag, p_values
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.views import events_view, series_view
from backdoor_detectors.strip_tabular import StripTabular, StripTabularOptions, _donors, _kept_features, entropy

WIDTH, TRIGGER = 8, 50.0


def backdoored(view):
    """The sum of the features decides, unless the first one is the trigger."""
    values = np.nan_to_num(view.values).astype(np.float64)
    return np.where(values[:, 0] == TRIGGER, 12.0, values[:, 1:].sum(axis=1) - 1)


def poisoned(rng, table, rows=600, share=0.03):
    values = rng.normal(size=(rows, WIDTH))
    truth = np.arange(rows) < share * rows
    values[truth, 0] = TRIGGER
    return table(values), truth


def test_the_entropy_is_that_of_scipy():
    logits = np.array([-30.0, -3.0, 0.0, 0.1, 8.0])
    p = expit(logits)
    assert entropy(logits) == pytest.approx(scipy_entropy([p, expit(-logits)]), rel=1e-9)
    assert (entropy(np.array([-2000.0, 2000.0])) == 0).all()


def test_models_that_spread_the_ratios_by_other_amounts_are_compared_after_standardizing():
    """A clean model whose ratios lie twice as far from 1 must not put its rows above those of null runs."""
    rng = np.random.default_rng(20)
    labels = np.zeros(400, int)
    run, *nulls = (Scored(-1 + spread * rng.normal(size=400), labels) for spread in (0.2, 0.1, 0.1, 0.1))
    assert flag(p_values(run, nulls, absolute=True), labels, 0.05).any()
    assert not flag(p_values(run, nulls, StripTabular.absolute), labels, 0.05).any()


def test_a_trigger_that_holds_the_prediction_ranks_first(detect_with, table):
    view, truth = poisoned(np.random.default_rng(1), table)
    result = detect_with(StripTabular, view, np.zeros(600, int), logits=backdoored, frr=0.03)
    assert roc_auc_score(truth, result.scores) > 0.95
    clean = detect_with(
        StripTabular, view, np.zeros(600, int), logits=lambda v: v.values[:, 1:].sum(axis=1) - 1, frr=0.03
    )
    assert 0.3 < roc_auc_score(truth, clean.scores) < 0.7


def test_scores_equal_a_plain_restatement(detect_with, table):
    view, _ = poisoned(np.random.default_rng(2), table, rows=25)
    result = detect_with(StripTabular, view, np.zeros(25, int), seed=5, copies=6, logits=backdoored)
    rng = np.random.default_rng(5)
    kept = _kept_features(WIDTH, StripTabularOptions(copies=6), rng)
    total = np.zeros(25)
    for keep in kept:
        donors = _donors(np.arange(25), 25, True, rng)
        for row in range(25):
            copy = [view.values[row, j] if keep[j] else view.values[donors[row], j] for j in range(WIDTH)]
            p = expit(backdoored(view.take([row]).with_values(np.array([copy], np.float32)))[0])
            total[row] += scipy_entropy([p, 1 - p])
    positive = backdoored(view) > 0
    median = np.where(positive, np.median(total[positive]), np.median(total[~positive])) / 6
    assert -result.scores == pytest.approx(total / 6 / median, rel=1e-6)


def test_each_side_is_measured_by_its_own_median_2(detect_with, table):
    # A clean model that is certain of the common label: all rows of it would look like poison.
    rng = np.random.default_rng(3)
    view = table(rng.normal(size=(500, WIDTH)))
    result = detect_with(StripTabular, view, np.zeros(500, int), logits=lambda v: 2 * v.values.sum(axis=1) - 8)
    positive = 2 * view.values.sum(axis=1) - 8 > 0
    assert 10 < positive.sum() < 150
    assert np.median(result.scores[positive]) == pytest.approx(-1)
    assert np.median(result.scores[~positive]) == pytest.approx(-1)
    entropies = result.details["median_entropy"]
    assert entropies["1"] > 1.5 * entropies["0"]


def test_features_are_kept_and_swapped_in_the_stated_share():
    options = StripTabularOptions(copies=400, swapped=0.25)
    kept = _kept_features(8, options, np.random.default_rng(4))
    assert (kept.sum(axis=1) == 6).all()
    assert kept.mean(axis=0) == pytest.approx(np.full(8, 0.75), abs=0.08)
    extreme = StripTabularOptions(copies=9, swapped=0.999)
    assert (_kept_features(3, extreme, np.random.default_rng(4)).sum(axis=1) == 1).all()


def test_a_row_is_never_its_own_donor():
    rows = np.arange(40, 50)
    drawn = np.concatenate([_donors(rows, 50, True, np.random.default_rng(seed)) for seed in range(300)])
    assert (drawn != np.tile(rows, 300)).all()
    assert set(drawn) == set(range(50))


def test_the_cut_is_a_quantile_of_trusted_stays(detect_with, table):
    rng = np.random.default_rng(5)
    view, truth = poisoned(rng, table, share=0.2)
    clean = table(rng.normal(size=(300, WIDTH)))
    trusted = Trusted(clean, np.zeros(300, np.int8))
    call = {"logits": backdoored, "frr": 0.02, "copies": 64}
    granted = detect_with(StripTabular, view, np.zeros(600, int), stays=trusted, trusted=True, **call)
    alone = detect_with(StripTabular, view, np.zeros(600, int), **call)
    # A fifth of the rows are poisoned: the rows' own quantile cannot flag more than 2%.
    assert alone.flagged.sum() == 11
    assert granted.flagged[truth].mean() > 0.5 > 0.1 > alone.flagged[truth].mean()
    assert granted.flagged[~truth].mean() < 0.1
    assert granted.details["reference_rows"] == 300
    assert granted.details["predictions"] == 64 * 900


def test_needs_follow_the_option():
    assert StripTabular(StripTabularOptions(), Context(Path())).requires == {"predict"}
    assert StripTabular(StripTabularOptions(trusted=True), Context(Path())).requires == {"predict", "trusted"}


def test_of_a_series_all_hours_of_a_feature_are_swapped(detect_with):
    view = series_view(30)
    seen = []

    def logits(shown):
        seen.append(shown)
        return np.zeros(len(shown))

    detect_with(StripTabular, view, np.zeros(30, int), copies=3, logits=logits)
    copies = [shown for shown in seen if not np.array_equal(shown.values, view.values, equal_nan=True)]
    assert len(copies) == 3
    for shown in copies:
        assert isinstance(shown, SeriesView)
        assert (np.isnan(shown.values) == (shown.counts == 0)).all()
        whole = [
            any(np.array_equal(shown.values[0, :, j], other, equal_nan=True) for other in view.values[:, :, j])
            for j in range(len(view.features))
        ]
        assert all(whole)


def test_few_rows_flag_none_and_certain_models_are_no_error(detect_with, table):
    view = table(np.random.default_rng(6).normal(size=(10, WIDTH)))
    assert not detect_with(StripTabular, view, np.zeros(10, int), logits=backdoored).flagged.any()
    certain = detect_with(StripTabular, view, np.zeros(10, int), logits=lambda v: np.full(len(v), 5000.0))
    assert not certain.scores.any()
    assert not certain.flagged.any()


def test_events_are_refused(detect_with):
    with pytest.raises(BackdoorError, match=r"strip_tabular.*events"):
        detect_with(StripTabular, events_view(5), np.zeros(5, int), logits=lambda v: np.zeros(len(v)))
