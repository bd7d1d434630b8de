"""Gradients in closed form against autograd, to the last bit, and which networks are chains of layers."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import Context, InputSpec, TorchModel
from backdoor_core.learning.chain import Chain, Dropout, Linear, ReLU, Scratch, chain_of, slopes
from backdoor_core.learning.dropout import Masks, own_dropout
from backdoor_core.learning.loop import fit
from backdoor_core.params import TrainParams


class Row(nn.Module):
    """Layers in a row that say so."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).squeeze(-1)

    def chain(self) -> list[nn.Module]:
        return list(self.body)


class Silent(Row):
    """The same, without a word."""

    chain = None


@st.composite
def rows_of_layers(draw: st.DrawFn) -> list[nn.Module]:
    """Any order of the three kinds, up to a last linear layer of one output."""
    kinds = draw(st.lists(st.sampled_from(["linear", "bare", "relu", "dropout"]), max_size=8))
    width, layers = 6, []
    for kind in kinds:
        if kind in ("linear", "bare"):
            layers.append(nn.Linear(width, width := draw(st.integers(1, 9)), bias=kind == "linear"))
        else:
            layers.append(nn.ReLU() if kind == "relu" else nn.Dropout(draw(st.sampled_from([0.0, 0.3, 1.0]))))
    return [*layers, nn.Linear(width, 1, bias=draw(st.booleans()))]


def by_autograd(network: nn.Module, x: Tensor, y: Tensor, pos_weight: Tensor | None) -> tuple[Tensor, ...]:
    with own_dropout(network.train(), Masks(4).like):
        loss = binary_cross_entropy_with_logits(network(x), y, pos_weight=pos_weight)
    return torch.autograd.grad(loss, list(network.parameters()))


def stays(n: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(n)
    return torch.randn(n, 6, generator=draw), (torch.rand(n, generator=draw) < 0.4).float()


ROWS = torch.zeros(2, 6)


@settings(max_examples=60, deadline=None)
@given(rows_of_layers(), st.integers(1, 40), st.sampled_from([None, 3.0]))
def test_gradients_are_those_of_autograd_to_the_last_bit(layers, n, pos_weight):
    network, (x, y) = Row(*layers), stays(n)
    weight = None if pos_weight is None else torch.tensor(pos_weight)
    expected = by_autograd(network, x, y, weight)
    chain = chain_of(network, x)
    weights = [w.detach() for w in network.parameters()]
    scratch = Scratch()
    for _ in range(2):  # the second time with what the first left behind
        logits, kept = chain.logits(weights, x.clone(), Masks(4).drop, scratch)
        found = chain.gradients(weights, kept, slopes(logits, y, weight).div_(n), scratch)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("n", [256, 88, 2])
def test_they_are_so_at_the_size_of_a_study(n):
    torch.manual_seed(0)
    network = Row(nn.Linear(60, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    x, y = torch.randn(n, 60), (torch.rand(n) < 0.3).float()
    weights = [w.detach() for w in network.parameters()]
    chain, scratch = chain_of(network, x), Scratch()
    logits, kept = chain.logits(weights, x.clone(), Masks(4).drop, scratch)
    found = chain.gradients(weights, kept, slopes(logits, y, None).div_(n), scratch)
    assert all(torch.equal(a, b) for a, b in zip(found, by_autograd(network, x, y, None), strict=True))


def test_the_gradient_by_the_inputs_is_not_computed(monkeypatch):
    network, (x, y) = Row(nn.Dropout(0.2), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)), stays(5)
    weights = [w.detach() for w in network.parameters()]
    made = []
    monkeypatch.setattr("backdoor_core.learning.chain.product", lambda a, b, *rest, **_: made.append(1) or a @ b)
    chain, scratch = chain_of(network, x), Scratch()
    logits, kept = chain.logits(weights, x, Masks(4).drop, scratch)
    chain.gradients(weights, kept, slopes(logits, y, None), scratch)
    assert len(made) == 2 + 3, "two forward; back two by weight and one by the hidden layer"


def test_gradients_of_wide_layers_are_those_of_autograd_but_for_rounding():
    torch.manual_seed(0)
    network = Row(nn.Linear(6, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 1))
    x, y = stays(256)
    expected = by_autograd(network, x, y, None)
    weights = [w.detach() for w in network.parameters()]
    chain, scratch = chain_of(network, x), Scratch()
    logits, kept = chain.logits(weights, x.clone(), Masks(4).drop, scratch)
    found = chain.gradients(weights, kept, slopes(logits, y, None).div_(256), scratch)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(rows_of_layers(), st.integers(2, 3))
def test_a_leading_axis_of_models_takes_each_by_itself(layers, count):
    networks = [Row(*layers)]
    weights = [torch.stack([w.detach() * (k + 1) for k in range(count)]) for w in networks[0].parameters()]
    parts = [stays(7 + k) for k in range(count)]
    x, y = (torch.stack([part[i][:7] for part in parts]) for i in range(2))
    chain = chain_of(networks[0], x[0])
    masks = [Masks(k) for k in range(count)]

    def drop(activations: Tensor, p: float) -> None:
        for own, part in zip(masks, activations, strict=True):
            own.drop(part, p)

    scratch = Scratch()
    logits, kept = chain.logits(weights, x.clone(), drop, scratch)
    found = chain.gradients(weights, kept, slopes(logits, y, torch.ones(count, 1)), scratch)
    for k in range(count):
        own = [w[k] for w in weights]
        other = Scratch()
        alone, seen = chain.logits(own, x[k].clone(), Masks(k).drop, other)
        torch.testing.assert_close(logits[k], alone)
        for ours, theirs in zip(found, chain.gradients(own, seen, slopes(alone, y[k], None), other), strict=True):
            torch.testing.assert_close(ours[k], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05, "pos_weight": "balanced", "weight_decay": 0.1}])
