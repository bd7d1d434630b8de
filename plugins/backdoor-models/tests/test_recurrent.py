"""LSTM and GRU against their equations."""

import numpy as np
import pytest
import torch

from backdoor_core.contracts import InputSpec
from backdoor_models import GRU, LSTM

SPEC = InputSpec(("heart_rate", "lactate"), blocks=3, steps=7)
BOTH = pytest.mark.parametrize("model", [LSTM, GRU])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_step(x, state, cell, w):
    into, forget, new, out = np.split(
        w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ state + w["bias_hh_l0"], 4
    )
    cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
    return sigmoid(out) * np.tanh(cell), cell


def gru_step(x, state, cell, w):
    from_input = np.split(w["weight_ih_l0"] @ x + w["bias_ih_l0"], 3)
    from_state = np.split(w["weight_hh_l0"] @ state + w["bias_hh_l0"], 3)
    reset, keep = (sigmoid(a + b) for a, b in zip(from_input[:2], from_state[:2], strict=True))
    return (1 - keep) * np.tanh(from_input[2] + reset * from_state[2]) + keep * state, cell


@pytest.mark.parametrize(("model", "step"), [(LSTM, lstm_step), (GRU, gru_step)])
def test_it_equals_a_numpy_restatement(build, model, step):
    network = build(model, SPEC, hidden=4)
    weights = {name: tensor.double().numpy() for name, tensor in network.cell.state_dict().items()}
    x = torch.randn(3, 7, 6)
    for row, found in zip(x.double().numpy(), network.embed(x).detach().numpy(), strict=True):
        state, cell, states = np.zeros(4), np.zeros(4), []
        for hour in row:
            state, cell = step(hour, state, cell, weights)
            states.append(state)
        np.testing.assert_allclose(found, np.concatenate([states[-1], np.mean(states, axis=0)]), atol=1e-5)


@BOTH
def test_no_state_depends_on_later_hours(build, model):
    network = build(model, SPEC, layers=2)
    x = torch.randn(2, 7, 6)
    later = x.clone()
    later[:, 4:] += 10
    before, after = network.cell(x)[0], network.cell(later)[0]
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amax(dim=-1).min() > 1e-3


@BOTH
def test_dropout_stands_before_the_head_and_between_layers(build, model):
    x = torch.ones(200, 7, 6)
    network = build(model, SPEC, dropout=0.5).train()
    assert (network.embed(x) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (network.cell.num_layers, network.cell.dropout) == (1, 0.0)
    assert build(model, SPEC, dropout=0.5, layers=3).cell.dropout == 0.5
