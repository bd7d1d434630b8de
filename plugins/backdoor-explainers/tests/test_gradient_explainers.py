"""Integrated gradients, gradient SHAP, saliency and what they share."""

import numpy as np
import pytest
import torch
from torch import nn

from backdoor_core.contracts import InputSpec
from backdoor_core.errors import BackdoorError
from backdoor_explainers import DeepLift, GradientShap, IntegratedGradients, LayerIntegratedGradients, Saliency

TABLE = InputSpec(tuple(f"f{i}" for i in range(5)), blocks=2)
SERIES = InputSpec(tuple(f"f{i}" for i in range(4)), blocks=3, steps=8)
SPECS = dict.fromkeys(("logistic", "mlp", "tab_transformer", "ft_transformer"), TABLE) | dict.fromkeys(
    ("lstm", "gru", "tcn"), SERIES
)
PATHS = (IntegratedGradients, GradientShap, DeepLift)


def rows_for(spec, count, seed=0):
    shape = (count, spec.channels) if spec.steps is None else (count, spec.steps, spec.channels)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(6,), (4, 6)])
def test_of_a_linear_model_it_is_weight_times_distance(explain, made_case, linear, normal, shape):
    weight, x, baselines = normal(*shape, seed=1), normal(9, *shape), normal(3, *shape, seed=2)
    case = made_case(linear(weight), x, baselines, features=3)
    found = explain(IntegratedGradients, case)
    np.testing.assert_allclose(found.values, weight * (x - baselines.mean(axis=0)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.delta, 0, atol=1e-4)
    assert not found.details["large_delta"]


@pytest.mark.parametrize("name", SPECS)
def test_integrated_gradients_are_complete_for_every_bundled_model(explain, made_case, bundled, name):
    spec = SPECS[name]
    network, x, baselines = bundled(name, spec), rows_for(spec, 6), rows_for(spec, 2, seed=5)
    case = made_case(network, x, baselines, features=len(spec.features), steps=64)
    found = explain(IntegratedGradients, case)
    difference = case.predict(x) - case.predict(baselines).mean()
    total = found.values.astype(np.float64).reshape(6, -1).sum(axis=1)
    np.testing.assert_allclose(total - found.delta, difference, atol=1e-4)
    assert np.abs(found.delta).mean() < 0.03 * np.abs(difference).mean()
    assert not found.details["large_delta"]


def test_several_baselines_are_averaged(explain, made_case, small_mlp, normal):
    x, baselines = normal(4, 6), normal(3, 6, seed=1)
    whole = explain(IntegratedGradients, made_case(small_mlp(), x, baselines)).values
    each = [explain(IntegratedGradients, made_case(small_mlp(), x, b[None])).values for b in baselines]
    np.testing.assert_allclose(whole, np.mean(each, axis=0), atol=1e-5)


def test_it_is_captums(explain, made_case, small_mlp, normal):
    from captum.attr import IntegratedGradients as Captum

    network, x, baseline = small_mlp(), normal(5, 6), normal(1, 6, seed=1)
    expected = Captum(network).attribute(torch.from_numpy(x), torch.from_numpy(baseline), n_steps=20)
    found = explain(IntegratedGradients, made_case(network, x, baseline))
    np.testing.assert_allclose(found.values, expected.numpy(), atol=1e-5)


def test_an_unresolved_path_is_flagged(explain, made_case):
    class Step(nn.Module):
        def forward(self, x):
            return 10 * torch.sigmoid(1000 * (x.sum(dim=1) - 0.011))

    found = explain(IntegratedGradients, made_case(Step(), [[50.0, 50.0]], [[0.0, 0.0]], steps=5))
    assert found.details["large_delta"]
    assert found.details["mean_abs_delta"] == pytest.approx(abs(found.values.sum() - 10), abs=1e-2)


@pytest.mark.parametrize("explainer", [*PATHS, Saliency])
@pytest.mark.parametrize("rows_at_once", [1, 7])
def test_the_batch_size_changes_nothing(explain, made_case, small_mlp, normal, explainer, rows_at_once):
    x, baselines = normal(5, 6), normal(3, 6, seed=1)
    options = {"noise": 0.1} if explainer is GradientShap else {}
    some = explain(explainer, made_case(small_mlp(), x, baselines, rows_at_once=rows_at_once), **options)
    whole = explain(explainer, made_case(small_mlp(), x, baselines, rows_at_once=10**6), **options)
    np.testing.assert_allclose(some.values, whole.values, atol=1e-5)


@pytest.mark.parametrize(
    ("explainer", "model", "module"),
    [*((e, "mlp", "body") for e in (*PATHS, Saliency)), (LayerIntegratedGradients, "tab_transformer", "tokens")],
)
def test_no_more_rows_than_allowed_reach_the_network_at_a_time(explain, made_case, bundled, explainer, model, module):
    network, seen = bundled(model, TABLE), []
    network.get_submodule(module).register_forward_hook(lambda module, given, out: seen.append(len(out)))
    case = made_case(network, rows_for(TABLE, 9), rows_for(TABLE, 3, seed=1), features=5, rows_at_once=7, steps=3)
    explain(explainer, case)
    assert 5 <= max(seen) <= 7
    assert len(seen) < 100


@pytest.mark.parametrize("explainer", [*PATHS, Saliency])
def test_the_other_label_flips_the_sign(explain, made_case, small_mlp, normal, explainer):
    x, baselines = normal(5, 6), normal(3, 6, seed=1)
    one, other = (explain(explainer, made_case(small_mlp(), x, baselines, sign=sign)) for sign in (1.0, -1.0))
    assert np.abs(one.values).max() > 0
    np.testing.assert_array_equal(one.values, -other.values)


@pytest.mark.parametrize("explainer", [*PATHS, Saliency])
def test_no_rows_give_no_attributions(explain, made_case, small_mlp, explainer):
    found = explain(explainer, made_case(small_mlp(), np.empty((0, 6)), np.zeros((1, 6))))
    assert found.delta is None or found.details["large_delta"] is False


@pytest.mark.parametrize("explainer", [*PATHS, Saliency])
def test_a_constant_model_gives_zeros(explain, made_case, linear, normal, explainer):
    found = explain(explainer, made_case(linear(np.zeros(6)), normal(4, 6), normal(2, 6, seed=1)))
    assert not found.values.any()
    assert not found.details.get("large_delta")


@pytest.mark.parametrize("explainer", [*PATHS, Saliency, LayerIntegratedGradients])
def test_a_model_without_gradients_is_refused(explain, made_case, explainer):
    assert explainer.requires == frozenset({"gradient"})
    case = made_case(None, np.zeros((2, 3)), np.zeros((1, 3)), predict=lambda rows: rows[:, 0])
    with pytest.raises(BackdoorError, match=f"explainer {explainer.name}: the model is no torch network"):
        explain(explainer, case)


def test_attributions_that_are_not_finite_are_refused(explain, made_case, linear):
    case = made_case(linear([np.nan, 1.0]), np.ones((2, 2)), np.zeros((1, 2)))
    with pytest.raises(BackdoorError, match="the attributions of 2 of 2 rows are not finite"):
        explain(IntegratedGradients, case)


class Aside(nn.Module):
    """A network with an activation that never reaches the output, and so no backward hook."""

    def __init__(self, network):
        super().__init__()
        self.network, self.side = network, nn.ReLU()

    def forward(self, x):
        self.side(x)
        return self.network(x)


def test_it_works_where_gradients_are_off_and_leaves_the_network_as_it_was(explain, made_case, small_mlp, normal):
    network = Aside(small_mlp())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        for explainer in (*PATHS, Saliency):
            explain(explainer, made_case(network, normal(3, 6), normal(2, 6, seed=1)))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or hasattr(m, "input") for m in network.modules())


