"""From a cell's files to figures and ROC curves."""

import numpy as np
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from backdoor_core.ranking import tpr_at_fpr
from backdoor_core.sweep.digest import ROC_FPR, _cleansing, roc

SCORES = arrays(np.float64, 30, elements=st.integers(0, 8).map(float))
TRUTH = arrays(np.bool_, 30)


@settings(max_examples=80)
@given(scores=SCORES, truth=TRUTH)
def test_a_curve_never_claims_a_false_positive_rate_that_it_does_not_keep(scores, truth):
    found = roc(scores, truth)
    if not truth.any() or truth.all():
        assert found == []
        return
    expected = [tpr_at_fpr(scores, truth, fpr) for fpr in ROC_FPR]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_a_filter_leaves_stands_beside_what_a_random_one_leaves():
    def left(lift):
        return {"asr_lift": {"value": lift, "low": lift - 0.1, "high": lift + 0.1}, "asr_baseline": None}

    counts = {"removed": 7, "poisoned_removed": 2}
    filters = {
        "knn": {**counts, "figures": left(0.3), "random": left(0.31)},
        "perfect": {**counts, "figures": left(0.0), "random": None},
        "all": {**counts, "figures": None, "random": None, "note": "it would remove every stay of a label"},
    }
    found = _cleansing({"filters": filters, "repairs": {"dp_sgd": {"figures": left(0.2), "details": {}}}})
    assert {name: value for name, value in found.items() if name.startswith("cleanse.knn.")} == {
        "cleanse.knn.removed": 7,
        "cleanse.knn.poisoned_removed": 2,
        "cleanse.knn.asr_lift": 0.3,
        "cleanse.knn.asr_lift.low": 0.3 - 0.1,
        "cleanse.knn.asr_lift.high": 0.3 + 0.1,
        "cleanse.knn.random.asr_lift": 0.31,
        "cleanse.knn.random.asr_lift.low": 0.31 - 0.1,
        "cleanse.knn.random.asr_lift.high": 0.31 + 0.1,
    }
    assert found["cleanse.all.removed"] == 7
    assert "cleanse.perfect.random.asr_lift" not in found
    assert found["cleanse.dp_sgd.asr_lift"] == 0.2
