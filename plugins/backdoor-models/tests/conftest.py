from pathlib import Path

import pytest
import torch

from backdoor_core.contracts import Context


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build():
    """A network in evaluation mode of a model class, a spec and options, the same at every call."""

    def _build(model, spec, **options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return model(model.Options(**options), Context(Path())).build(spec).eval()

    return _build