def test_a_fit_is_the_same_with_and_without(options):
    x, y = stays(300)
    params = TrainParams(epochs=4, batch_size=64, learning_rate=0.01, device="cpu", **options)
    fits = [
        fit(Fixed(None, Context(root=None), kind), InputSpec(tuple("abcdef")), (x, y), (x, y), params, seed=3)
        for kind in (Row, Silent)
    ]
    assert fits[0].curve == fits[1].curve
    assert all(torch.equal(fits[0].last[name], fits[1].last[name]) for name in fits[1].last)
    assert torch.equal(x, stays(300)[0]), "the inputs of a fit are not written to"


class Fixed(TorchModel):
    name, modality = "fixed", "table"

    def __init__(self, options, context, kind) -> None:
        super().__init__(options, context)
        self.kind = kind

    def build(self, spec):
        return self.kind(nn.Dropout(0.1), nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 1))


def test_the_layers_are_found_in_their_order():
    network = Row(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Dropout(0.2), nn.Dropout(0.0), nn.Linear(4, 1))
    assert chain_of(network, ROWS) == Chain((Linear(0, None), ReLU(), Dropout(0.2), Linear(1, 2)))


class Scaled(Row):
    """Has a weight that no layer has."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.scale = nn.Parameter(torch.ones(()))


class Wide(nn.Linear):
    """Might compute anything."""


class Foreign(Row):
    """Names a layer that is not its own."""

    def chain(self) -> list[nn.Module]:
        return [nn.Linear(6, 1)]


class Part(nn.Module):
    """Has a part that happens to be called `chain`."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(nn.Linear(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.chain(x).squeeze(-1)


class Bare(Foreign):
    """A network without layers of its own, but for one number."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))


hooked = Row(nn.Linear(6, 1))
hooked.body[0].register_forward_hook(lambda layer, given, answer: 2 * answer)


class Scored(Row):
    def loss(self, x: Tensor, labels: Tensor, pos_weight: Tensor | None) -> Tensor:
        return self(x).square().mean()


shared = nn.Linear(6, 6)
frozen = Row(nn.Linear(6, 1))
frozen.body[0].bias.requires_grad_(False)


@pytest.mark.parametrize(
    "network",
    [
        Silent(nn.Linear(6, 1)),
        Row(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 1)),
        Row(nn.BatchNorm1d(6, affine=False), nn.Linear(6, 1)),
        Row(Wide(6, 1)),
        Row(nn.Linear(6, 2)),
        Row(nn.Linear(6, 1), nn.ReLU()),
        Row(shared, shared, nn.Linear(6, 1)),
        Row(nn.Linear(6, 1).double()),
        Row(),
        Scaled(nn.Linear(6, 1)),
        Foreign(nn.Linear(6, 1)),
        Scored(nn.Linear(6, 1)),
        frozen,
        hooked,
        Part(),
        Bare(),
    ],
)
def test_what_the_closed_form_does_not_know_is_left_to_autograd(network):
    assert chain_of(network, ROWS) is None


def test_a_chain_reads_rows_and_nothing_else():
    network = Row(nn.Linear(6, 1))
    assert chain_of(network, ROWS) is not None
    assert chain_of(network, torch.zeros(2, 3, 6)) is None
