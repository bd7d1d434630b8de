"""One of many fits of the same architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backdoor_core.contracts import EventSpec, InputSpec
from backdoor_core.learning.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Job:
    """What one fit learns from. Jobs share memory by holding the same tensors.

    Poisoned variants and subsets of one cohort are best given as `rows` of one tensor that holds the clean stays
    and, behind them, the triggered ones.
    """

    inputs: Inputs
    """(N, channels) or (N, steps, channels) float32, or N stays as events."""
    labels: Tensor
    """(n,) float32, 0 or 1: of the stays in `rows`, in that order."""
    validation: tuple[Inputs, Tensor]
    """Inputs and labels of the validation part."""
    seed: int
    rows: Tensor | None = None
    """(n,) int64 positions in `inputs`; all of them, in order, where None."""
    spec: EventSpec | None = None
    """Where it differs from job to job: which static columns there are depends on the stays that are learned from."""

    def train(self) -> tuple[Inputs, Tensor]:
        """Inputs and labels of the training part, as `loop.fit` takes them."""
        return (self.inputs if self.rows is None else self.inputs.index_select(0, self.rows)), self.labels


def check_jobs(jobs: Sequence[Job], spec: InputSpec | EventSpec) -> None:
    """Raises `ValueError` with the job's number where tensors do not fit each other or `spec`."""
    for number, job in enumerate(jobs):
        problem = _problem(job, job.spec or spec)
        if problem:
            raise ValueError(f"job {number}: {problem}")


def _problem(job: Job, spec: InputSpec | EventSpec) -> str:
    chosen = len(job.inputs) if job.rows is None else len(job.rows)
    for part, (x, y, n) in {
        "train": (job.inputs, job.labels, chosen),
        "validation": (*job.validation, len(job.validation[0])),
    }.items():
        if problem := _of_events(x, spec) if isinstance(spec, EventSpec) else _of_grid(x, spec):
            return f"{part} inputs {problem}"
        if tuple(y.shape) != (n,) or n == 0:
            return f"{part} labels have shape {tuple(y.shape)} for {n} stays"
        if y.dtype != torch.float32:
            return f"{part} labels must be float32, they are {y.dtype}"
    if job.rows is not None and (job.rows.dtype != torch.int64 or not _within(job.rows, len(job.inputs))):
        return f"rows must be int64 positions from 0 to {len(job.inputs) - 1}"
    return ""


def _of_grid(x: Inputs, spec: InputSpec) -> str:
    shape = (spec.channels,) if spec.steps is None else (spec.steps, spec.channels)
    if not isinstance(x, Tensor):
        return f"are events, the model takes (N, {', '.join(map(str, shape))})"
    if tuple(x.shape[1:]) != shape:
        return f"have shape {tuple(x.shape)}, the model takes (N, {', '.join(map(str, shape))})"
    return "" if x.dtype == torch.float32 else f"must be float32, they are {x.dtype}"


def _of_events(x: Inputs, spec: EventSpec) -> str:
    if isinstance(x, Tensor):
        return f"have shape {tuple(x.shape)}, the model takes events"
    widths = (x.statics.shape[1], x.texts.shape[1])
    if widths != (len(spec.statics), spec.text_width):
        return f"have {widths[0]} static columns and texts of width {widths[1]}, the model takes other ones"
    return ""


def _within(rows: Tensor, n: int) -> bool:
    return int(rows.min()) >= 0 and int(rows.max()) < n
