"""Folding, references, the trigger attribution ratio and attention, against sums done by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from backdoor_core.cohort.preprocess import fit_preprocessor
from backdoor_core.contracts import ArrayModel, Attribution, Explainer, Feature, NoOptions, TableView
from backdoor_core.errors import BackdoorError
from backdoor_core.explanation.attention import (
    attention_weights,
    compare_attention,
    kullback_leibler,
    relevance,
    rollout,
    token_names,
    total_variation,
)
from backdoor_core.explanation.baselines import CLEAN_ROWS, reference_inputs
from backdoor_core.explanation.case import Explained, make_case, predictor, run_explainer
from backdoor_core.explanation.findings import explainer_findings
from backdoor_core.explanation.folding import by_feature, fold
from backdoor_core.explanation.head_shift import attention_figures
from backdoor_core.explanation.trigger_ratio import (
    Looked,
    lift_over_seeds,
    recall_at_k,
    tar_figures,
    touched_features,
    touched_share,
)
from backdoor_core.learning.victim import ArrayVictim, TorchVictim
from backdoor_core.params import ExplainParams, PreprocessParams

SETTINGS = settings(max_examples=40, deadline=None)
finite = st.floats(-100, 100, width=32)


# ------------------------------------------------------------------------------------------------------ folding
@SETTINGS
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.data())
def test_folding_sums_every_channel_onto_its_feature(features, blocks, rows, series, data):
    shape = (rows, 2, blocks * features) if series else (rows, blocks * features)
    values = data.draw(hnp.arrays(np.float32, shape, elements=finite))
    folded = fold(values, features)
    expected = np.zeros((*shape[:-1], features))
    for channel in range(blocks * features):
        expected[..., channel % features] += values[..., channel]
    np.testing.assert_allclose(folded, expected, atol=1e-4)
    np.testing.assert_allclose(folded.sum(), values.sum(dtype=np.float64), atol=1e-3)


def test_folding_refuses_parts_of_blocks():
    with pytest.raises(ValueError, match="7 channels are no whole blocks of 3 features"):
        fold(np.zeros((1, 7)), 3)


def test_signs_are_dropped_before_hours_are_summed():
    assert by_feature(np.array([[[1.0, 0.0], [-1.0, 2.0]]])).tolist() == [[2, 2]]


# --------------------------------------------------------------------------------------------------- references
def test_references():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(41, 3)).astype(np.float32)
    inputs[:, 2] = np.nan
    inputs[:20, 1] = np.nan
    median = reference_inputs("median", inputs, rng)
    assert median.shape == (1, 3)
    assert median[0, 0] == np.median(inputs[:, 0])
    assert median[0, 1] == np.median(inputs[20:, 1])
    assert np.isnan(median[0, 2])
    assert reference_inputs("zero", inputs, rng).tolist() == [[0, 0, 0]]
    drawn = reference_inputs("clean", inputs, rng)
    assert drawn.shape == (CLEAN_ROWS, 3)
    assert set(drawn[:, 0]) < set(inputs[:, 0])


def test_a_missing_flag_stays_0_or_1():
    flags = np.array([[0], [0], [1], [1]], dtype=np.float32)
    assert reference_inputs("median", flags, np.random.default_rng(0)).tolist() == [[0]]


# -------------------------------------------------------------------------------------------------- TAR and recall
def test_share_by_cell():
    attribution = np.array([[[3.0, -1.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    touched = np.zeros((2, 2, 2), dtype=bool)
    touched[0, 1, 1] = touched[1, 0] = True
    assert touched_share(attribution, touched).tolist() == [0.5, 0.5]


def test_rows_without_attribution_or_without_touched_cells_have_no_share():
    attribution = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]])
    touched = np.array([[True, False], [False, False], [True, False]])
    assert np.isnan(touched_share(attribution, touched)).tolist() == [True, True, False]
    assert np.isnan(recall_at_k(attribution, touched)).tolist() == [True, True, False]


def test_a_row_mask_is_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 3\), the touched cells \(4,\)"):
        touched_share(np.ones((4, 3)), np.ones(4, dtype=bool))


@SETTINGS
@given(st.integers(1, 6), st.data())
def test_recall_is_the_mean_over_all_ways_to_break_ties(features, data):
    size = data.draw(hnp.arrays(np.float64, features, elements=st.integers(0, 3).map(float)))
    touched = data.draw(hnp.arrays(np.bool_, features))
    if not size.any() or not touched.any():
        return
    k, rng = int(touched.sum()), np.random.default_rng(0)
    found = recall_at_k(size[None], touched[None])[0]
    tries = []
    for _ in range(300):
        order = np.lexsort((rng.random(features), -size))
        tries.append(touched[order[:k]].mean())
    assert found == pytest.approx(np.mean(tries), abs=0.15)
    if len(set(size)) == features:
        assert found == pytest.approx(tries[0])


def some(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    touched = np.zeros((rows, 4), dtype=bool)
    touched[:, 1] = True
    weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=200)
    return rng, touched, weights


def test_figures_of_the_ratio():
    rng, touched, weights = some()
    looked = Looked(*(rng.normal(size=(40, 4)) for _ in range(3)))
    looked.triggered[0] = 0
    figures = tar_figures(looked, touched, weights)
    sides = (looked.triggered, looked.clean, looked.baseline)
    shares = [np.abs(values[:, 1]) / np.abs(values).sum(axis=1).clip(1e-30) for values in sides]
    assert figures["tar"].value == pytest.approx(shares[0][1:].mean())
    assert figures["tar_clean"].value == pytest.approx(shares[1].mean())
    assert figures["tar_baseline"].value == pytest.approx(shares[2].mean())
    assert figures["tar_lift"].value == pytest.approx((shares[0] - shares[2])[1:].mean())
    assert figures["chance"].value == 0.25
    assert figures["recall_chance"].value == 0.25
    top = np.abs(looked.triggered[1:]).argmax(axis=1) == 1
    assert figures["recall_at_k"].value == pytest.approx(top.mean())
    assert figures["tar_lift_seeds"].value is None


def test_zero_attributions_have_no_figures_and_are_counted():
    _, touched, weights = some()
    zero = np.zeros((40, 4))
    found = explainer_findings(Looked(zero, zero, zero, (zero, zero)), [explained(None)], touched, weights)
    assert found["without_attribution"] == {"triggered": 40, "clean": 40, "baseline": 40}
    for name in ("tar", "tar_baseline", "tar_clean", "tar_lift", "tar_lift_seeds", "recall_at_k"):
        assert found["figures"][name]["value"] is None
    assert found["figures"]["chance"]["value"] == 0.25


def test_a_series_has_its_share_by_feature_too():
    rng = np.random.default_rng(0)
    touched = np.zeros((30, 5, 3), dtype=bool)
    touched[:, 2, 0] = True
    values = np.abs(rng.normal(size=(30, 5, 3)))
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=100)
    found = explainer_findings(Looked(values, values, values), [explained(None)], touched, weights)
    whole = values[..., 0].sum(axis=1) / values.sum(axis=(1, 2))
    assert found["by_feature"]["tar"]["value"] == pytest.approx(whole.mean())
    assert found["figures"]["tar"]["value"] < found["by_feature"]["tar"]["value"]
    assert touched_features(touched).tolist() == [[True, False, False]] * 30


def explained(convergence):
    return Explained(np.zeros((1, 1), np.float32), convergence, {})


@pytest.mark.parametrize(("relative", "warned"), [(0.04, False), (0.06, True)])
def test_a_large_delta_is_warned_of(relative, warned):
    _, touched, weights = some()
    ones = np.ones((40, 4))
    answers = [explained({"mean": 0.1, "max": 0.2, "relative": r}) for r in (0.01, relative)]
    found = explainer_findings(Looked(ones, ones, ones), answers, touched, weights)
    assert found["convergence"]["relative"] == relative
    assert (found["warning"] is not None) == warned


def test_the_interval_over_seeds_covers_another_clean_model_as_often_as_it_says():
    """Models whose means differ by far more than patients do: an interval of patients alone would cover 1 in 5."""
    rng = np.random.default_rng(1)
    rows, patients = 60, rng.multinomial(60, np.full(60, 1 / 60), size=60)
    covered = narrow = 0
    for _ in range(300):
        models = [0.4 + rng.normal(0, 0.05) + rng.normal(0, 0.05, rows) for _ in range(6)]
        found = lift_over_seeds(models[0], models[1:], patients)
        covered += found.low <= 0 <= found.high
        spread = (patients @ (models[0] - models[1]) / rows).std()
        narrow += abs((models[0] - models[1]).mean()) < 1.96 * spread
    assert 0.92 < covered / 300 < 0.98
    assert narrow / 300 < 0.4


# ------------------------------------------------------------------------------------------------------- the case
class Linear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, width + 1))

    def forward(self, x):
        return x @ self.weight


class TimesInput(Explainer):
    name = "times_input"

    def attribute(self, case):
        weight = case.network.weight.detach().numpy()
        values = (case.sign * weight * (case.inputs - case.baselines[0])).astype(np.float32)
        change = case.predict(case.inputs) - case.predict(case.baselines)
        return Attribution(values, delta=values.sum(axis=1) - change)


@pytest.fixture
def victim():
    features = tuple(Feature(name, "u", -9, 9) for name in "abc")
    values = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    values[:9, 0] = np.nan
    view = TableView(np.arange(30), features, values)
    prepared = fit_preprocessor(view, PreprocessParams())
    return TorchVictim(preprocessor=prepared, network=Linear(6)), view


@pytest.mark.parametrize("target", [0, 1])
def test_a_linear_model_is_explained_by_weight_times_distance(victim, context, target):
    model, view = victim
    inputs, rng = model.inputs(view), np.random.default_rng(0)
    case = make_case(model, view, inputs[:1] * 0, target, ExplainParams(rows_at_once=7), rng)
    sign = 1 if target else -1
    np.testing.assert_allclose(case.predict(inputs), sign * model.logits(view), rtol=1e-6)
    found = run_explainer(TimesInput(NoOptions(), context), case)
    expected = sign * inputs * np.arange(1, 7)
    np.testing.assert_allclose(found.values, expected[:, :3] + expected[:, 3:], rtol=1e-5, atol=1e-6)
    assert found.convergence["relative"] < 1e-6


@pytest.mark.parametrize(
    ("spoil", "message"), [(lambda v: v[:, :2], r"shape \(30, 2\)"), (lambda v: v * np.nan, "NaN or infinite")]
)
def test_a_wrong_answer_is_refused_by_name(victim, context, spoil, message):
    class Wrong(TimesInput):
        name = "wrong"

        def attribute(self, case):
            return Attribution(spoil(super().attribute(case).values))

    model, view = victim
    case = make_case(model, view, model.inputs(view)[:1], 1, ExplainParams(), np.random.default_rng(0))
    with pytest.raises(BackdoorError, match=f"explainer wrong: .*{message}"):
        run_explainer(Wrong(NoOptions(), context), case)


def test_models_of_arrays_are_predicted_too(victim, context):
    class Sums(ArrayModel):
        name, modality = "sums", "table"

        def fit(self, inputs, labels, seed):
            return {}

        def logits(self, fitted, inputs):
            return np.nansum(inputs, axis=1).astype(np.float64)

    arrays = ArrayVictim(preprocessor=victim[0].preprocessor, model=Sums(NoOptions(), context), fitted={})
    inputs = arrays.inputs(victim[1])
    np.testing.assert_allclose(predictor(arrays, -1.0, 4)(inputs), -np.nansum(inputs, axis=1), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------ attention
class Attends(nn.Module):
    """Two layers of two heads over three tokens, whose weights depend on the input."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0)))

    def attention(self, x):
        scores = self.scale[None] * x[:, None, None, None, :]
        return list(torch.softmax(scores, dim=-1).unbind(dim=1))


