import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from backdoor_core.contracts import Context, RepairCase, Retrained


class SmallNetwork(nn.Module):
    """One hidden ReLU layer, and a head that is no method of a base class and bears another name."""

    def __init__(self, channels=8, hidden=16, dropout=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = nn.Linear(hidden, 1)

    def embed(self, x):
        return self.body(x)

    def head(self, z):
        return self.out(z).squeeze(-1)

    def forward(self, x):
        return self.head(self.embed(x))


def _refuse(changes):
    raise AssertionError("this repair must not retrain")


def _made_case(network, inputs, labels, *, build=SmallNetwork, trusted=None, retrain=_refuse, seed=0, **changed):
    def fresh(number):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            return build()

    settings = {"batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.0, "epochs": 3} | changed
    return RepairCase(
        inputs=inputs,
        labels=labels,
        trusted=trusted,
        network=fresh(0).eval() if network is None else network,
        fresh=fresh,
        retrain=retrain,
        rng=np.random.default_rng(seed),
        **settings,
    )


@pytest.fixture
def made_case():
    """A repair case of a network (None: a fresh one), inputs and labels."""
    return _made_case


@pytest.fixture
def repaired():
    """Run a repair with options on a case; its details must be JSON."""

    def run(repair, case, **options):
        mended, details = repair(repair.Options(**options), Context(Path())).repair(case)
        json.dumps(dict(details), allow_nan=False)
        if not isinstance(mended, Retrained):
            assert not mended.training
        return mended, details

    return run


@pytest.fixture
def small_network():
    return SmallNetwork


@pytest.fixture
def rows():
    """Some inputs (N, 8), and labels that the first two drive."""

    def draw(count, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(count, 8)).astype(np.float32)
        y = (rng.random(count) < 1 / (1 + np.exp(1 - 1.5 * x[:, 0] - x[:, 1]))).astype(np.int8)
        return x, y

    return draw


@pytest.fixture(autouse=True)
def one_thread():
    """Quick on a shared machine, and the same sums everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
