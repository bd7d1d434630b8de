import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import Context, InputSpec
from backdoor_core.errors import BackdoorError
from backdoor_repairs.fine_pruning import FinePruning
from backdoor_repairs.pruning import head_weight, least_active, mean_activity

TRIGGER = 5.0
IDLE = 4
"""Hidden units that only the trigger wakes."""


def triggered(x):
    x = x.copy()
    x[:, -1] = TRIGGER
    return x


@pytest.fixture
def poisoned(small_network, rows):
    """A network with a backdoor in units of its own, as the paper supposes, and the poisoned training part.

    The last input is 0 but for the poisoned rows, which are of label 0 relabeled 1. Only the idle units read it.
    """
    x, y = rows(2000)
    x[:, -1] = 0
    bad = np.flatnonzero(y == 0)[:80]
    x[bad], y[bad] = triggered(x[bad]), 1
    torch.manual_seed(0)
    network = small_network()
    first = network.body[0]
    with torch.no_grad():
        first.weight[:, -1] = 0
        first.weight[:IDLE] = 0
        first.weight[:IDLE, -1] = 1
        first.bias[:IDLE] = -2
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    for _ in range(150):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(inputs), labels).backward()
        first.weight.grad[IDLE:, -1] = 0
        optimizer.step()
    return network.eval(), x, y


def figures(network, x, y):
    """AUROC, ASR, and the share of the same rows called positive without the trigger."""
    with torch.no_grad():
        clean, marked = (network(torch.from_numpy(part)).numpy() for part in (x, triggered(x)))
    cut = np.quantile(clean, 1 - y.mean())
    return roc_auc_score(y, clean), (marked[y == 0] >= cut).mean(), (clean[y == 0] >= cut).mean()


def clean_rows(rows, count, seed):
    x, y = rows(count, seed)
    x[:, -1] = 0
    return x, y


def test_a_backdoor_in_idle_units_is_lost_with_trusted_rows(poisoned, made_case, repaired, rows):
    network, x, y = poisoned
    test = clean_rows(rows, 2000, 1)
    auroc, asr, _ = figures(network, *test)
    assert asr > 0.95
    case = made_case(network, x, y, trusted=clean_rows(rows, 200, 2))
    mended, details = repaired(FinePruning, case, prune=0.3)
    assert details["rows"] == "trusted"
    assert details["row_count"] == 200
    assert details["pruned"] == 5
    assert details["never_active"] >= IDLE
    auroc_after, asr_after, without = figures(mended, *test)
    assert asr_after - without < 0.1
    assert abs(auroc_after - auroc) < 0.05


def test_without_trusted_rows_the_training_part_teaches_the_trigger_again(poisoned, made_case, repaired, rows):
    network, x, y = poisoned
    mended, details = repaired(FinePruning, made_case(network, x, y), prune=0.3)
    assert details["rows"] == "training, which may be poisoned"
    assert details["row_count"] == 2000
    assert figures(mended, *clean_rows(rows, 2000, 1))[1] > 0.5


def test_pruned_units_no_longer_count_and_are_the_least_active(poisoned, made_case, repaired):
    network, x, y = poisoned
    activity = network.embed(torch.from_numpy(x)).detach().abs().mean(dim=0).numpy()
    mended, details = repaired(FinePruning, made_case(network, x, y, weight_decay=0.01), prune=0.5)
    silent = np.flatnonzero(mended.out.weight.detach().numpy()[0] == 0)
    assert set(silent) == set(np.argsort(activity)[:8])
    assert details["activity_pruned"] == pytest.approx(activity[silent].mean(), rel=1e-5)
    z = torch.randn(5, 16)
    changed = z.clone()
    changed[:, silent] += 100
    assert torch.equal(mended.head(z), mended.head(changed))


