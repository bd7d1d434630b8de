"""A trained model together with the preprocessing, the temperature and the threshold it is used with."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from backdoor_core.cohort.preprocess import Preprocessor
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import ArrayModel, EventModel, EventsView, Model, TorchModel, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, write_json
from backdoor_core.learning.calibration import fit_temperature
from backdoor_core.learning.checkpoint import load_state, save_state
from backdoor_core.learning.event_preprocess import EventPreprocessor, text_embedding
from backdoor_core.learning.inputs import Inputs, in_batches
from backdoor_core.learning.loop import pick_device
from backdoor_core.learning.network import Network
from backdoor_core.learning.threshold import choose_threshold
from backdoor_core.params import EvaluateParams
from backdoor_core.views import as_grid

_ROWS_AT_ONCE = 4096

AnyPreprocessor = Preprocessor | EventPreprocessor
"""Of tables and series, or of events."""


@dataclass(frozen=True, kw_only=True)
class Victim(ABC):
    """Predicts the label from a view in raw clinical units."""

    preprocessor: AnyPreprocessor
    temperature: float = 1.0
    threshold: float = 0.5
    """Probability from which on a stay is called positive."""

    @abstractmethod
    def logits(self, view: View) -> NDArray[np.float64]:
        """(N,) log-odds of label 1, before temperature scaling."""

    @abstractmethod
    def inputs(self, view: View) -> Any:
        """What the model reads: an array (N, channels) of a table, (N, T, channels) of a series; an `EventBatch`."""

    def embedding(self, view: View) -> NDArray[np.float32]:
        """(N, D) penultimate activations. Raises `BackdoorError` for a model that has none."""
        raise BackdoorError(f"{type(self).__name__}: this model has no embedding")

    def gradient(self, view: View) -> NDArray[np.float32]:
        """The logit's gradient by each input; the shape of `inputs`. Raises `BackdoorError` where there is none."""
        raise BackdoorError(f"{type(self).__name__}: this model has no gradient")

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that was learned, as tensors."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers were learned."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where it computes: cpu, cuda or mps."""

    def probability(self, view: View) -> NDArray[np.float64]:
        """(N,) probability of label 1. Raises `BackdoorError` where the model's answers are no numbers."""
        logits = self.logits(view)
        lost = int(np.isnan(logits).sum())
        if lost:
            raise BackdoorError(
                f"model {_name_of(self)}: it answers {lost} of {len(logits)} stays with NaN, as its inputs or weights "
                "are too large to compute with; set preprocess.outliers to winsorize, or lower train.learning_rate"
            )
        return np.asarray(expit(logits / self.temperature))

    def decides(self, view: View, target: int) -> NDArray[np.bool_]:
        """(N,) whether each stay is put on the side of `target`. Raises `BackdoorError` as `probability` does."""
        decided: NDArray[np.bool_] = (self.probability(view) >= self.threshold) == bool(target)
        return decided

    def calibrated(self, validation: Rows, params: EvaluateParams) -> Self:
        """The same model with the temperature and the threshold that the validation part gives."""
        logits, temperature = self.logits(validation.view), 1.0
        if params.calibration == "temperature":
            temperature = fit_temperature(logits, validation.label)
        threshold = choose_threshold(np.asarray(expit(logits / temperature)), validation.label, params.threshold)
        return replace(self, temperature=temperature, threshold=threshold)


