"""Several small networks of one architecture, fitted as one: their weights are stacked along a leading model axis.

A small network spends most of a training step on calling operations, not on arithmetic; K stacked networks make
the calls once. What can be stacked is what says that it is a chain of layers (`chain`): multilayer perceptrons and
logistic regression, the architectures that gain. Convolutions, recurrence and attention are bound by arithmetic, and
stacking slows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.chain import Chain, Scratch, chain_of, slopes
from backdoor_core.learning.dropout import Masks
from backdoor_core.learning.job import Job
from backdoor_core.learning.loop import Fit, learning_rate, positive_weight, validate
from backdoor_core.learning.progress import Epoch, Progress, copied_state
from backdoor_core.params import TrainParams


def fit_stacked(
    model: TorchModel,
    spec: InputSpec | EventSpec,
    jobs: Sequence[Job],
    params: TrainParams,
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Fit]:
    """Fit all jobs at once on the CPU; each result equals `loop.fit` of its job but for the rounding of sums.

    Initial weights, order of stays and dropout masks are those of `loop.fit` with the job's seed. Every job must
    have the same number of batches an epoch; the last may differ in size. A job that stops early leaves the stack.
    Raises `ValueError` for a network that is no chain of layers, and for jobs of different numbers of batches.
    """
    if len({-(-len(job.labels) // params.batch_size) for job in jobs}) != 1:
        raise ValueError("stacked jobs must have the same number of batches an epoch")
    torch.set_num_threads(params.threads)
    members = [_Member(model, spec, job, params) for job in jobs]
    chain = chain_of(members[0].network, jobs[0].inputs)
    if chain is None:
        raise ValueError(f"networks of {model.name} cannot be stacked: they do not say that they are chains of layers")
    stack = _Stack(members, chain, params)
    number = 0
    while stack.members:
        number += 1
        stack.optimizer.learning_rate = learning_rate(params, number)
        for member in stack.members:
            member.masks.begin(number)
        for member, train_loss in zip(stack.members, stack.epoch(), strict=True):
            member.finish_epoch(number, train_loss, params)
        on_epoch()
        stack.keep_running()
    return [member.fit() for member in members]


class _Member:
    """One job of the stack: its network, whose weights are a slice of the stack's, and its random streams."""

    def __init__(self, model: TorchModel, spec: InputSpec | EventSpec, job: Job, params: TrainParams) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(job.seed)
            self.network = model.build(spec)
        self.masks = Masks(job.seed)
        self.order = torch.Generator().manual_seed(job.seed)
        self.job = job
        weight = positive_weight(params, job.labels)
        self.pos_weight = torch.ones(()) if weight is None else weight
        self.progress = Progress()
        self.last: dict[str, Tensor] = {}

    def shuffled(self, batch_size: int) -> tuple[Tensor, ...]:
        """This epoch's batches, as positions among the job's labels."""
        return torch.split(torch.randperm(len(self.job.labels), generator=self.order), batch_size)

    def finish_epoch(self, number: int, train_loss: float, params: TrainParams) -> None:
        loss, auprc = validate(self.network, *self.job.validation)
        epoch = Epoch(number, train_loss, loss, auprc)
        self.progress.add(epoch, auprc if params.monitor == "auprc" else -loss, self.network, params.checkpoints)

    def stop(self) -> None:
        """Take the last weights out of the stack."""
        self.last = copied_state(self.network)
        for parameter in self.network.parameters():
            parameter.data = parameter.data.clone()

    def fit(self) -> Fit:
        self.network.load_state_dict(self.progress.best_state)
        done = self.progress
        return Fit(self.network.eval(), self.last, tuple(done.curve), done.best_epoch, done.states)