def random_weights(rng, *shape):
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def test_distances_between_weights():
    one, other = np.array([[[1.0, 0.0], [0.5, 0.5]]]), np.array([[[0.0, 1.0], [0.5, 0.5]]])
    assert total_variation(one, other).tolist() == [0.5]
    assert kullback_leibler(np.full((2, 2), 0.5), np.array([[0.25, 0.75]] * 2)) == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    )
    assert np.isfinite(kullback_leibler(one, other)).all()
    assert kullback_leibler(one, one) == pytest.approx(0)


def test_rollout_by_loops():
    weights = random_weights(np.random.default_rng(0), 4, 3, 2, 5, 5)
    rolled = rollout(weights)
    np.testing.assert_allclose(rolled.sum(axis=-1), 1)
    for row in range(4):
        through = np.eye(5)
        for layer in range(3):
            mixed = 0.5 * (weights[row, layer, 0] + weights[row, layer, 1]) / 2 + 0.5 * np.eye(5)
            through = mixed @ through
        np.testing.assert_allclose(rolled[row], through)


def test_what_tokens_stand_for():
    rolled = random_weights(np.random.default_rng(0), 6, 4, 4)
    assert token_names(4, ("a", "b", "c")) == ("CLS", "a", "b", "c")
    assert token_names(3, ("a", "b", "c")) == ("a", "b", "c")
    assert token_names(2, ("a", "b", "c")) == ("token 0", "token 1")
    np.testing.assert_allclose(relevance(rolled, 3).sum(axis=1), 1)
    np.testing.assert_allclose(relevance(rolled, 4), rolled.mean(axis=1))
    assert relevance(rolled, 9) is None


