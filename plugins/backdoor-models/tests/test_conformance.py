"""What the bench demands of every model, and what holds for the distribution as a whole."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from backdoor_core.contracts import InputSpec
from backdoor_core.plugins import discover
from backdoor_core.testing import model_checks
from backdoor_models import GBDT, GRU, LSTM, MLP, TCN, EventTransformer, FTTransformer, Logistic, TabTransformer

ALL = (Logistic, GBDT, MLP, TabTransformer, FTTransformer, LSTM, GRU, TCN, EventTransformer)
TABLE = InputSpec(tuple(f"f{i}" for i in range(30)), blocks=2)
SERIES = InputSpec(tuple(f"f{i}" for i in range(30)), blocks=3, steps=24)


@pytest.mark.parametrize("check", model_checks(*ALL))
def test_conformance(check):
    check()


def test_the_distribution_registers_its_nine_models_with_their_view_and_capabilities():
    catalog = discover(entry_points(group="backdoor_core", name="models"), environ={})
    assert catalog.broken == ()
    registered = {r.name: (r.component.modality, r.component.capabilities) for r in catalog.registrations()}
    torch_model = frozenset({"embedding", "gradient"})
    assert registered == {
        "event_transformer": ("events", torch_model | {"attention"}),
        "ft_transformer": ("table", torch_model | {"attention"}),
        "gbdt": ("table", frozenset()),
        "gru": ("series", torch_model),
        "logistic": ("table", torch_model),
        "lstm": ("series", torch_model),
        "mlp": ("table", torch_model),
        "tab_transformer": ("table", torch_model | {"attention"}),
        "tcn": ("series", torch_model),
    }


def test_listing_the_models_imports_neither_torch_nor_scikit_learn():
    code = "import sys, backdoor_models; print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (Logistic, 60 + 1),
        (MLP, 60 * 512 + 512 + 512 * 256 + 256 + 256 * 128 + 128 + 128 + 1),
        # 4 gates (3 of the GRU), each with weights from input and state and two biases
        (LSTM, 4 * (90 * 64 + 64 * 64 + 2 * 64) + 128 + 1),
        (GRU, 3 * (90 * 64 + 64 * 64 + 2 * 64) + 128 + 1),
        # 3 blocks see 29 hours: first 90 -> 64 channels with a 1x1 convolution beside it, each kernel with its length
        (TCN, 3 * 64 * (90 + 5 * 64) + 6 * (64 + 64) + 90 * 64 + 64 + 128 + 1),
        (
            TabTransformer,
            30 * 3 * 32
            + 2 * (4 * (32 * 32 + 32) + 32 * 128 + 128 + 128 * 32 + 32 + 4 * 32)
            + (32 * 128 + 128 + 128 * 64 + 64 + 64 + 1),
        ),
        # 64 * 4 / 3 = 85 hidden units; the first block has one norm less, and there is one at the end
        (FTTransformer, 30 * 3 * 64 + 64 + 2 * (4 * (64 * 64 + 64) + 64 * 170 + 170 + 85 * 64 + 64) + 4 * 128 + 64 + 1),
    ],
)
def test_number_of_parameters_at_the_defaults(build, model, count):
    network = build(model, SERIES if model.modality == "series" else TABLE)
    assert sum(p.numel() for p in network.parameters()) == count