@dataclass(frozen=True, kw_only=True)
class TorchVictim(Victim):
    """A trained torch network."""

    network: nn.Module

    def logits(self, view: View) -> NDArray[np.float64]:
        """(N,) log-odds of label 1, before temperature scaling."""
        return cast(NDArray[np.float64], self._read(lambda x: self.network(x).double(), view, (0,)).double().numpy())

    def embedding(self, view: View) -> NDArray[np.float32]:
        """(N, D) penultimate activations: the input of the last linear layer."""
        network = cast(Network, self.network)
        return cast(NDArray[np.float32], self._read(lambda x: network.embed(x).float(), view, (0, 0)).numpy())

    def inputs(self, view: View) -> Any:
        """What the network reads: an array (N, channels) of a table, (N, T, channels) of a series; an `EventBatch`."""
        found = network_inputs(self.preprocessor, view)
        return found.numpy() if isinstance(found, Tensor) else found

    def gradient(self, view: View) -> NDArray[np.float32]:
        """The logit's gradient by each input; the shape of `inputs`. Raises `BackdoorError` for events."""
        if isinstance(view, EventsView):
            raise BackdoorError("the gradient by each input is of tables and series; events have no columns")

        def read(x: Inputs) -> Tensor:
            assert isinstance(x, Tensor)
            x = x.clone().requires_grad_()
            # cuDNN has no backward pass for a recurrent network in evaluation mode.
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                total = self.network(x).sum()
            return torch.autograd.grad(total, x)[0]

        return cast(NDArray[np.float32], self._read(read, view, self.inputs(view.take(np.arange(0))).shape).numpy())

    def with_state(self, state: Mapping[str, Tensor]) -> Self:
        """The same architecture, preprocessing, temperature and threshold with other weights."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(state)
        return replace(self, network=network)

    def state(self) -> dict[str, Tensor]:
        """The weights."""
        return self.network.state_dict()

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def device(self) -> str:
        """Where the weights are."""
        return self._place.type

    @property
    def _place(self) -> torch.device:
        return next(self.network.parameters()).device

    def _read(self, read: Callable[[Inputs], Tensor], view: View, empty: tuple[int, ...]) -> Tensor:
        """`read` of all rows, on the CPU; of no row a tensor of the shape `empty`."""
        device = self._place
        found = []
        with torch.no_grad():
            for start in range(0, len(view), _ROWS_AT_ONCE):
                rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(view)))
                inputs = network_inputs(self.preprocessor, view.take(rows)).to(device)
                found.append(in_batches(read, inputs).cpu())
        return torch.cat(found) if found else torch.empty(empty)


@dataclass(frozen=True, kw_only=True)
class ArrayVictim(Victim):
    """A fitted `ArrayModel`."""

    model: ArrayModel
    fitted: Mapping[str, NDArray[Any]]

    def inputs(self, view: View) -> NDArray[np.float32]:
        """What the model reads: (N, F) in clinical units, NaN where missing."""
        return self._arrays(view)

    def logits(self, view: View) -> NDArray[np.float64]:
        """(N,) log-odds of label 1, before temperature scaling."""
        return self.model.logits(self.fitted, self._arrays(view))

    def _arrays(self, view: View) -> NDArray[np.float32]:
        if isinstance(self.preprocessor, EventPreprocessor):
            raise TypeError("fitted arrays are of tables and series")
        return self.preprocessor.unscaled(as_grid(view))

    def state(self) -> dict[str, Tensor]:
        """The arrays of the fitted model."""
        return {name: torch.from_numpy(np.array(array)) for name, array in self.fitted.items()}

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(array.size for array in self.fitted.values())

    @property
    def device(self) -> str:
        """Always the CPU."""
        return "cpu"


def _name_of(victim: Victim) -> str:
    """What a message calls the model: a network does not know the name it has in params.yaml."""
    if isinstance(victim, ArrayVictim):
        return victim.model.name
    return type(victim.network if isinstance(victim, TorchVictim) else victim).__name__


def network_inputs(preprocessor: AnyPreprocessor, view: View) -> Inputs:
    """What a network reads of a view."""
    if isinstance(preprocessor, EventPreprocessor):
        if not isinstance(view, EventsView):
            raise TypeError(f"this model reads events, not a {view.modality}")
        return preprocessor.batch(view)
    return torch.from_numpy(preprocessor.transform(as_grid(view)))


def as_torch(model: Model) -> TorchModel:
    """The model as what it must be. Raises `BackdoorError` for a model of neither kind."""
    if not isinstance(model, TorchModel):
        raise BackdoorError(f"model {model.name}: it must inherit from contracts.TorchModel or contracts.ArrayModel")
    return model


def save_victim(victim: Victim, directory: Path) -> None:
    """Write `model.pt` (tensors only) and `preprocess.json` (preprocessing, temperature and threshold)."""
    directory.mkdir(parents=True, exist_ok=True)
    save_state(victim.state(), directory / "model.pt")
    content = {
        "threshold": victim.threshold,
        "temperature": victim.temperature,
        "preprocessor": victim.preprocessor.as_json(),
    }
    write_json(directory / "preprocess.json", content)


def load_victim(directory: Path, model: Model, device: str, threads: int) -> Victim:
    """Read what `save_victim` wrote. Raises `BackdoorError` where it is damaged or of another architecture."""
    torch.set_num_threads(threads)
    content = read_json(directory / "preprocess.json")
    preprocessor = _preprocessor(content["preprocessor"], model)
    state = load_state(directory / "model.pt")
    rules = {"temperature": content["temperature"], "threshold": content["threshold"]}
    if isinstance(model, ArrayModel):
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        return ArrayVictim(preprocessor=preprocessor, model=model, fitted=arrays, **rules)
    with torch.random.fork_rng():
        network = as_torch(model).build(preprocessor.spec)
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise BackdoorError(
            f"{directory / 'model.pt'}: its weights do not fit model {model.name} with the options in params.yaml; "
            "run `dvc repro`"
        ) from None
    return TorchVictim(preprocessor=preprocessor, network=network.to(pick_device(device)).eval(), **rules)


def _preprocessor(content: Mapping[str, Any], model: Model) -> AnyPreprocessor:
    if isinstance(model, EventModel):
        width, embed = text_embedding(model)
        if content.get("text_width") != width:
            raise BackdoorError(
                f"run: the model was trained with texts of another width than the {width} of its text encoder in "
                "params.yaml; run `dvc repro`"
            )
        return EventPreprocessor.from_json(content, embed)
    return Preprocessor.from_json(content)
