import numpy as np
import pytest
import torch
from pydantic import ValidationError

from backdoor_core.contracts import Context, InputSpec
from backdoor_core.learning.network import Network
from backdoor_models.mlp import MLP, MLPOptions

SPEC = InputSpec(tuple(f"c{i}" for i in range(10)))


def build(**options):
    return MLP(MLPOptions(**options), Context(root=None)).build(SPEC).eval()


def test_shape_is_that_of_the_options():
    linear = [m for m in build().modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(10, 512), (512, 256), (256, 128), (128, 1)]
    assert [m.p for m in build(dropout=0.3).modules() if isinstance(m, torch.nn.Dropout)] == [0.3] * 3


def test_forward_is_head_of_embed_and_equals_a_numpy_restatement():
    network = build(hidden=(8, 4))
    assert isinstance(network, Network)
    x = torch.randn(7, 10)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.head(network.embed(x)))
        z = x.numpy()
        for layer in (m for m in network.body if isinstance(m, torch.nn.Linear)):
            z = np.maximum(z @ layer.weight.numpy().T + layer.bias.numpy(), 0)
        np.testing.assert_allclose(network.embed(x).numpy(), z, atol=1e-5)
        expected = z @ network.last.weight.numpy()[0] + network.last.bias.numpy()
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"hidden": ()}, {"dropout": 1.0}, {"width": 3}])
def test_options_that_make_no_network_are_refused(options):
    with pytest.raises(ValidationError):
        MLPOptions(**options)
