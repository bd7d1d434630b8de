"""A trained model together with the preprocessing and the threshold it is used with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backdoor_core.cohort.preprocess import Preprocessor, fit_preprocessor
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import TorchModel, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, write_json
from backdoor_core.learning.checkpoint import load_state, save_state
from backdoor_core.learning.loop import Fit, OnEpoch, fit, pick_device
from backdoor_core.learning.network import Network
from backdoor_core.learning.threshold import choose_threshold
from backdoor_core.params import Params

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Victim:
    """Predicts in-hospital death from a view in raw clinical units."""

    network: nn.Module
    preprocessor: Preprocessor
    threshold: float
    """Probability from which on a stay is called positive."""

    def probability(self, view: View) -> NDArray[np.float64]:
        """(N,) probability of label 1."""
        logits = [self.network(x).double() for x in self._batches(view)]
        return cast(NDArray[np.float64], torch.sigmoid(_joined(logits, (0,), torch.float64)).numpy())

    def embedding(self, view: View) -> NDArray[np.float32]:
        """(N, D) penultimate activations: the input of the last linear layer."""
        network = cast(Network, self.network)
        embedded = [network.embed(x).float() for x in self._batches(view)]
        return cast(NDArray[np.float32], _joined(embedded, (0, 0), torch.float32).numpy())

    def decides(self, view: View, target: int) -> NDArray[np.bool_]:
        """(N,) whether each stay is put on the side of `target`."""
        decided: NDArray[np.bool_] = (self.probability(view) >= self.threshold) == bool(target)
        return decided

    def _batches(self, view: View) -> Iterator[Tensor]:
        device = next(self.network.parameters()).device
        with torch.no_grad():
            for start in range(0, len(view), _ROWS_AT_ONCE):
                rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(view)))
                yield torch.from_numpy(self.preprocessor.transform(view.take(rows))).to(device)


def _joined(parts: list[Tensor], empty: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.cat(parts).detach().cpu() if parts else torch.empty(empty, dtype=dtype)


def train_victim(
    model: TorchModel,
    train: Rows,
    validation: Rows,
    fit_on: View,
    params: Params,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
) -> tuple[Victim, Fit]:
    """Learn preprocessing from `fit_on`, weights from `train`, and the threshold from `validation`."""
    preprocessor = fit_preprocessor(fit_on, params.preprocess)
    fitted = fit(
        model,
        preprocessor.spec,
        _tensors(preprocessor, train),
        _tensors(preprocessor, validation),
        params.train,
        seed,
        on_epoch,
    )
    undecided = Victim(network=fitted.network, preprocessor=preprocessor, threshold=0.5)
    probability = undecided.probability(validation.view)
    threshold = choose_threshold(probability, validation.label, params.evaluate.threshold)
    return Victim(network=fitted.network, preprocessor=preprocessor, threshold=threshold), fitted


def _tensors(preprocessor: Preprocessor, rows: Rows) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(preprocessor.transform(rows.view)), torch.from_numpy(rows.label.astype(np.float32))


def save_victim(victim: Victim, directory: Path) -> None:
    """Write `model.pt` (tensors only) and `preprocess.json` (preprocessing and threshold)."""
    directory.mkdir(parents=True, exist_ok=True)
    save_state(victim.network.state_dict(), directory / "model.pt")
    write_json(
        directory / "preprocess.json", {"threshold": victim.threshold, "preprocessor": victim.preprocessor.as_json()}
    )


def load_victim(directory: Path, model: TorchModel, device: str, threads: int) -> Victim:
    """Read what `save_victim` wrote. Raises `BackdoorError` where it is damaged or of another architecture."""
    torch.set_num_threads(threads)
    content = read_json(directory / "preprocess.json")
    preprocessor = Preprocessor.from_json(content["preprocessor"])
    with torch.random.fork_rng():
        network = model.build(preprocessor.spec)
    state = load_state(directory / "model.pt")
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise BackdoorError(
            f"{directory / 'model.pt'}: its weights do not fit model {model.name} with the options in params.yaml; "
            "run `dvc repro`"
        ) from None
    return Victim(network.to(pick_device(device)).eval(), preprocessor, content["threshold"])
