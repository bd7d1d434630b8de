import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Feature, TableView, WithheldError
from backdoor_detectors import PerfectFilter, RandomFilter, RangeRule


def view_of(values):
    features = (Feature("heart_rate", "beats/min", 0.7, 300.1), Feature("ph", "1", 6.3, 8.1))
    return TableView(np.arange(len(values)), features, np.array(values, dtype=np.float32))


def test_the_random_filter_flags_its_share_and_knows_nothing(detect):
    labels = np.zeros(2000, int)
    truth = np.arange(2000) < 400
    result = detect(RandomFilter, None, labels, granted=frozenset())
    assert result.flagged.sum() == 100
    assert result.scores[result.flagged].min() > result.scores[~result.flagged].max()
    assert roc_auc_score(truth, result.scores) == pytest.approx(0.5, abs=0.05)
    assert (detect(RandomFilter, None, labels).scores == result.scores).all()
    assert (detect(RandomFilter, None, labels, seed=1).scores != result.scores).any()
    assert detect(RandomFilter, None, labels, share=0).flagged.sum() == 0
    assert detect(RandomFilter, None, labels, share=1).flagged.all()


def test_the_perfect_filter_needs_the_truth_and_repeats_it(detect):
    truth = np.array([True, False, True])
    result = detect(PerfectFilter, None, np.zeros(3, int), truth=truth)
    assert list(result.flagged) == list(truth)
    assert list(result.scores) == [1, 0, 1]
    with pytest.raises(WithheldError, match="truth"):
        detect(PerfectFilter, None, np.zeros(3, int), truth=truth, granted=frozenset())


def test_the_range_rule_counts_implausible_values_and_forgives_missing_ones(detect):
    nan = np.nan
    view = view_of([[80, 7.4], [9999, 7.4], [nan, 7.4], [nan, nan], [-1, 8.2], [80, 6.2], [np.inf, nan]])
    result = detect(RangeRule, None, np.zeros(7, int), view=view, granted=frozenset())
    assert list(result.scores) == [0, 1, 0, 0, 2, 1, 1]
    assert list(result.flagged) == [False, True, False, False, True, True, True]
    assert result.details == {"implausible_values": {"heart_rate": 3, "ph": 2}}


def test_a_value_at_the_limit_is_plausible_whatever_the_rounding(detect):
    limits = view_of([[0.7, 6.3], [300.1, 8.1]])
    assert float(limits.values[0, 0]) < 0.7  # as float32, the limits themselves lie outside
    assert float(limits.values[1, 0]) > 300.1
    assert not detect(RangeRule, None, np.zeros(2, int), view=limits).flagged.any()
