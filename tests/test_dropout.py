import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from backdoor_core.learning.dropout import FastDropout, Masks, scaled_mask
from backdoor_core.learning.loop import _clip


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_dropped_is_the_rate_and_the_mean_is_kept(rate: float) -> None:
    n = 400_000
    mask = scaled_mask(Masks(3, 1).draw(n), rate)
    tolerance = 5 * np.sqrt(rate * (1 - rate) / n)
    assert abs(float((mask == 0).double().mean()) - rate) < tolerance
    assert abs(float(mask.double().mean()) - 1) < tolerance / (1 - rate)


def test_masks_are_those_of_seed_and_epoch() -> None:
    drawn = Masks(3, 1).draw(1000)
    assert np.array_equal(drawn, Masks(3, 1).draw(1000))
    assert not np.array_equal(drawn, Masks(3, 2).draw(1000))
    assert not np.array_equal(drawn, Masks(4, 1).draw(1000))


@given(st.integers(1, 50), st.integers(1, 50))
def test_draws_go_on_where_the_last_one_ended(first: int, second: int) -> None:
    masks = Masks(1, 1)
    a, b = masks.draw(first), masks.draw(second)
    assert (len(a), len(b)) == (first, second)
    # Numbers come in fours: the second draw starts at the next multiple.
    start = -(-first // 4) * 4
    assert np.array_equal(np.concatenate([a, b]), np.delete(Masks(1, 1).draw(start + second), range(first, start)))


def test_layers_take_their_masks_from_it_and_only_in_training() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.25, inplace=True))
    x = torch.randn(7, 5)
    with FastDropout(Masks(9, 2)):
        got = network(x)
    masks = Masks(9, 2)
    hidden = network[0](x) * scaled_mask(masks.draw(56), 0.5).view(7, 8)
    assert torch.equal(got, network[2](hidden) * scaled_mask(masks.draw(56), 0.25).view(7, 8))
    network.eval()
    with FastDropout(Masks(9, 2)):
        assert torch.equal(network(x), network[2](network[0](x)))


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_is_torchs(limit: float) -> None:
    ours = [torch.randn(4, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(theirs, limit)
    _clip(tuple(ours), limit)
    for parameter, gradient in zip(theirs, ours, strict=True):
        assert torch.equal(gradient, parameter.grad)
