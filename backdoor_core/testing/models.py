"""What must hold for every `TorchModel`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import Capability, TorchModel
from backdoor_core.learning.chain import Scratch, chain_of, slopes
from backdoor_core.learning.checkpoint import load_state, save_state
from backdoor_core.learning.dropout import Masks, own_dropout
from backdoor_core.learning.inputs import Inputs
from backdoor_core.testing.check import expect
from backdoor_core.testing.inputs import (
    Spec,
    copied,
    differentiable,
    equal,
    make_input,
    parted,
    reversed_rows,
    specs_of,
)

ROWS = 64
TOLERANCE = 1e-4
"""Largest difference between two logits that count as equal: what summing in another order may make."""
LEARNING_RATES = (3e-3, 1e-2)
STEPS = 400


def shapes_are_those_of_the_contract(model: TorchModel) -> None:
    """One finite logit a row and (batch, D) activations, for one row and several, and for each kind of spec."""
    for spec in specs_of(model):
        network = _network(model, spec)
        for rows in (1, 7):
            with torch.no_grad():
                logits, embedded = network(make_input(spec, rows)), network.embed(make_input(spec, rows))
            about = f"{rows} rows of {spec}"
            expect(logits.shape == (rows,), f"forward gives {tuple(logits.shape)} for {about}; give one logit a row")
            expect(logits.dtype == torch.float32, f"forward gives {logits.dtype}; give float32")
            expect(bool(torch.isfinite(logits).all()), f"forward gives NaN or infinite logits for {about}")
            shape = tuple(embedded.shape)
            expect(len(shape) == 2 and shape[0] == rows, f"embed gives {shape} for {about}; give (batch, D)")


def head_of_embed_is_forward(model: TorchModel) -> None:
    """``head(embed(x))`` equals ``forward(x)``, and the head is one linear layer: a straight line stays straight."""
    network, x = _network(model), make_input(_spec(model), ROWS)
    with torch.no_grad():
        embedded = network.embed(x)
        _expect_close(network.head(embedded), network(x), "head(embed(x)) differs from forward(x)")
        here, there = 3 * embedded, -2 * embedded.flip(0)
        between = network.head(0.25 * here + 0.75 * there)
        expected = 0.25 * network.head(here) + 0.75 * network.head(there)
    _expect_close(between, expected, "head is not linear: embed must be the input of the last linear layer")


def the_seed_decides_the_weights(model: TorchModel) -> None:
    """Two networks built under one seed of torch are equal, and under another seed they differ."""
    first, again, other = (_network(model, seed=seed).state_dict() for seed in (1, 1, 2))
    same = first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)
    expect(same, "two networks built under the same seed differ: draw weights from torch's global random state only")
    expect(
        any(not torch.equal(first[key], other[key]) for key in first),
        "networks built under different seeds are equal: draw the weights at random",
    )


def evaluation_is_deterministic(model: TorchModel) -> None:
    """In evaluation mode the same rows give the same bytes, and no random number is drawn."""
    network, x = _network(model), make_input(_spec(model), ROWS)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        first = network(x)
        expect(torch.equal(state, torch.get_rng_state()), "forward draws random numbers in evaluation mode")
        expect(torch.equal(first, network(x)), "forward gives other logits the second time in evaluation mode")


def rows_do_not_depend_on_their_batch(model: TorchModel) -> None:
    """In evaluation mode a row has the same logit alone, in a small batch, and in another order."""
    network, x = _network(model), make_input(_spec(model), ROWS)
    with torch.no_grad():
        together = network(x)
        for size in (1, 5):
            parts = torch.cat([network(part) for part in parted(x, size)])
            _expect_close(parts, together, f"logits differ in batches of {size}")
        _expect_close(network(reversed_rows(x)).flip(0), together, "logits depend on the order of the rows")


def the_input_is_left_as_it_was(model: TorchModel) -> None:
    """Neither forward nor embed writes into its input, in training or in evaluation mode."""
    network, x = _network(model), make_input(_spec(model), ROWS)
    before = copied(x)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for training in (True, False):
            network.train(training)
            network(x)
            network.embed(x)
    expect(equal(x, before), "the network writes into its input")


def a_checkpoint_restores_the_model(model: TorchModel) -> None:
    """Weights written, read as tensors only, and loaded into a network of another seed give the same bytes."""
    network, restored = _network(model, seed=1), _network(model, seed=2)
    x = make_input(_spec(model), ROWS)
    with tempfile.TemporaryDirectory() as folder:
        save_state(network.state_dict(), Path(folder) / "model.pt")
        restored.load_state_dict(load_state(Path(folder) / "model.pt"))
    with torch.no_grad():
        expect(
            torch.equal(network(x), restored(x)),
            "a network restored from its checkpoint gives other logits: keep all it has learned in its state_dict",
        )


def attention_is_declared_where_there_is_some(model: TorchModel) -> None:
    """The network has a method ``attention`` exactly where the model declares the capability."""
    has = callable(getattr(_network(model), "attention", None))
    declared = "attention" in model.capabilities
    expect(has or not declared, "the capability attention is declared, but the network has no method `attention`")
    expect(declared or not has, "the network has a method `attention`; declare the capability attention")


def the_layers_are_those_of_forward(model: TorchModel) -> None:
    """Where the network names its layers (`learning.network.Layered`), their gradients are those of forward."""
    network = _network(model).train()
    x, y = make_input(_spec(model), ROWS), (torch.arange(ROWS) % 2).float()
    chain = chain_of(network, x)
    if chain is None:
        return
    weights = list(network.parameters())
    with own_dropout(network, Masks(0).like):
        expected = torch.autograd.grad(binary_cross_entropy_with_logits(network(x), y), weights)
    scratch = Scratch()
    with torch.no_grad():
        logits, kept = chain.logits(weights, cast(Tensor, copied(x)), Masks(0).drop, scratch)
        found = chain.gradients(weights, kept, slopes(logits, y, None) / ROWS, scratch)
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(found, expected, strict=True))
    expect(same, "the gradients of `chain()` in a row are not those of forward: name all that forward calls, in order")


def overfits_64_rows(model: TorchModel) -> None:
    """Adam brings the loss of 64 rows with random labels below 0.1 within 400 steps, at one of two learning rates."""
    x, y = make_input(_spec(model), ROWS), (torch.arange(ROWS) % 2).float()
    losses = []
    for rate in LEARNING_RATES:
        losses.append(_loss_after_fitting(_network(model), x, y, rate))
        if losses[-1] < 0.1:
            return
    told = " and ".join(f"{loss:.3f} at rate {rate:g}" for loss, rate in zip(losses, LEARNING_RATES, strict=True))
    raise AssertionError(f"the loss of 64 rows is still {told} after {STEPS} steps of Adam; it should fall below 0.1")


def gradients_reach_every_input(model: TorchModel) -> None:
    """Each channel (at each step) has a finite gradient that is not zero for some row."""
    network = _network(model)
    x, tensors = differentiable(make_input(_spec(model), ROWS))
    gradients = torch.autograd.grad(network(x).sum(), tensors, allow_unused=True, materialize_grads=True)
    for gradient in gradients:
        expect(bool(torch.isfinite(gradient).all()), "the gradient by the input is NaN or infinite")
        idle = (gradient == 0).all(dim=0).nonzero().tolist()
        expect(not idle, f"no gradient reaches {len(idle)} inputs, the first at {idle[0] if idle else None}")


def attention_rows_sum_to_one(model: TorchModel) -> None:
    """``attention(x)`` is one (batch, heads, tokens, tokens) tensor a layer; its rows are shares that sum to 1."""
    x = make_input(_spec(model), ROWS)
    with torch.no_grad():
        layers = _network(model).attention(x)
    expect(isinstance(layers, list) and len(layers) > 0, "attention(x) should be a list with a tensor for each layer")
    for number, weights in enumerate(layers):
        shape = tuple(weights.shape)
        square = len(shape) == 4 and shape[0] == ROWS and shape[2] == shape[3]
        expect(square, f"attention of layer {number} is {shape}; give (batch, heads, tokens, tokens)")
        expect(bool((weights >= 0).all()), f"attention of layer {number} has negative weights")
        sums = weights.sum(dim=-1)
        expect(bool(((sums - 1).abs() < 1e-5).all()), f"rows of the attention of layer {number} do not sum to 1")


RULES: Sequence[Callable[[TorchModel], None]] = (
    shapes_are_those_of_the_contract,
    head_of_embed_is_forward,
    the_seed_decides_the_weights,
    evaluation_is_deterministic,
    rows_do_not_depend_on_their_batch,
    the_input_is_left_as_it_was,
    a_checkpoint_restores_the_model,
    attention_is_declared_where_there_is_some,
    the_layers_are_those_of_forward,
    overfits_64_rows,
)
BY_CAPABILITY: Sequence[tuple[Capability, Callable[[TorchModel], None]]] = (
    ("gradient", gradients_reach_every_input),
    ("attention", attention_rows_sum_to_one),
)


def _spec(model: TorchModel) -> Spec:
    return specs_of(model)[0]


def _network(model: TorchModel, spec: Spec | None = None, seed: int = 0) -> Any:
    """A fresh network in evaluation mode. `Any`: what the contract promises of it is what is checked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = model.build(spec or _spec(model))
    return network.eval()


def _loss_after_fitting(network: Any, x: Inputs, y: Tensor, rate: float) -> float:
    """Loss in evaluation mode once below 0.1, else after the last step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    loss = float("inf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in range(1, STEPS + 1):
            network.train()
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % 10 == 0:
                network.eval()
                with torch.no_grad():
                    loss = float(binary_cross_entropy_with_logits(network(x), y))
                if loss < 0.1:
                    break
    return loss


def _expect_close(found: Tensor, expected: Tensor, message: str) -> None:
    expect(found.shape == expected.shape, f"{message} (shapes {tuple(found.shape)} and {tuple(expected.shape)})")
    difference = float((found - expected).abs().max())
    largest = max(1.0, float(expected.abs().max()))
    expect(difference <= TOLERANCE * largest, f"{message} (by up to {difference:.3g})")
