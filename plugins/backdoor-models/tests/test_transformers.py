"""Both transformers against plain numpy restatements of the papers."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from backdoor_core.contracts import InputSpec
from backdoor_models import FTTransformer, TabTransformer
from backdoor_models.ft_transformer import FTTransformerOptions
from backdoor_models.tab_transformer import TabTransformerOptions

SPEC = InputSpec(("age", "lactate", "sodium"), blocks=2)


def linear(w, name, z):
    return z @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, z):
    centered = z - z.mean(axis=-1, keepdims=True)
    scaled = centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(w, name, z, heads):
    """(tokens, width) from (tokens, width), and the list of each head's (tokens, tokens) weights."""
    q, k, v = (linear(w, f"{name}.{part}", z) for part in ("query", "key", "value"))
    out, weights, size = [], [], z.shape[1] // heads
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        exponential = np.exp(q[:, columns] @ k[:, columns].T / np.sqrt(size))
        weights.append(exponential / exponential.sum(axis=1, keepdims=True))
        out.append(weights[-1] @ v[:, columns])
    return linear(w, f"{name}.out", np.concatenate(out, axis=1)), weights


def tokens_of(w, row):
    features = w["tokens.feature"].shape[0]
    return (
        sum(
            row[block * features : (block + 1) * features, np.newaxis] * w["tokens.weight"][block] for block in range(2)
        )
        + w["tokens.feature"]
    )


def restated_tab_transformer(w, row, layers, heads):
    z, attention = tokens_of(w, row), []
    for number in range(layers):
        name = f"layers.{number}"
        mixed, weights = attend(w, f"{name}.attend", z, heads)
        attention.append(weights)
        z = norm(w, f"{name}.attend_norm", z + mixed)
        z = norm(w, f"{name}.hidden_norm", z + linear(w, f"{name}.back", np.maximum(linear(w, f"{name}.forth", z), 0)))
    embedded = np.maximum(linear(w, "body.0", z.mean(axis=0)), 0)
    return linear(w, "last", embedded)[0], attention


def restated_ft_transformer(w, row, layers, heads):
    z, attention = np.vstack([w["cls"], tokens_of(w, row)]), []
    for number in range(layers):
        name = f"blocks.{number}"
        mixed, weights = attend(w, f"{name}.attend", norm(w, f"{name}.attend_norm", z) if number else z, heads)
        attention.append(weights)
        z = z + mixed
        values, gates = np.split(linear(w, f"{name}.forth", norm(w, f"{name}.hidden_norm", z)), 2, axis=1)
        z = z + linear(w, f"{name}.back", values * np.maximum(gates, 0))
    return linear(w, "last", np.maximum(norm(w, "norm", z[0]), 0))[0], attention


@pytest.mark.parametrize(
    ("model", "restated", "options"),
    [
        (TabTransformer, restated_tab_transformer, {"hidden": (6,)}),
        (FTTransformer, restated_ft_transformer, {"hidden_factor": 1.5}),
    ],
)
def test_it_equals_a_numpy_restatement(build, model, restated, options):
    network = build(model, SPEC, width=8, layers=3, heads=2, **options)
    with torch.no_grad():
        for parameter in network.parameters():  # norms start at 1 and 0, which would hide a swap
            parameter.add_(0.1 * torch.randn_like(parameter))
    w = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    x = torch.randn(4, 6)
    with torch.no_grad():
        logits, attention = network(x).numpy(), [layer.numpy() for layer in network.attention(x)]
    for row, values in enumerate(x.double().numpy()):
        logit, weights = restated(w, values, layers=3, heads=2)
        np.testing.assert_allclose(logits[row], logit, atol=1e-4)
        for found, expected in zip(attention, weights, strict=True):
            np.testing.assert_allclose(found[row], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "order"), [(TabTransformer, [2, 0, 1, 5, 3, 4]), (FTTransformer, [2, 0, 1, 5, 3, 4])]
)
def test_which_feature_a_value_belongs_to_matters(build, model, order):
    network, x = build(model, SPEC), torch.randn(6, 6)
    assert (network(x) - network(x[:, order])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "wrong", "says"),
    [
        (TabTransformerOptions, {"heads": 5}, "5 does not divide 32"),
        (FTTransformerOptions, {"heads": 5}, "5 does not divide 64"),
        (FTTransformerOptions, {"hidden_factor": 0.001}, "should be 1 or more, not 0.064"),
    ],
)
def test_widths_that_do_not_fit_are_refused(options, wrong, says):
    with pytest.raises(ValidationError, match=says):
        options(**wrong)
