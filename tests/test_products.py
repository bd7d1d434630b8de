"""Products of large matrices against exact sums, and by which library they are taken."""

import numpy as np
import pytest
import torch

from backdoor_core.contracts import Context, InputSpec
from backdoor_core.learning import products
from backdoor_core.learning.loop import fit
from backdoor_core.params import TrainParams
from backdoor_models.mlp import MLP, MLPOptions

LARGE = (256, 300, 64)
SMALL = (7, 5, 3)


def factors(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    m, k, n = shape
    draw = torch.Generator().manual_seed(k)
    return tuple(torch.randn(size, generator=draw) for size in ((m, k), (k, n), (n,)))


@pytest.mark.parametrize("shape", [LARGE, SMALL])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("transposed", ["none", "a", "b", "both"])
def test_a_product_is_exact_but_for_rounding(shape, with_bias, transposed):
    a, b, bias = factors(shape)
    expected = a.numpy().astype(np.float64) @ b.numpy().astype(np.float64) + with_bias * bias.numpy()
    if transposed in ("a", "both"):
        a = a.T.contiguous().T
    if transposed in ("b", "both"):
        b = b.T.contiguous().T
    out = torch.empty(shape[0], shape[2])
    for target in (None, out):
        found = products.product(a, b, bias if with_bias else None, out=target)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)


def test_a_product_is_the_same_each_time():
    a, b, bias = factors(LARGE)
    assert torch.equal(products.product(a, b, bias), products.product(a, b, bias))


@pytest.mark.parametrize(("shape", "by_onednn"), [(LARGE, True), (SMALL, False)])
def test_large_ones_alone_are_given_to_onednn(monkeypatch, shape, by_onednn):
    asked = []
    monkeypatch.setattr(products, "_onednn", lambda a, b, *rest: asked.append(len(a)) or a @ b.mT)
    a, b, _ = factors(shape)
    products.product(a, b)
    assert bool(asked) == by_onednn


def test_without_onednn_torch_itself_is_asked(monkeypatch):
    monkeypatch.setattr(products, "_onednn", None)
    a, b, bias = factors(LARGE)
    assert torch.equal(products.product(a, b, bias), torch.addmm(bias, a, b))


def test_the_call_of_onednn_is_there_where_torch_has_onednn():
    """Where torch has moved it, fits of wide networks would take twice as long without a word."""
    assert (products._onednn is not None) == torch.backends.mkldnn.is_available()


def test_a_fit_of_a_wide_network_asks_it(monkeypatch):
    asked = []

    def onednn(a, b, bias, *rest):
        asked.append(tuple(a.shape))
        return a @ b.mT if bias is None else torch.addmm(bias, a, b.mT)

    monkeypatch.setattr(products, "_onednn", onednn)
    x, y = torch.randn(256, 60), (torch.rand(256) < 0.3).float()
    params = TrainParams(epochs=1, batch_size=256, device="cpu")
    model = MLP(MLPOptions(hidden=(512, 8)), Context(root=None))
    fit(model, InputSpec(tuple(f"f{i}" for i in range(60))), (x, y), (x, y), params, seed=0)
    assert asked == [(256, 60), (512, 256)], "the first layer forward, and its gradient"
