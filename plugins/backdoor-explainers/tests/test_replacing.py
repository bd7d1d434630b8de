"""Feature ablation and permutation, which need predictions only."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from backdoor_core.contracts import Context
from backdoor_core.errors import BackdoorError
from backdoor_explainers import FeatureAblation, Permutation

BOTH = (FeatureAblation, Permutation)


def brute_force(predict, x, replaced, in_group):
    """(N, groups) by one prediction at a time."""
    out = np.empty((len(x), len(in_group)))
    for (i, row), (g, inside) in product(enumerate(x), enumerate(in_group)):
        changed = row.copy()
        changed[inside] = replaced[i][inside]
        out[i, g] = (predict(row[None]) - predict(changed[None]))[0]
    return out


def masks(by, hours, features, blocks):
    """One boolean mask of a row's inputs for each group, in the order of the groups."""
    feature = np.tile(np.arange(features), blocks)
    if hours is None:
        return [feature == f for f in range(features)]
    hour, feature = np.meshgrid(np.arange(hours), feature, indexing="ij")
    if by == "hour":
        return [hour == h for h in range(hours)]
    if by == "feature":
        return [feature == f for f in range(features)]
    return [(hour == h) & (feature == f) for h in range(hours) for f in range(features)]


@pytest.mark.parametrize(("by", "hours"), [("feature", None), ("cell", None), ("feature", 4), ("hour", 4), ("cell", 4)])
def test_ablation_equals_brute_force(explain, made_case, small_mlp, normal, by, hours):
    shape = (6,) if hours is None else (hours, 6)
    mlp = small_mlp(6 * (hours or 1))
    network = torch.nn.Sequential(torch.nn.Flatten(1), mlp)
    x, baselines = normal(3, *shape), normal(2, *shape, seed=1)
    case = made_case(network, x, baselines, features=3)
    groups = masks(by, hours, 3, 2)
    expected = np.mean([brute_force(case.predict, x, np.stack([b] * 3), groups) for b in baselines], axis=0)
    found = explain(FeatureAblation, case, by=by)
    for g, inside in enumerate(groups):
        np.testing.assert_allclose(found.values[:, inside].sum(axis=1), expected[:, g], atol=1e-5)
        assert np.ptp(found.values[:, inside], axis=1).max() == 0
    assert found.delta is None
    assert found.details == {"by": by, "groups": len(groups), "baselines": 2}


def test_ablation_is_captums(explain, made_case, small_mlp, normal):
    from captum.attr import FeatureAblation as Captum

    network, x, baseline = small_mlp(), normal(5, 6), normal(1, 6, seed=1)
    mask = torch.tensor([[0, 1, 2, 0, 1, 2]])
    expected = Captum(network).attribute(torch.from_numpy(x), torch.from_numpy(baseline), feature_mask=mask).numpy()
    found = explain(FeatureAblation, made_case(network, x, baseline, features=3))
    np.testing.assert_allclose(found.values * 2, expected, atol=1e-5)


def test_of_a_linear_model_ablation_is_weight_times_distance(explain, made_case, linear, normal):
    weight, x, baseline = normal(4, seed=1), normal(5, 4), normal(1, 4, seed=2)
    found = explain(FeatureAblation, made_case(linear(weight), x, baseline))
    np.testing.assert_allclose(found.values, weight * (x - baseline), atol=1e-5)


def test_permutation_is_the_mean_loss_over_the_drawn_donors(explain, made_case, small_mlp, normal):
    x = normal(4, 6)
    case = made_case(small_mlp(), x, np.zeros((1, 6)), features=3, seed=8)
    found = explain(Permutation, case, repeats=3)
    drawn = np.random.default_rng(8).integers(3, size=(3, 4))
    donors = drawn + (drawn >= np.arange(4))
    assert (donors != np.arange(4)).all()
    expected = np.mean([brute_force(case.predict, x, x[d], masks("feature", None, 3, 2)) for d in donors], axis=0)
    np.testing.assert_allclose(found.values.reshape(4, 2, 3).sum(axis=1), expected, atol=1e-5)


def test_permutation_converges_to_the_mean_over_all_other_rows(explain, made_case, linear, normal):
    weight, x = normal(3, seed=1), normal(4, 3)
    others = (x.sum(axis=0) - x) / 3
    found = explain(Permutation, made_case(linear(weight), x, np.zeros((1, 3))), repeats=5000)
    np.testing.assert_allclose(found.values, weight * (x - others), atol=0.1)


def test_an_unused_feature_gets_nothing(explain, made_case, normal):
    case = made_case(None, normal(6, 4), np.ones((1, 4)), features=2, predict=lambda r: np.sin(r[:, 0] + r[:, 2]))
    for explainer in BOTH:
        found = explain(explainer, case).values
        assert not found[:, [1, 3]].any()
        assert found[:, [0, 2]].all()


