import numpy as np
import pytest
import torch

from backdoor_core.contracts import InputSpec
from backdoor_models import TCN
from backdoor_models.networks.convolution import CausalConvolution
from backdoor_models.tcn import levels_to_see, receptive_field


def series(steps):
    return InputSpec(("heart_rate", "lactate"), blocks=3, steps=steps)


def test_no_output_depends_on_later_hours(build):
    network = build(TCN, series(24))
    x = torch.randn(2, 24, 6)
    before = network.states(x)
    for hour in (0, 5, 23):
        later = x.clone()
        later[:, hour] += 10
        after = network.states(later)
        torch.testing.assert_close(before[:, :hour], after[:, :hour], rtol=0, atol=1e-6)
        assert (before[:, hour] - after[:, hour]).abs().max() > 1e-3


@pytest.mark.parametrize(("steps", "levels"), [(1, 1), (5, 1), (6, 2), (24, 3), (29, 3), (30, 4), (48, 4), (168, 6)])
def test_by_default_the_last_output_sees_the_whole_series_and_one_block_less_would_not(build, steps, levels):
    network = build(TCN, series(steps))
    assert len(network.blocks) == levels == levels_to_see(steps, 3)
    assert receptive_field(levels, 3) >= steps
    assert levels == 1 or receptive_field(levels - 1, 3) < steps
    # What it sees in fact: the gradient of the last output by each hour of a series of 48.
    if steps == 48:
        x = torch.randn(16, 48, 6, requires_grad=True)
        (gradient,) = torch.autograd.grad(network.states(x)[:, -1].sum(), x)
        assert (gradient.abs().amax(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize(("levels", "kernel"), [(1, 2), (2, 3), (3, 2)])
def test_the_receptive_field_is_what_the_last_output_depends_on(build, levels, kernel):
    network = build(TCN, series(40), levels=levels, kernel=kernel)
    x = torch.randn(64, 40, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.states(x)[:, -1].sum(), x)
    assert int((gradient.abs().amax(dim=(0, 2)) > 0).sum()) == receptive_field(levels, kernel)


@pytest.mark.parametrize("weight_norm", [True, False])
def test_a_causal_convolution_is_the_sum_over_its_taps(weight_norm):
    layer = CausalConvolution(3, 2, kernel=3, dilation=4, weight_norm=weight_norm)
    if weight_norm:
        with torch.no_grad():
            layer.length.mul_(2.0)  # a weight of the same direction, twice as long
    weight = layer.weight.detach().double().numpy() * (2 if weight_norm else 1)
    x = torch.randn(1, 3, 12)
    padded = np.concatenate([np.zeros((3, 8)), x[0].double().numpy()], axis=1)
    expected = [sum(weight[:, :, tap] @ padded[:, t + 8 - 4 * (2 - tap)] for tap in range(3)) for t in range(12)]
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), np.transpose(expected), atol=1e-5)


def test_weight_norm_changes_no_output_at_the_start_and_fixes_the_length_of_the_kernels(build):
    plain, normed = build(TCN, series(12), weight_norm=False), build(TCN, series(12))
    x = torch.randn(5, 12, 6)
    torch.testing.assert_close(plain(x), normed(x))
    with torch.no_grad():
        for name, parameter in normed.named_parameters():
            if name.endswith("weight") and "branch" in name:
                parameter.mul_(3.0)
    torch.testing.assert_close(plain(x), normed(x))


def test_dropout_takes_whole_channels(build):
    network = build(TCN, series(24), dropout=0.5, levels=1).train()
    dropped = network.blocks[0].branch[:3](torch.randn(50, 6, 24)) == 0
    whole = dropped.all(dim=-1).float().mean().item()
    assert whole == pytest.approx(0.5, abs=0.05)


def test_a_table_is_refused(build):
    with pytest.raises(ValueError, match="needs a series"):
        build(TCN, InputSpec(("heart_rate",)))