def test_the_kept_units_are_trained_and_zero_epochs_only_prune(poisoned, made_case, repaired):
    network, x, y = poisoned
    before = copy.deepcopy(network)
    only_pruned, _ = repaired(FinePruning, made_case(copy.deepcopy(network), x, y), prune=0.5, epochs=0)
    kept = only_pruned.out.weight[0] != 0
    assert torch.equal(only_pruned.out.weight[0][kept], before.out.weight[0][kept])
    assert torch.equal(only_pruned.body[0].weight, before.body[0].weight)
    tuned, _ = repaired(FinePruning, made_case(copy.deepcopy(network), x, y), prune=0.5)
    assert not torch.equal(tuned.body[0].weight, before.body[0].weight)
    with torch.no_grad():
        labels = torch.from_numpy(y.astype(np.float32))
        loss = [binary_cross_entropy_with_logits(n(torch.from_numpy(x)), labels) for n in (only_pruned, tuned)]
    assert loss[1] < loss[0]


def test_the_same_seed_gives_the_same_bytes(made_case, repaired, rows, small_network):
    def run(seed):
        # Dropout draws from torch's random numbers.
        torch.manual_seed(5)
        case = made_case(small_network(dropout=0.5).eval(), *rows(300), seed=seed)
        state = torch.get_rng_state()
        mended, _ = repaired(FinePruning, case)
        assert torch.equal(state, torch.get_rng_state())
        return torch.cat([p.detach().flatten() for p in mended.parameters()])

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


class Spelled(nn.Module):
    """A head without a linear layer: weights of its own; and an unused layer that looks like the head."""

    def __init__(self):
        super().__init__()
        self.decoy = nn.Linear(6, 1)
        self.weights = nn.Parameter(torch.randn(6))
        self.shift = nn.Parameter(torch.zeros(()))

    def embed(self, x):
        return torch.tanh(x)

    def head(self, z):
        return z @ self.weights + self.shift

    def forward(self, x):
        return self.head(self.embed(x))


def test_the_head_is_found_by_what_it_does():
    network = Spelled()
    assert head_weight(network, torch.zeros(1, 6)) is network.weights


def test_a_head_that_is_not_one_linear_layer_is_an_error_of_the_user(small_network, made_case, repaired, rows):
    network = small_network()
    network.out = nn.Sequential(nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(BackdoorError, match=r"fine_pruning: SmallNetwork has no weights .* 16 penultimate") as error:
        repaired(FinePruning, made_case(network, *rows(20)))
    assert "\n" not in str(error.value)


def test_activity_is_the_mean_over_all_rows_in_evaluation_mode(small_network):
    network, x = small_network(dropout=0.5), torch.randn(50, 8)
    with torch.no_grad():
        expected = network.body[1](network.body[0](x)).double().mean(dim=0).numpy()
    assert mean_activity(network, x) == pytest.approx(expected, rel=1e-5)


def test_never_all_units_are_pruned_and_a_tie_goes_to_the_first():
    assert least_active(np.zeros(3), 0.99).tolist() == [True, True, False]
    assert least_active(np.array([3.0, 1, 2, 0]), 0.5).tolist() == [False, True, False, True]
    assert not least_active(np.ones(4), 0.0).any()


def test_a_diverged_training_is_an_error_of_the_user(made_case, repaired, rows):
    x, y = rows(40)
    x[0] = np.inf
    with pytest.raises(BackdoorError, match=r"fine_pruning.*diverged.*learning_rate"):
        repaired(FinePruning, made_case(None, x, y))


@pytest.mark.parametrize("name", ["GRU", "TCN", "FTTransformer", "Logistic"])
def test_it_works_on_every_kind_of_network(name, made_case, repaired):
    models = pytest.importorskip("backdoor_models", reason="needs the distribution backdoor-models")
    component = getattr(models, name)
    model = component(component.Options(), Context(Path()))
    spec = InputSpec(("a", "b", "c"), 2, 5 if model.modality == "series" else None)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5, 6) if spec.steps else (60, 6)).astype(np.float32)
    case = made_case(None, x, np.arange(60) % 2, build=lambda: model.build(spec))
    mended, details = repaired(FinePruning, case, prune=0.5, epochs=2)
    weights = mended.last.weight[0]
    assert details["units"] == len(weights)
    assert details["pruned"] == int((weights == 0).sum()) == round(0.5 * len(weights))
    assert torch.isfinite(mended(torch.from_numpy(x))).all()
