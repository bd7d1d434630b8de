"""Fits in worker processes of one thread each: two OpenMP threads a process collapse where cores are contended."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.inputs import from_tensors, tensors_of
from backdoor_core.learning.job import Job
from backdoor_core.learning.loop import Fit
from backdoor_core.learning.progress import Epoch
from backdoor_core.params import TrainParams
from backdoor_core.workers import context

FitGroup = Callable[[TorchModel, InputSpec | EventSpec, Sequence[Job], TrainParams, Callable[[], None]], list[Fit]]
"""Fits the jobs of one task in this process, calling the last argument after each epoch."""

_Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Result:
    """A `Fit` as plain arrays: a tensor would be sent as a handle that dies with the worker."""

    best: _Weights
    last: _Weights
    curve: tuple[Epoch, ...]
    best_epoch: int
    states: dict[int, _Weights]


class _Stopped(Exception):
    """The parent no longer wants the result."""


def fit_in_pool(
    model: TorchModel,
    spec: InputSpec | EventSpec,
    jobs: Sequence[Job],
    tasks: Sequence[Sequence[int]],
    params: TrainParams,
    fit_group: FitGroup,
    workers: int,
    on_done: Callable[[Sequence[int]], None] = lambda numbers: None,
) -> list[Fit]:
    """Fit the jobs of each task (numbers of jobs) in one of `workers` processes; the fits stand in the jobs' order.

    The jobs' tensors are written once into a temporary file that all workers map into memory. `fit_group` must
    be a function of a module. At the first error, or when interrupted, the workers end with their current epoch.
    Raises `BackdoorError` where the model cannot be sent to another process, and `RuntimeError` with the jobs'
    numbers where a worker failed or died; a `BackdoorError` of a worker stays one.
    """
    sent = _pickled(model)
    processes = context([__name__])
    stop = processes.Event()
    results: dict[int, _Result] = {}
    with TemporaryDirectory(prefix="backdoor-") as folder:
        path = Path(folder) / "jobs.pt"
        torch.save([_stored(job) for job in jobs], path)
        specs = [job.spec for job in jobs]
        setup = (sent, spec, specs, str(path), params.model_copy(update={"threads": 1}), fit_group, stop)
        executor = ProcessPoolExecutor(workers, processes, _set_up, setup)
        try:
            futures = {executor.submit(_run, tuple(task)): task for task in tasks}
            for future in as_completed(futures):
                results.update(zip(futures[future], _result(future, futures[future]), strict=True))
                on_done(futures[future])
        finally:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
    return [_as_fit(model, job.spec or spec, results[number]) for number, job in enumerate(jobs)]


def _stored(job: Job) -> tuple[Any, ...]:
    held_out, truth = job.validation
    return tensors_of(job.inputs), job.labels, tensors_of(held_out), truth, job.seed, job.rows


def _pickled(model: TorchModel) -> bytes:
    try:
        return pickle.dumps(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BackdoorError(
            f"model {model.name} cannot be sent to worker processes ({error}); "
            "define its class at the top of a module, or use one worker"
        ) from None


def _result(future: Future[list[_Result]], task: Sequence[int]) -> list[_Result]:
    try:
        return future.result()
    except BackdoorError as error:
        raise BackdoorError(f"{_named(task)}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{_named(task)} failed in a worker: {type(error).__name__}: {error}") from error


def _named(task: Sequence[int]) -> str:
    return f"job {task[0]}" if len(task) == 1 else f"one of jobs {', '.join(map(str, task))}"


def _as_fit(model: TorchModel, spec: InputSpec | EventSpec, result: _Result) -> Fit:
    with torch.random.fork_rng():
        network = model.build(spec)
    network.load_state_dict(_tensors(result.best))
    states = {epoch: _tensors(state) for epoch, state in result.states.items()}
    return Fit(network.eval(), _tensors(result.last), result.curve, result.best_epoch, states)


def _sent(found: Fit) -> _Result:
    states = {epoch: _arrays(state) for epoch, state in found.states.items()}
    return _Result(_arrays(found.network.state_dict()), _arrays(found.last), found.curve, found.best_epoch, states)


def _arrays(weights: dict[str, Tensor]) -> _Weights:
    return {name: np.asarray(tensor.detach().cpu().numpy()) for name, tensor in weights.items()}


def _tensors(weights: _Weights) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


# ------------------------------------------------------------------------------------------------- in a worker
@dataclass(frozen=True)
class _Work:
    model: TorchModel
    spec: InputSpec | EventSpec
    jobs: list[Job]
    params: TrainParams
    fit_group: FitGroup
    stop: Event

    def check(self) -> None:
        """Raises `_Stopped` once the parent has given up."""
        if self.stop.is_set():
            raise _Stopped


_work: _Work


def _set_up(
    model: bytes,
    spec: InputSpec | EventSpec,
    specs: Sequence[EventSpec | None],
    path: str,
    params: TrainParams,
    fit_group: FitGroup,
    stop: Event,
) -> None:
    global _work
    # Ctrl-C reaches the whole process group; the parent decides, and says so by `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    stored = torch.load(path, mmap=True, weights_only=True)
    jobs = [
        Job(from_tensors(x), labels, (from_tensors(v), truth), seed, rows, own)
        for (x, labels, v, truth, seed, rows), own in zip(stored, specs, strict=True)
    ]
    _work = _Work(pickle.loads(model), spec, jobs, params, fit_group, stop)


def _run(task: tuple[int, ...]) -> list[_Result]:
    jobs = [_work.jobs[number] for number in task]
    fits = _work.fit_group(_work.model, _work.spec, jobs, _work.params, _work.check)
    return [_sent(found) for found in fits]
