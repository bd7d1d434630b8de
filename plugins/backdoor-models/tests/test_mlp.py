import numpy as np
import pytest
import torch
from pydantic import ValidationError

from backdoor_core.contracts import InputSpec
from backdoor_core.learning.network import Network
from backdoor_models.mlp import MLP, MLPOptions

SPEC = InputSpec(tuple(f"c{i}" for i in range(5)), blocks=2)


def test_shape_is_that_of_the_options(build):
    linear = [m for m in build(MLP, SPEC).modules() if isinstance(m, torch.nn.Linear)]
    assert sorted((m.in_features, m.out_features) for m in linear) == [(10, 512), (128, 1), (256, 128), (512, 256)]
    dropouts = [m.p for m in build(MLP, SPEC, dropout=0.3).modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts == [0.3] * 3


def test_forward_is_head_of_embed_and_equals_a_numpy_restatement(build):
    network = build(MLP, SPEC, hidden=(8, 4))
    assert isinstance(network, Network)
    x = torch.randn(7, 10)
    with torch.no_grad():
        z = x.numpy()
        for layer in (m for m in network.body if isinstance(m, torch.nn.Linear)):
            z = np.maximum(z @ layer.weight.numpy().T + layer.bias.numpy(), 0)
        np.testing.assert_allclose(network.embed(x).numpy(), z, atol=1e-5)
        expected = z @ network.last.weight.numpy()[0] + network.last.bias.numpy()
        np.testing.assert_allclose(network(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"hidden": ()}, {"dropout": 1.0}, {"width": 3}])
def test_options_that_make_no_network_are_refused(options):
    with pytest.raises(ValidationError):
        MLPOptions(**options)
