"""Many fits of one architecture that differ in seed, poisoned rows or subset: for sweeps, null runs and audits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.learning.chain import chain_of
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.inputs import Inputs
from backdoor_core.learning.job import Job, check_jobs
from backdoor_core.learning.loop import Fit, fit, pick_device
from backdoor_core.learning.pool import fit_in_pool
from backdoor_core.learning.stacked import fit_stacked
from backdoor_core.params import TrainParams
from backdoor_core.workers import cpus

__all__ = ["Job", "fit_many"]

# Measured with benchmarks/learning.py on two cores, float32, batches of 256.
_STACKED_PARAMETERS = 25_000
"""Above, a step is bound by arithmetic, which alone is done by oneDNN (`products`), and stacks are slower."""
_STACK = 16
"""Models a stack: of twice as many each is no faster, as their activations leave the cache."""
_OPERATIONS_PER_SECOND = 40e9
_SECONDS_PER_STEP = {"autograd": 1e-3, "chain": 0.3e-3, "stack": 0.15e-3}
"""What a model's step takes beside its arithmetic: by autograd, in closed form, and as its share of a stack's."""
_SECONDS_TO_START = 3.0
"""What the processes of a pool take until they fit."""


def fit_many(
    model: TorchModel,
    spec: InputSpec | EventSpec,
    jobs: Sequence[Job],
    params: TrainParams,
    *,
    workers: int | None = None,
    on_done: Callable[[Sequence[int]], None] = lambda numbers: None,
) -> list[Fit]:
    """Fit every job; each result equals `loop.fit` of that job within the rounding of sums.

    Small networks of linear layers are fitted in stacks (`stacked`), all others one by one; both by `workers`
    processes of one thread each. By default that is one for each CPU that this process may use where the fits
    take longer than processes take to start, else none but this one. On a GPU all are fitted one by one, in this
    process. The results stand in the order of the jobs, and are the same bytes for the same jobs, params and
    workers on one machine. `on_done` hears the numbers of the jobs that are done, as they are. Raises `ValueError`
    with the number of a job whose tensors do not fit, and otherwise as `pool.fit_in_pool`. With more than one
    worker the caller's main module must be guarded by ``if __name__ == "__main__"``, as for any use of
    `multiprocessing`.
    """
    check_jobs(jobs, spec)
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, it is {workers}")
    if not jobs:
        return []
    cpu = pick_device(params.device).type == "cpu"
    with torch.random.fork_rng():
        network = model.build(spec)
    chained = cpu and params.precision == "float32" and chain_of(network, jobs[0].inputs) is not None
    stacks = chained and _small(network)
    if workers is None:
        each = _SECONDS_PER_STEP["stack" if stacks else "chain" if chained else "autograd"]
        workers = cpus() if _seconds(network, jobs, params, each) > _SECONDS_TO_START else 1
    tasks = _stacks(jobs, params, workers) if stacks else [[number] for number in range(len(jobs))]
    workers = min(workers, len(tasks))
    if cpu and workers > 1:
        return fit_in_pool(model, spec, jobs, tasks, params, fit_group, workers, on_done)
    fits: dict[int, Fit] = {}
    for task in tasks:
        group = fit_group(model, spec, [jobs[number] for number in task], params)
        fits.update(zip(task, group, strict=True))
        on_done(task)
    return [fits[number] for number in range(len(jobs))]


def fit_group(
    model: TorchModel,
    spec: InputSpec | EventSpec,
    jobs: Sequence[Job],
    params: TrainParams,
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Fit]:
    """Fit the jobs of one task in this process: several as one stack, a single one by `loop.fit`."""
    if len(jobs) > 1:
        return fit_stacked(model, spec, jobs, params, on_epoch)
    job = jobs[0]
    return [fit(model, job.spec or spec, job.train(), job.validation, params, job.seed, lambda epoch: on_epoch())]


def _stacks(jobs: Sequence[Job], params: TrainParams, workers: int) -> list[list[int]]:
    """Numbers of jobs to be stacked: of as many batches each, evenly sized, and with work for every worker."""
    alike: dict[int, list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        alike[_batches(job, params)].append(number)
    stacks = []
    for numbers in alike.values():
        # Those of one number of batches get their share of the workers, and as many stacks for each of these.
        share = math.ceil(workers * len(numbers) / len(jobs))
        count = min(len(numbers), share * math.ceil(len(numbers) / (_STACK * share)))
        cuts = [round(len(numbers) * k / count) for k in range(count + 1)]
        stacks += [numbers[a:b] for a, b in pairwise(cuts)]
    return sorted(stacks, key=len, reverse=True)


def _batches(job: Job, params: TrainParams) -> int:
    return math.ceil(len(job.labels) / params.batch_size)


def _small(network: nn.Module) -> bool:
    return sum(p.numel() for p in network.parameters()) <= _STACKED_PARAMETERS


def _seconds(network: nn.Module, jobs: Sequence[Job], params: TrainParams, each: float) -> float:
    """Roughly how long all jobs take in one process: an estimate, not a measurement, so that it is always the same.

    `each` is what a step of one of them takes beside its arithmetic. A step multiplies each weight three times for
    each stay (forward, gradient by input, gradient by weight), or for each of its hours or events.
    """
    weights = sum(p.numel() for p in network.parameters())
    operations = sum(6 * weights * _times(job.inputs) * len(job.labels) for job in jobs)
    steps = sum(_batches(job, params) for job in jobs)
    return params.epochs * (operations / _OPERATIONS_PER_SECOND + steps * each)


def _times(inputs: Inputs) -> float:
    """Hours of a series, or mean number of events of a stay; 1 of a table."""
    if isinstance(inputs, EventBatch):
        return len(inputs.entry) / max(1, len(inputs))
    return inputs.shape[1] if inputs.ndim == 3 else 1