def test_gradient_shap_with_one_baseline_and_no_noise_is_exact_for_a_linear_model(explain, made_case, linear, normal):
    weight, x, baseline = normal(6, seed=1), normal(4, 6), normal(1, 6, seed=2)
    found = explain(GradientShap, made_case(linear(weight), x, baseline, steps=3))
    np.testing.assert_allclose(found.values, weight * (x - baseline), atol=1e-5)


def test_gradient_shap_tends_to_integrated_gradients_over_the_baselines(explain, made_case, small_mlp, normal):
    x, baselines = normal(3, 6), normal(4, 6, seed=1)
    exact = explain(IntegratedGradients, made_case(small_mlp(), x, baselines, steps=50)).values
    few, many = (
        np.abs(explain(GradientShap, made_case(small_mlp(), x, baselines, steps=steps)).values - exact).max()
        for steps in (20, 8000)
    )
    assert many < 0.05 * np.abs(exact).max()
    assert many < few


def test_gradient_shap_draws_from_the_generator_alone(explain, made_case, small_mlp, normal):
    def found(seed):
        return explain(GradientShap, made_case(small_mlp(), normal(3, 6), normal(4, 6), seed=seed), noise=0.2).values

    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = found(0), found(0), found(1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(state[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002


def test_saliency_is_the_gradient_or_its_size(explain, made_case, linear, normal):
    weight = normal(6, seed=1)
    case = made_case(linear(weight), normal(4, 6), normal(1, 6))
    np.testing.assert_allclose(explain(Saliency, case).values, np.tile(weight, (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(explain(Saliency, case, absolute=True).values, np.tile(np.abs(weight), (4, 1)), 1e-6)


def test_recurrent_cells_run_without_cudnn(explain, made_case, bundled, monkeypatch):
    # Its backward pass refuses evaluation mode; what the machine at hand lacks is seen by the switch alone.
    network, seen = bundled("lstm", SERIES), []
    network.cell.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    assert torch.backends.cudnn.enabled
    case = made_case(network, rows_for(SERIES, 2), rows_for(SERIES, 1), features=4, steps=2)
    for explainer in (IntegratedGradients, GradientShap, Saliency):
        explain(explainer, case)
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.enabled
