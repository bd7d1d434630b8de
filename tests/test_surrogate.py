import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from small import make_view

from backdoor_core.attack.surrogate import margin
from backdoor_core.testing.views import events_view, series_view


def test_the_margin_is_that_of_a_logistic_regression_on_what_the_attacker_sees():
    view, label = make_view(600)
    values, absent = view.values.astype(float), np.isnan(view.values)
    values = np.where(absent, np.nanmean(values, axis=0), values)
    x = np.column_stack([values, ~absent])
    x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    logits = LogisticRegression(max_iter=2000).fit(x, label).decision_function(x)
    called = np.sort(logits)[-int(label.sum())]
    found = margin(view, label)
    assert found == pytest.approx(np.abs(logits - np.quantile(logits, 1 - label.mean())), abs=1e-6)
    assert found[logits >= called].min() < 0.05
    nearest, nearest_to_called = (set(np.argsort(m)[:20]) for m in (found, np.abs(logits - called)))
    assert len(nearest & nearest_to_called) >= 18


def test_it_follows_the_stays_and_not_their_order():
    view, label = make_view(300)
    order = np.random.default_rng(0).permutation(300)
    assert margin(view.take(order), label[order]) == pytest.approx(margin(view, label)[order], abs=1e-4)


@pytest.mark.parametrize("make", [series_view, events_view])
def test_series_and_events_have_margins_too(make):
    view = make(80)
    label = (np.arange(80) % 4 == 0).astype(np.int8)
    found = margin(view, label)
    assert found.shape == (80,)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_features_that_nobody_has_are_no_error():
    view, label = make_view(100)
    values = view.values.copy()
    values[:, 2] = np.nan
    assert np.isfinite(margin(view.with_values(values), label)).all()