class _Stack:
    """The members that still run, their stacked weights, and the optimizer of these."""

    def __init__(self, members: Sequence[_Member], chain: Chain, params: TrainParams) -> None:
        self.members = list(members)
        self.chain = chain
        self.params = params
        alike = zip(*(member.network.parameters() for member in members), strict=True)
        self._set([torch.stack([parameter.detach() for parameter in parameters]) for parameters in alike])

    def _set(self, weights: list[Tensor]) -> None:
        """Take these stacked weights, and let the members' networks be views of them."""
        self.weights = weights
        # What it held was of more models.
        self.scratch = Scratch()
        for k, member in enumerate(self.members):
            for parameter, weight in zip(member.network.parameters(), weights, strict=True):
                parameter.data = weight[k]
        self.pos_weight = torch.stack([member.pos_weight for member in self.members]).unsqueeze(1)
        self.optimizer = Adam(self.weights, self.params.learning_rate, self.params.weight_decay)

    def epoch(self) -> list[float]:
        """One pass over each member's training part; its mean loss per stay, as the batches were met."""
        total = torch.zeros(len(self.members), dtype=torch.float64)
        batches = [member.shuffled(self.params.batch_size) for member in self.members]
        for rows in zip(*batches, strict=True):
            sizes = [len(r) for r in rows]
            total += self._step(rows, sizes).double() * torch.tensor(sizes)
        counts = torch.tensor([len(member.job.labels) for member in self.members])
        return cast(list[float], (total / counts).tolist())

    @torch.no_grad()
    def _step(self, rows: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """One step of every member on its batch `rows`, of `sizes` stays; (K,) mean losses before it."""
        x, y = self._gather(rows, sizes)

        def drop(activations: Tensor, p: float) -> None:
            for member, part, size in zip(self.members, activations, sizes, strict=True):
                member.masks.drop(part[:size], p)

        logits, kept = self.chain.logits(self.weights, x, drop, self.scratch)
        losses = binary_cross_entropy_with_logits(logits, y, pos_weight=self.pos_weight, reduction="none")
        # A shorter batch is filled up with stays of weight 0.
        counts = torch.tensor(sizes).unsqueeze(1)
        shares = (torch.arange(y.shape[1]) < counts) / counts
        weighted = slopes(logits, y, self.pos_weight).mul_(shares)
        gradients = self.chain.gradients(self.weights, kept, weighted, self.scratch)
        if self.params.clip_norm is not None:
            _clip_each(gradients, self.params.clip_norm)
        self.optimizer.step(gradients)
        return (losses * shares).sum(dim=1)

    def _gather(self, rows: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(K, longest batch, channels) inputs and (K, longest batch) labels, 0 where a member's batch is shorter."""
        first = cast(Tensor, self.members[0].job.inputs)
        x = self.scratch.take("inputs", 0, len(rows), max(sizes), *first.shape[1:])
        y = self.scratch.take("labels", 0, len(rows), max(sizes))
        if min(sizes) < max(sizes):
            x.zero_()
            y.zero_()
        for member, r, size, inputs, labels in zip(self.members, rows, sizes, x, y, strict=True):
            job = member.job
            chosen = r if job.rows is None else job.rows[r]
            torch.index_select(cast(Tensor, job.inputs), 0, chosen, out=inputs[:size])
            torch.index_select(job.labels, 0, r, out=labels[:size])
        return x, y

    def keep_running(self) -> None:
        """Let the members that have stopped leave."""
        stays = [k for k, member in enumerate(self.members) if not member.progress.stopped(self.params)]
        if len(stays) == len(self.members):
            return
        leaving = [member for k, member in enumerate(self.members) if k not in stays]
        for member in leaving:
            member.stop()
        self.members = [self.members[k] for k in stays]
        if not stays:
            return
        before = self.optimizer
        self._set([weight[stays] for weight in self.weights])
        self.optimizer.load_state_dict(
            {
                "means": [mean[stays] for mean in before.means],
                "squares": [square[stays] for square in before.squares],
                "steps": [before.steps],
            }
        )


def _clip_each(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale each model's gradient to a norm of at most `limit`, in place, as `clip_grad_norm_` does for one."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (limit / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(factors.view(-1, *[1] * (g.ndim - 1)))
