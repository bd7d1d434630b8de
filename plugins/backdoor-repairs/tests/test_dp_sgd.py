import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import Context, InputSpec
from backdoor_core.errors import BackdoorError
from backdoor_repairs.dp_sgd import DPSGD


def test_without_opacus_the_study_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(BackdoorError, match=r'dp_sgd needs Opacus.*pip install "backdoor-repairs\[dp\]"') as error:
        DPSGD(DPSGD.Options(), Context(Path()))
    assert "\n" not in str(error.value)


pytest.importorskip("opacus", reason='Opacus is not installed: pip install "backdoor-repairs[dp]"')

from opacus.accountants import PRVAccountant, RDPAccountant  # noqa: E402
from opacus.optimizers import DPOptimizer  # noqa: E402

from backdoor_repairs import private_training  # noqa: E402
from backdoor_repairs.private_training import plan_privacy, rowwise, train_privately  # noqa: E402


def planned(rows=1000, batch_size=100, epochs=3, noise=1.0, epsilon=None, delta=None, accountant="rdp"):
    return plan_privacy(
        rows=rows,
        batch_size=batch_size,
        epochs=epochs,
        noise_multiplier=noise,
        epsilon=epsilon,
        delta=delta,
        accountant=accountant,
    )


@pytest.mark.parametrize(("name", "accountant"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_is_that_of_the_accountant_fed_step_by_step(name, accountant, made_case, repaired, rows, monkeypatch):
    fed, step = accountant(), DPOptimizer.add_noise

    def counted(optimizer):
        fed.step(noise_multiplier=optimizer.noise_multiplier, sample_rate=0.2)
        return step(optimizer)

    monkeypatch.setattr(DPOptimizer, "add_noise", counted)
    options = {"noise_multiplier": 1.3, "accountant": name, "epochs": 2}
    _, details = repaired(DPSGD, made_case(None, *rows(300)), **options)
    assert details["sample_rate"] == 0.2
    assert details["steps"] == 10
    assert details["delta"] == pytest.approx(300**-1.1)
    assert details["epsilon"] == pytest.approx(fed.get_epsilon(delta=300**-1.1), rel=1e-6)


def test_epsilon_of_full_batches_is_the_closed_form():
    # Without sampling the Renyi divergence of order a is steps * a / (2 sigma^2) (Mironov 2017, proposition 7),
    # and it becomes epsilon as in Balle et al. 2020, theorem 21.
    sigma, steps, delta = 4.0, 7, 1e-4
    orders = np.array(RDPAccountant.DEFAULT_ALPHAS, dtype=float)
    bound = steps * orders / (2 * sigma**2) + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    found = planned(rows=50, batch_size=50, epochs=steps, noise=sigma, delta=delta)
    assert found.sample_rate == 1
    assert found.epsilon == pytest.approx(bound.min(), rel=1e-6)


def test_epsilon_falls_with_noise_and_rises_with_epochs():
    by_noise = [planned(noise=noise).epsilon for noise in (0.5, 1.0, 4.0)]
    assert sorted(by_noise, reverse=True) == by_noise
    by_epochs = [planned(epochs=epochs).epsilon for epochs in (1, 25)]
    assert sorted(by_epochs) == by_epochs
    assert len({*by_noise, *by_epochs}) == 5


def test_prv_is_the_tighter_bound():
    assert planned(accountant="prv").epsilon < planned(accountant="rdp").epsilon


def test_a_budget_is_kept_with_little_to_spare():
    found = planned(epsilon=2.0)
    assert 1.9 < found.epsilon <= 2.0
    assert planned(noise=found.noise_multiplier * 0.98).epsilon > 2.0


def test_a_budget_that_no_noise_keeps_to_is_an_error_of_the_user():
    with pytest.raises(BackdoorError, match="no noise keeps to epsilon 1e-09"):
        planned(epsilon=1e-9)


def test_without_noise_nothing_is_guaranteed(made_case, repaired, rows):
    _, details = repaired(DPSGD, made_case(None, *rows(100)), noise_multiplier=0, epochs=1)
    assert details["epsilon"] is None


def test_one_step_is_clipped_noised_adam(made_case, rows, small_network):
    """A full batch without noise: the mean of the clipped gradients, each taken by itself, moves the weights."""
    x, y = rows(30)
    case = made_case(None, x, y, learning_rate=0.01)
    start = case.fresh(int(np.random.default_rng(0).integers(2**63, size=3)[0]))
    total = [torch.zeros_like(p) for p in start.parameters()]
    for row, label in zip(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)), strict=True):
        loss = binary_cross_entropy_with_logits(start(row[None]), label[None])
        gradient = torch.autograd.grad(loss, list(start.parameters()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradient))
        for whole, part in zip(total, gradient, strict=True):
            whole += part * min(1.0, 0.1 / (float(norm) + 1e-6))
    optimizer = torch.optim.AdamW(start.parameters(), lr=0.01, weight_decay=0.0)
    for parameter, whole in zip(start.parameters(), total, strict=True):
        parameter.grad = whole / 30
    optimizer.step()
    privacy = planned(rows=30, batch_size=30, epochs=1, noise=0.0)
    trained = train_privately(case, privacy, max_grad_norm=0.1, learning_rate=0.01)
    for found, expected in zip(trained.parameters(), start.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_noise_has_the_scale_that_epsilon_supposes(made_case, rows, monkeypatch):
    seen, step = [], DPOptimizer.add_noise

    def watched(optimizer):
        summed = [p.summed_grad.clone() for p in optimizer.params]
        step(optimizer)
        seen.extend((p.grad - s).flatten() for p, s in zip(optimizer.params, summed, strict=True))

    monkeypatch.setattr(DPOptimizer, "add_noise", watched)
    train_privately(made_case(None, *rows(200)), planned(rows=200, batch_size=20, noise=1.5), 0.4, 1e-3)
    noise = torch.cat(seen)
    assert float(noise.std()) == pytest.approx(1.5 * 0.4, rel=0.05)


def test_portions_of_a_batch_do_not_matter(made_case, rows, monkeypatch):
    def weights():
        trained = train_privately(made_case(None, *rows(200)), planned(rows=200, batch_size=50), 0.5, 1e-3)
        return torch.cat([p.detach().flatten() for p in trained.parameters()])

    whole = weights()
    monkeypatch.setattr(private_training, "_NUMBERS_AT_ONCE", 7 * 161)
    assert torch.allclose(weights(), whole, atol=1e-5)


def test_an_empty_batch_is_a_step_of_noise(made_case, rows):
    # Each step takes a row with chance 1/3: some of 90 steps take none of 3.
    privacy = planned(rows=3, batch_size=1, epochs=30, noise=0.5)
    trained = train_privately(made_case(None, *rows(3)), privacy, 1.0, 1e-3)
    assert all(torch.isfinite(p).all() for p in trained.parameters())


def test_the_same_seed_gives_the_same_bytes_and_no_hooks_stay(made_case, repaired, rows, small_network):
    def run(seed):
        case = made_case(None, *rows(70), build=lambda: small_network(dropout=0.3), seed=seed)
        state = torch.get_rng_state()
        mended, _ = repaired(DPSGD, case, epochs=1)
        assert torch.equal(state, torch.get_rng_state())
        assert not any(m._forward_hooks or m._backward_hooks for m in mended.modules())
        assert not any(hasattr(p, "grad_sample") for p in mended.parameters())
        return torch.cat([p.detach().flatten() for p in mended.parameters()])

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_it_learns(made_case, repaired, rows):
    mended, details = repaired(DPSGD, made_case(None, *rows(1000)), epochs=5, learning_rate=0.03)
    test_x, test_y = rows(2000, seed=1)
    with torch.no_grad():
        logits = mended(torch.from_numpy(test_x)).numpy()
    positive, negative = logits[test_y == 1], logits[test_y == 0]
    assert (positive[:, None] > negative).mean() > 0.75
    assert details["epsilon"] < 10


class Mixing(nn.Module):
    """Every row sees the mean of its batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 1)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return self.layer((x - x.mean(dim=0)) * self.scale).squeeze(-1)


class Around(nn.Module):
    """A layer whose weights are used without calling it."""

    def __init__(self):
        super().__init__()
        self.first, self.layer = nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        return nn.functional.linear(self.first(x), self.layer.weight, self.layer.bias).squeeze(-1)


class Normalized(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))


@pytest.mark.parametrize("build", [Mixing, Around, Normalized])
def test_a_network_without_gradients_by_row_is_an_error_of_the_user(build, made_case, repaired, rows):
    match = rf"dp_sgd: Opacus cannot train the network {build.__name__}: .*choose another model"
    with pytest.raises(BackdoorError, match=match) as error:
        repaired(DPSGD, made_case(None, *rows(50), build=build))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "works"),
    [
        ("TCN", {}, True),
        ("TabTransformer", {}, True),
        ("FTTransformer", {"hidden_dropout": 0.0}, True),
        ("FTTransformer", {"hidden_dropout": 0.1}, False),
        ("GRU", {}, False),
    ],
)
def test_which_bundled_models_it_takes(name, options, works, rows):
    models = pytest.importorskip("backdoor_models", reason="needs the distribution backdoor-models")
    component = getattr(models, name)
    model = component(component.Options(**options), Context(Path()))
    spec = InputSpec(("a", "b", "c"), 2, 5 if model.modality == "series" else None)
    x = torch.randn((6, 5, 6) if spec.steps else (6, 6))
    network = model.build(spec).train()
    if not works:
        with pytest.raises(BackdoorError, match=f"network {type(network).__name__}"):
            rowwise(network, x, torch.ones(6))
        return
    rowwise(network, x, torch.ones(6))


def test_delta_is_one_over_rows_to_the_power_of_a_little_over_one():
    assert math.isclose(planned(rows=1000).delta, 1 / 1000**1.1)
    assert planned(delta=1e-5).delta == 1e-5
