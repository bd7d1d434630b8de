"""Explainers that ask something of the architecture."""

import numpy as np
import pytest
import torch
from torch import nn

from backdoor_core.contracts import InputSpec
from backdoor_core.errors import BackdoorError
from backdoor_explainers import DeepLift, IntegratedGradients, LayerIntegratedGradients

TABLE = InputSpec(tuple(f"f{i}" for i in range(5)), blocks=2)
SERIES = InputSpec(tuple(f"f{i}" for i in range(4)), blocks=3, steps=8)


@pytest.mark.parametrize("name", ["tab_transformer", "ft_transformer"])
@pytest.mark.parametrize("rows_at_once", [7, 10**4])
def test_at_linear_tokens_it_is_integrated_gradients_by_feature(
    explain, made_case, bundled, normal, name, rows_at_once
):
    case = made_case(
        bundled(name, TABLE), normal(4, 10), normal(2, 10, seed=1), features=5, steps=30, rows_at_once=rows_at_once
    )
    found = explain(LayerIntegratedGradients, case)
    expected = explain(IntegratedGradients, case).values.reshape(4, 2, 5).sum(axis=1)
    np.testing.assert_allclose(found.values.reshape(4, 2, 5).sum(axis=1), expected, atol=2e-5)
    np.testing.assert_array_equal(found.values[:, :5], found.values[:, 5:])
    difference = case.predict(case.inputs) - case.predict(case.baselines).mean()
    np.testing.assert_allclose(found.values.sum(axis=1) - found.delta, difference, atol=1e-5)
    assert found.details["layer"] == "tokens"


class Doubled(nn.Module):
    """A series network whose layer keeps hours and features: each feature's channel, and its square, as a token."""

    def __init__(self):
        super().__init__()
        self.project = Squares()
        self.other = nn.Linear(6, 6)

    def forward(self, x):
        return self.project(self.other(x) * 0 + x).flatten(1).sum(dim=1)


class Squares(nn.Module):
    def forward(self, x):
        return torch.stack([x, x**2], dim=-1)


def test_a_layer_of_a_series_keeps_the_hours(explain, made_case, normal):
    x, baseline = normal(3, 4, 6), normal(1, 4, 6, seed=1)
    found = explain(LayerIntegratedGradients, made_case(Doubled(), x, baseline), layer="project")
    np.testing.assert_allclose(found.values, (x + x**2) - (baseline + baseline**2), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (None, "Doubled has no module `tokens`; set `layer`"),
        ("absent", "layer: Doubled has no module `absent`; it has project, other"),
        ("other", r"output of `other` is \(rows, 4, 6\), and only \(rows, 4, 6, width\)"),
    ],
)
def test_layers_that_cannot_be_told_by_feature_are_refused(explain, made_case, normal, layer, message):
    with pytest.raises(BackdoorError, match=message) as raised:
        explain(LayerIntegratedGradients, made_case(Doubled(), normal(2, 4, 6), normal(1, 4, 6)), layer=layer)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "spec"), [("logistic", TABLE), ("mlp", TABLE), ("tcn", SERIES)])
def test_deep_lift_sums_to_the_difference(explain, made_case, bundled, name, spec):
    rng = np.random.default_rng(0)
    shape = (spec.channels,) if spec.steps is None else (spec.steps, spec.channels)
    network, x, baselines = bundled(name, spec), rng.normal(size=(5, *shape)), rng.normal(size=(3, *shape))
    case = made_case(network, x, baselines, features=len(spec.features))
    found = explain(DeepLift, case)
    difference = case.predict(case.inputs) - case.predict(case.baselines).mean()
    np.testing.assert_allclose(found.values.reshape(5, -1).sum(axis=1), difference, atol=1e-5)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_deep_lift_is_captums_and_the_same_for_relu_as_a_function(explain, made_case, small_mlp, normal):
    from captum.attr import DeepLift as Captum

    network, x, baseline = small_mlp(), normal(5, 6), normal(1, 6, seed=1)

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([network[0], network[2], network[4]])

        def forward(self, x):
            first, second, last = self.layers
            return last(torch.relu(second(nn.functional.relu(first(x))))).squeeze(-1)

    with pytest.warns(UserWarning, match="Setting forward, backward hooks"):
        expected = Captum(network).attribute(torch.tensor(x, requires_grad=True), torch.from_numpy(baseline))
    for same in (network, Functional()):
        found = explain(DeepLift, made_case(same, x, baseline))
        np.testing.assert_allclose(found.values, expected.detach().numpy(), atol=1e-5)


def test_deep_lift_where_input_and_baseline_agree_is_zero(explain, made_case, small_mlp, normal):
    x = normal(3, 6)
    found = explain(DeepLift, made_case(small_mlp(), x, x[:1]))
    assert not found.values[0].any()
    assert found.values[1].any()


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("lstm", SERIES, "module `cell` of RecurrentNetwork is a LSTM"),
        ("gru", SERIES, "module `cell` of RecurrentNetwork is a GRU"),
        ("tab_transformer", TABLE, "module `layers.0.attend_norm` of TabTransformerNetwork is a LayerNorm"),
        ("ft_transformer", TABLE, "module `blocks.0.hidden_norm` of FTTransformerNetwork is a LayerNorm"),
    ],
)
def test_deep_lift_names_the_module_it_cannot_take(explain, made_case, bundled, name, spec, message):
    shape = (spec.channels,) if spec.steps is None else (spec.steps, spec.channels)
    case = made_case(bundled(name, spec), np.zeros((2, *shape)), np.zeros((1, *shape)), features=len(spec.features))
    with pytest.raises(BackdoorError, match=message):
        explain(DeepLift, case)


def test_deep_lift_flags_what_it_cannot_see(explain, made_case, normal):
    class Product(nn.Module):
        def forward(self, x):
            return (x * x).sum(dim=1)

    found = explain(DeepLift, made_case(Product(), normal(4, 6), np.zeros((1, 6))))
    assert found.details["large_delta"]
