"""One of many fits of the same architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backdoor_core.contracts import InputSpec


@dataclass(frozen=True, eq=False)
class Job:
    """What one fit learns from. Jobs share memory by holding the same tensors.

    Poisoned variants and subsets of one cohort are best given as `rows` of one tensor that holds the clean stays
    and, behind them, the triggered ones.
    """

    inputs: Tensor
    """(N, channels) or (N, steps, channels) float32."""
    labels: Tensor
    """(n,) float32, 0 or 1: of the stays in `rows`, in that order."""
    validation: tuple[Tensor, Tensor]
    """Inputs and labels of the validation part."""
    seed: int
    rows: Tensor | None = None
    """(n,) int64 positions in `inputs`; all of them, in order, where None."""

    def train(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels of the training part, as `loop.fit` takes them."""
        return (self.inputs if self.rows is None else self.inputs[self.rows]), self.labels


def check_jobs(jobs: Sequence[Job], spec: InputSpec) -> None:
    """Raises `ValueError` with the job's number where tensors do not fit each other or `spec`."""
    shape = (spec.channels,) if spec.steps is None else (spec.steps, spec.channels)
    for number, job in enumerate(jobs):
        problem = _problem(job, shape)
        if problem:
            raise ValueError(f"job {number}: {problem}")


def _problem(job: Job, shape: tuple[int, ...]) -> str:
    chosen = len(job.inputs) if job.rows is None else len(job.rows)
    for part, (x, y, n) in {
        "train": (job.inputs, job.labels, chosen),
        "validation": (*job.validation, len(job.validation[0])),
    }.items():
        if tuple(x.shape[1:]) != shape:
            return f"{part} inputs have shape {tuple(x.shape)}, the model takes (N, {', '.join(map(str, shape))})"
        if tuple(y.shape) != (n,) or n == 0:
            return f"{part} labels have shape {tuple(y.shape)} for {n} stays"
        if x.dtype != torch.float32 or y.dtype != torch.float32:
            return f"{part} inputs and labels must be float32, they are {x.dtype} and {y.dtype}"
    if job.rows is not None and (job.rows.dtype != torch.int64 or not _within(job.rows, len(job.inputs))):
        return f"rows must be int64 positions from 0 to {len(job.inputs) - 1}"
    return ""


def _within(rows: Tensor, n: int) -> bool:
    return int(rows.min()) >= 0 and int(rows.max()) < n