def test_what_all_rows_share_is_seen_with_baselines_as_donors_only(explain, made_case, normal):
    x, baselines = normal(6, 3), normal(20, 3, seed=1)
    x[:, 1] = 9999
    case = made_case(None, x, baselines, predict=lambda rows: (rows[:, 1] > 100).astype(float))
    assert not explain(Permutation, case).values.any()
    np.testing.assert_allclose(explain(Permutation, case, donors="baselines").values, [[0, 1, 0]] * 6)


@pytest.mark.parametrize("explainer", BOTH)
def test_equal_seeds_give_equal_bytes_and_batches_change_nothing(explain, made_case, small_mlp, normal, explainer):
    def found(rows_at_once, seed=0):
        case = made_case(small_mlp(24), normal(5, 24), normal(2, 24), rows_at_once=rows_at_once, seed=seed)
        return explain(explainer, case).values

    np.testing.assert_array_equal(found(1000), found(1000))
    for rows_at_once in (1, 7):
        np.testing.assert_allclose(found(rows_at_once), found(1000), atol=1e-5)
    assert (found(1000) != found(1000, seed=1)).any() == (explainer is Permutation)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 4), groups=st.integers(1, 4), at_once=st.integers(1, 9), baselines=st.integers(1, 3))
def test_no_more_rows_than_allowed_are_predicted_at_a_time(rows, groups, at_once, baselines):
    from backdoor_core.contracts import ExplainCase

    seen = []

    def predict(given):
        seen.append(len(given))
        return given.sum(axis=1).astype(np.float64)

    rng = np.random.default_rng(0)
    x, b = (rng.normal(size=(n, groups)).astype(np.float32) for n in (rows, baselines))
    case = ExplainCase(x, b, predict, None, 1.0, groups, 10, at_once, rng)
    found = FeatureAblation(FeatureAblation.Options(), Context(Path())).attribute(case)
    assert max(seen) <= at_once
    np.testing.assert_allclose(found.values, x - b.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("explainer", BOTH)
def test_the_other_label_flips_the_sign(explain, made_case, small_mlp, normal, explainer):
    one, other = (
        explain(explainer, made_case(small_mlp(), normal(5, 6), normal(2, 6, seed=1), sign=sign)).values
        for sign in (1.0, -1.0)
    )
    assert one.any()
    np.testing.assert_array_equal(one, -other)


@pytest.mark.parametrize("explainer", BOTH)
def test_a_constant_model_gives_zeros_and_no_rows_give_none(explain, made_case, normal, explainer):
    def predict(rows):
        return np.full(len(rows), 3.0)

    assert explainer.requires == frozenset()
    assert not explain(explainer, made_case(None, normal(4, 3), normal(2, 3), predict=predict)).values.any()
    explain(explainer, made_case(None, np.empty((0, 3)), normal(2, 3), predict=predict))
    explain(explainer, made_case(None, np.empty((0, 5, 3)), normal(2, 5, 3), predict=predict))


@pytest.mark.parametrize("explainer", BOTH)
def test_hours_of_a_table_are_refused(explain, made_case, linear, normal, explainer):
    with pytest.raises(BackdoorError, match=f"explainer {explainer.name}: by: hour needs a series"):
        explain(explainer, made_case(linear(np.ones(3)), normal(2, 3), normal(1, 3)), by="hour")


def test_a_single_row_has_no_donor_but_the_baselines(explain, made_case, linear, normal):
    case = made_case(linear(np.ones(3)), normal(1, 3), np.zeros((1, 3)))
    with pytest.raises(BackdoorError, match="there is 1 row to explain and no other"):
        explain(Permutation, case)
    np.testing.assert_allclose(explain(Permutation, case, donors="baselines").values, case.inputs, atol=1e-6)


@pytest.mark.parametrize("explainer", BOTH)
def test_trees_with_missing_values(explain, made_case, normal, explainer):
    models = pytest.importorskip("backdoor_models", reason="backdoor-models is not installed")
    x = normal(400, 4)
    labels = (x[:, 1] > 0).astype(np.int8)
    x[::5, 2] = np.nan
    model = models.GBDT(models.GBDT.Options(max_iter=20), Context(Path()))
    fitted = model.fit(x, labels, 0)
    baseline = np.array([[0, -1, np.nan, 0]], np.float32)
    case = made_case(None, x[:50], baseline, predict=lambda rows: model.logits(fitted, rows))
    found = np.abs(explain(explainer, case).values).mean(axis=0)
    assert found[1] > 10 * found[[0, 2, 3]].max()
    assert found[1] > 0.1
