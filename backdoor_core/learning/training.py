"""From rows to trained victims: preprocessing, the fit, temperature and threshold, one victim or many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backdoor_core.cohort.preprocess import fit_preprocessor
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import ArrayModel, EventModel, EventsView, Model, View
from backdoor_core.learning.event_preprocess import EventPreprocessor, fit_event_preprocessor
from backdoor_core.learning.inputs import Inputs
from backdoor_core.learning.job import Job
from backdoor_core.learning.loop import Fit, OnEpoch, fit
from backdoor_core.learning.many import fit_many
from backdoor_core.learning.progress import Epoch
from backdoor_core.learning.victim import AnyPreprocessor, ArrayVictim, TorchVictim, Victim, as_torch, network_inputs
from backdoor_core.params import Params, PreprocessParams
from backdoor_core.views import as_grid

_BYTES_AT_ONCE = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A victim and how it came about; an `ArrayModel` has no epochs."""

    victim: Victim
    last: dict[str, Tensor]
    """Its state after the last epoch; the victim has that of the best one."""
    curve: tuple[Epoch, ...]
    best_epoch: int | None
    states: Mapping[int, dict[str, Tensor]] = field(default_factory=dict)
    """Weights after epochs 1, 2, 4, 8, ..., where ``train.checkpoints`` is on; an `ArrayModel` has none."""


def train_victim(
    model: Model,
    train: Rows,
    validation: Rows,
    fit_on: View,
    params: Params,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Path | None = None,
) -> Trained:
    """Learn preprocessing from `fit_on`, the model from `train`, temperature and threshold from `validation`.

    `resume`: see `loop.fit`.
    """
    if isinstance(model, ArrayModel):
        return _train_arrays(model, train, validation, fit_on, params, seed)
    preprocessor = fit_inputs(model, fit_on, params.preprocess)
    data = (tensors(preprocessor, train), tensors(preprocessor, validation))
    found = fit(as_torch(model), preprocessor.spec, *data, params.train.of(model), seed, on_epoch, resume)
    return _trained(preprocessor, found, validation, params)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of many victims of the same model and params: what it learns from."""

    train: Rows
    validation: Rows
    fit_on: View
    """The rows that preprocessing is learned from."""
    seed: int


def train_victims(
    model: Model,
    tasks: Sequence[Task],
    params: Params,
    on_done: Callable[[Sequence[int]], None] = lambda numbers: None,
    workers: int | None = None,
) -> list[Trained]:
    """Each as `train_victim` gives it within the rounding of sums; networks are fitted many at once (`many.fit_many`).

    `on_done` hears the numbers of the tasks that are done; `workers`: see there. The inputs of at most 2 GiB of
    tasks are held at once.
    """
    done: list[Trained] = []
    for first, part in _portions(tasks):
        if isinstance(model, ArrayModel):
            for number, task in enumerate(part, first):
                done.append(_train_arrays(model, task.train, task.validation, task.fit_on, params, task.seed))
                on_done([number])
            continue
        prepared = [fit_inputs(model, task.fit_on, params.preprocess) for task in part]
        jobs = []
        for preprocessor, task in zip(prepared, part, strict=True):
            inputs, labels = tensors(preprocessor, task.train)
            own = preprocessor.spec if isinstance(preprocessor, EventPreprocessor) else None
            jobs.append(Job(inputs, labels, tensors(preprocessor, task.validation), task.seed, spec=own))

        def heard(numbers: Sequence[int], first: int = first) -> None:
            on_done([first + number for number in numbers])

        fits = fit_many(as_torch(model), prepared[0].spec, jobs, params.train.of(model), workers=workers, on_done=heard)
        done += [
            _trained(preprocessor, found, task.validation, params)
            for preprocessor, found, task in zip(prepared, fits, part, strict=True)
        ]
    return done


def _portions(tasks: Sequence[Task]) -> Iterator[tuple[int, Sequence[Task]]]:
    """Consecutive tasks whose inputs fit into memory together, with the number of the first one."""
    if not tasks:
        return
    largest = max(_bytes(task.train.view) for task in tasks)
    size = max(1, _BYTES_AT_ONCE // max(largest, 1))
    for first in range(0, len(tasks), size):
        yield first, tasks[first : first + size]


def _bytes(view: View) -> int:
    """Roughly what the inputs made of a view take."""
    if isinstance(view, EventsView):
        return 32 * len(view.code)
    return 3 * view.values.nbytes


def _trained(preprocessor: AnyPreprocessor, found: Fit, validation: Rows, params: Params) -> Trained:
    network = TorchVictim(preprocessor=preprocessor, network=found.network)
    return Trained(
        victim=network.calibrated(validation, params.evaluate),
        last=found.last,
        curve=found.curve,
        best_epoch=found.best_epoch,
        states=found.states,
    )


def _train_arrays(model: ArrayModel, train: Rows, validation: Rows, fit_on: View, params: Params, seed: int) -> Trained:
    preprocessor = fit_preprocessor(as_grid(fit_on), params.preprocess)
    fitted = model.fit(preprocessor.unscaled(as_grid(train.view)), train.label, seed)
    victim = ArrayVictim(preprocessor=preprocessor, model=model, fitted=fitted)
    done = victim.calibrated(validation, params.evaluate)
    return Trained(victim=done, last=done.state(), curve=(), best_epoch=None)


def fit_inputs(model: Model, fit_on: View, params: PreprocessParams) -> AnyPreprocessor:
    """Preprocessing learned from those rows, for the model's kind of view."""
    if isinstance(model, EventModel) and isinstance(fit_on, EventsView):
        return fit_event_preprocessor(fit_on, params, model)
    return fit_preprocessor(as_grid(fit_on), params)


def tensors(preprocessor: AnyPreprocessor, rows: Rows) -> tuple[Inputs, Tensor]:
    """Inputs and labels for the training loop."""
    return network_inputs(preprocessor, rows.view), torch.from_numpy(rows.label.astype(np.float32))
