"""From a cell's files to figures and ROC curves."""

import numpy as np
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from backdoor_core.ranking import tpr_at_fpr
from backdoor_core.sweep.digest import ROC_FPR, roc

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