def test_attention_is_kept_whole_or_as_its_mean():
    network = Attends()
    rng = np.random.default_rng(0)
    clean, triggered = (rng.normal(size=(9, 3)).astype(np.float32) for _ in range(2))
    whole = compare_attention(network, clean, triggered, rows_at_once=4)
    assert whole.clean.shape == (9, 2, 2, 3, 3)
    assert not whole.averaged
    np.testing.assert_allclose(whole.clean.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(whole.triggered, attention_weights(network, triggered))
    mean = compare_attention(network, clean, triggered, rows_at_once=4, most=100)
    assert mean.averaged
    assert mean.clean.shape == (2, 2, 3, 3)
    for kind in ("clean", "triggered"):
        np.testing.assert_allclose(mean.mean(kind), whole.mean(kind), rtol=1e-5)
    np.testing.assert_allclose(mean.variation, whole.variation)
    np.testing.assert_allclose(mean.rollout_clean, whole.rollout_clean)


def test_heads_that_move_most():
    network, rng = Attends(), np.random.default_rng(0)
    clean = rng.normal(size=(20, 3)).astype(np.float32)
    weights = rng.multinomial(20, np.full(20, 1 / 20), size=100)
    touched = np.tile([False, True, False], (20, 1))
    moved = compare_attention(network, clean, clean + np.float32([0, 5, 0]), 99)
    still = compare_attention(network, clean, clean, 99)
    found = attention_figures(moved, still, ("a", "b", "c"), touched, weights)
    assert [(one["layer"], one["head"]) for one in found["shift"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(one["tv_baseline"]["value"] == 0 and one["kl_baseline"]["value"] == 0 for one in found["shift"])
    best = max(found["shift"], key=lambda one: one["tv_difference"]["value"])
    assert found["most_moved"][0] == {"layer": best["layer"], "head": best["head"]}
    expected = np.abs(moved.triggered - moved.clean).sum(axis=-1).mean(axis=-1) / 2
    assert found["shift"][2]["tv"]["value"] == pytest.approx(expected[:, 1, 0].mean(), rel=1e-5)
    assert found["rollout"]["tar"]["value"] == pytest.approx(
        rollout(moved.triggered).mean(axis=1)[:, 1].mean(), rel=1e-5
    )
