"""The bench's own masks for dropout."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional

from backdoor_core.learning.dropout import Masks, own_dropout


@given(st.floats(0.001, 0.999), st.integers(0, 2**63 - 1))
def test_the_share_dropped_is_the_rate_and_the_mean_is_kept(p, seed):
    mask = Masks(seed).like(torch.empty(200, 100), p)
    values = mask.unique()
    assert len(values) == 2
    assert values[0] == 0
    assert values[1] == pytest.approx(1 / (1 - p), rel=2e-2 if p > 0.99 else 2e-3)
    dropped_share = float((mask == 0).double().mean())
    assert abs(dropped_share - p) < 6 * np.sqrt(p * (1 - p) / mask.numel()) + 1e-5


def test_rates_at_the_ends():
    masks = Masks(0)
    assert masks.like(torch.empty(7, 3), 1.0).eq(0).all()
    assert masks.like(torch.empty(7, 3), 1e-9).eq(1).all()
    assert masks.like(torch.empty(0, 3), 0.5).shape == (0, 3)
    never = nn.Dropout(0.0)
    with own_dropout(never, lambda x, p: pytest.fail("a rate of 0 needs no mask")):
        assert never(torch.ones(3)).eq(1).all()


@given(st.floats(0, 1), st.integers(0, 40))
def test_dropping_in_place_is_multiplying_by_the_mask(p, n):
    x = torch.randn(n, 3)
    dropped_in_place = x.clone()
    Masks(2).drop(dropped_in_place, p)
    assert torch.equal(dropped_in_place, x * Masks(2).like(x, p))


def test_places_are_independent_of_each_other_and_of_the_mask_before():
    masks = Masks(5)
    found = torch.stack([masks.like(torch.empty(64), 0.5) > 0 for _ in range(4000)]).double()
    assert (found.mean(dim=0) - 0.5).abs().max() < 0.04  # five standard deviations
    between = np.corrcoef(found.numpy().T) - np.eye(64)
    assert np.abs(between).max() < 0.08
    assert abs(float(torch.corrcoef(torch.stack([found[1:].flatten(), found[:-1].flatten()]))[0, 1])) < 0.01


def test_an_epoch_has_its_own_masks_whatever_was_drawn_before():
    x = torch.empty(30, 7)
    one, other = Masks(3), Masks(3)
    first = one.like(x, 0.3)
    one.like(x, 0.3)
    for masks in (one, other):
        masks.begin(2)
    second = one.like(x, 0.3)
    assert torch.equal(second, other.like(x, 0.3))
    assert not torch.equal(first, second)
    assert not torch.equal(first, Masks(4).like(x, 0.3))
    assert torch.equal(first, Masks(3).like(x, 0.3))


def test_inside_the_layers_draw_from_it_and_nothing_else_does():
    x = torch.randn(50, 20, requires_grad=True)
    network, state = nn.Sequential(nn.Dropout(0.4), nn.ReLU(), nn.Dropout(0.2)), torch.get_rng_state()
    with own_dropout(network, Masks(1).like):
        out = network(x)
        plain = network.eval()(x)
        network.train()
        assert torch.equal(state, torch.get_rng_state()), "torch's own numbers are left alone"
        functional.dropout(x, 0.4)
        assert not torch.equal(state, torch.get_rng_state()), "what drops without a layer is torch's"
    expected = Masks(1)
    first, second = expected.like(x, 0.4), expected.like(x, 0.2)
    torch.testing.assert_close(out, (x * first).relu() * second)
    torch.testing.assert_close(plain, x.relu())
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, first * second * (x > 0))


def test_outside_the_layers_are_torchs_again_even_after_an_error():
    network = nn.Sequential(nn.Dropout(0.4))
    with pytest.raises(ValueError, match="stop"), own_dropout(network, Masks(1).like):
        raise ValueError("stop")
    torch.manual_seed(3)
    expected = functional.dropout(torch.ones(9), 0.4)
    torch.manual_seed(3)
    assert torch.equal(network(torch.ones(9)), expected)
