import numpy as np
import pytest
import torch

from backdoor_models.networks.attention import Attention, FeatureTokens


@pytest.mark.parametrize("heads", [1, 4])
def test_the_fused_pass_equals_the_weights_times_the_values(heads):
    layer, tokens = Attention(8, heads), torch.randn(5, 7, 8)
    weights = layer.weights(tokens)
    assert weights.shape == (5, heads, 7, 7)
    values = layer.value(tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
    mixed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(tokens), layer.out(mixed), rtol=1e-4, atol=1e-6)


def test_it_equals_torchs_own_attention():
    layer, tokens = Attention(8, 2), torch.randn(5, 7, 8)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in (layer.query, layer.key, layer.value)]))
        theirs.in_proj_bias.copy_(torch.cat([m.bias for m in (layer.query, layer.key, layer.value)]))
        theirs.out_proj.load_state_dict(layer.out.state_dict())
    out, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(layer(tokens), out, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer.weights(tokens), weights, rtol=1e-4, atol=1e-6)


def test_fewer_queries_give_the_same_rows():
    layer, tokens = Attention(8, 2), torch.randn(5, 7, 8)
    torch.testing.assert_close(layer(tokens, tokens[:, :2]), layer(tokens)[:, :2], rtol=1e-4, atol=1e-6)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        Attention(8, 3)


def test_a_token_is_its_features_own_channels_times_its_own_directions():
    tokens, x = FeatureTokens(features=3, blocks=2, width=4), torch.randn(5, 6)
    weight, feature = tokens.weight.detach().numpy(), tokens.feature.detach().numpy()
    expected = [[row[j] * weight[0, j] + row[3 + j] * weight[1, j] + feature[j] for j in range(3)] for row in x.numpy()]
    np.testing.assert_allclose(tokens(x).detach().numpy(), expected, atol=1e-5)
