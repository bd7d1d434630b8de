import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from backdoor_core.contracts import Context, ExplainCase
from backdoor_core.plugins import discover


class LinearNetwork(nn.Module):
    """Known weights (channels,) on a table, or (hours, channels) on a series."""

    def __init__(self, weight, bias=0.5):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.asarray(weight), dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(dim=1) + self.bias


def _predict_with(network, sign=1.0):
    def predict(rows):
        with torch.no_grad():
            return (sign * network(torch.from_numpy(np.array(rows, np.float32)))).double().numpy()

    return predict


def _made_case(network, inputs, baselines, *, features=None, predict=None, seed=0, sign=1.0, **changed):
    settings = {"steps": 20, "rows_at_once": 1000} | changed
    inputs, baselines = np.asarray(inputs, np.float32), np.asarray(baselines, np.float32)
    for given in (inputs, baselines):
        given.flags.writeable = False
    return ExplainCase(
        inputs=inputs,
        baselines=baselines,
        predict=predict or _predict_with(network, sign),
        network=network,
        sign=sign,
        features=inputs.shape[-1] if features is None else features,
        rng=np.random.default_rng(seed),
        **settings,
    )


@pytest.fixture
def made_case():
    """A case of a network (None: give `predict`), inputs and baselines; the arrays are read-only."""
    return _made_case


@pytest.fixture
def explain():
    """Run an explainer with options on a case and check what holds for every answer."""

    def run(explainer, case, **options):
        found = explainer(explainer.Options(**options), Context(Path())).attribute(case)
        assert found.values.shape == case.inputs.shape
        assert found.values.dtype == np.float32
        assert np.isfinite(found.values).all()
        assert found.delta is None or found.delta.shape == (len(case.inputs),)
        json.dumps(dict(found.details), allow_nan=False)
        return found

    return run


@pytest.fixture
def linear():
    return LinearNetwork


@pytest.fixture
def small_mlp():
    """Two hidden ReLU layers on so many channels."""

    def build(channels=6):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.Sequential(
                nn.Linear(channels, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)
            ).eval()

    return build


@pytest.fixture(scope="session")
def bundled():
    """An untrained network of the bundled models, for a spec."""
    pytest.importorskip("backdoor_models", reason="backdoor-models is not installed")
    catalog = discover()

    def build(name, spec):
        model = catalog.get("model", name).component(catalog.resolve("model", name, {}), Context(Path()))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return model.build(spec).eval()

    return build


@pytest.fixture
def normal():
    """Standard normal float32 of a shape."""

    def draw(*shape, seed=0):
        return np.random.default_rng(seed).normal(size=shape).astype(np.float32)

    return draw


@pytest.fixture(autouse=True)
def one_thread():
    """Quick on a shared machine, and the same sums everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
