"""Several small networks of one architecture, fitted as one: their weights are stacked along a leading model axis.

A small network spends most of a training step on calling operations, not on arithmetic; K stacked networks make
the calls once. The network's own ``forward`` runs on (K, batch, channels) while `_ModelAxis` gives each torch
function its stacked meaning. Only functions that cannot mistake the model axis for another are known to it; a
network that calls any other is `NotStackable`. That leaves multilayer perceptrons and logistic regression, the
architectures that gain: convolutions, recurrence and attention are bound by arithmetic, and stacking slows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.overrides import TorchFunctionMode

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.dropout import Draw, Masks, dropouts, dropped
from backdoor_core.learning.inputs import Inputs
from backdoor_core.learning.job import Job
from backdoor_core.learning.loop import Fit, learning_rate, positive_weight, validate
from backdoor_core.learning.progress import Epoch, Progress
from backdoor_core.params import TrainParams

_ELEMENTWISE = {
    getattr(functional, name)
    for name in ("relu", "gelu", "silu", "elu", "selu", "leaky_relu", "softplus", "tanh", "sigmoid")
} | {torch.relu, torch.tanh, torch.sigmoid, torch.Tensor.relu, torch.Tensor.tanh, torch.Tensor.sigmoid}


class NotStackable(Exception):
    """The network calls a torch function that has no stacked meaning here."""


class _ModelAxis(TorchFunctionMode):
    """Inside, a network written for (batch, ...) takes (K, batch, ...), with weights stacked along the first axis."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw
        self.dropouts = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """The stacked meaning of `func`; raises `NotStackable` where none is known."""
        kwargs = kwargs or {}
        if func is functional.linear:
            return _linear(*args, **kwargs)
        if func is functional.dropout:
            self.dropouts += 1
            return dropped(self.draw, *args, **kwargs)
        if func in _ELEMENTWISE:
            return func(*args, **kwargs)
        if func in (torch.Tensor.squeeze, torch.squeeze) and args[1:] == (-1,) and args[0].ndim == 3:
            return args[0].squeeze(-1)
        # What flattens everything behind the batch axis changes nothing where there is one axis behind it.
        if func in (torch.Tensor.flatten, torch.flatten) and args[1:] == (1,) and args[0].ndim == 3:
            return args[0]
        raise NotStackable(getattr(func, "__name__", repr(func)))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if x.ndim != 3 or weight.ndim != 3:
        raise NotStackable("linear")
    return x @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def stackable(network: nn.Module, inputs: Inputs) -> bool:
    """Whether `fit_stacked` can fit networks like this one, which read `inputs`."""
    if not isinstance(inputs, Tensor):
        return False
    x = inputs[:2]
    parameters = dict(network.named_parameters())
    if not parameters or next(network.buffers(), None) is not None:
        return False
    if any(p.dtype != torch.float32 or not p.requires_grad for p in parameters.values()):
        return False
    stacks = {name: torch.stack([p.detach(), p.detach()]) for name, p in parameters.items()}
    twice = torch.stack([x, x])
    axis = _ModelAxis(lambda x, p: torch.ones_like(x))
    try:
        with torch.no_grad(), axis:
            logits = functional_call(network, stacks, (twice,))
    except NotStackable:
        return False
    # One by one, what drops without a layer has torch's masks and not ours: see `own_dropout`.
    by_layers = axis.dropouts == len(dropouts(network))
    return by_layers and cast(Tensor, logits).shape == (2, len(x))


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
    Raises `NotStackable` where `stackable` is false, and `ValueError` for jobs of different numbers of batches.
    """
    if len({-(-len(job.labels) // params.batch_size) for job in jobs}) != 1:
        raise ValueError("stacked jobs must have the same number of batches an epoch")
    torch.set_num_threads(params.threads)
    members = [_Member(model, spec, job, params) for job in jobs]
    stack = _Stack(members, params)
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
        self.last = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        for parameter in self.network.parameters():
            parameter.data = parameter.data.clone()

    def fit(self) -> Fit:
        self.network.load_state_dict(self.progress.best_state)
        done = self.progress
        return Fit(self.network.eval(), self.last, tuple(done.curve), done.best_epoch, done.states)


class _Stack:
    """The members that still run, their stacked weights, and the optimizer of these."""

    def __init__(self, members: Sequence[_Member], params: TrainParams) -> None:
        self.members = list(members)
        self.params = params
        names = [name for name, _ in members[0].network.named_parameters()]
        networks = [dict(member.network.named_parameters()) for member in members]
        self._set({name: torch.stack([network[name].detach() for network in networks]) for name in names})

    def _set(self, weights: dict[str, Tensor]) -> None:
        """Take these stacked weights, and let the members' networks be views of them."""
        self.weights = {name: weight.requires_grad_() for name, weight in weights.items()}
        for k, member in enumerate(self.members):
            for name, parameter in member.network.named_parameters():
                parameter.data = self.weights[name].detach()[k]
        self.pos_weight = torch.stack([member.pos_weight for member in self.members]).unsqueeze(1)
        self.optimizer = Adam(self.weights.values(), self.params.learning_rate, self.params.weight_decay)

    def epoch(self) -> list[float]:
        """One pass over each member's training part; its mean loss per stay, as the batches were met."""
        self.members[0].network.train()
        total = torch.zeros(len(self.members), dtype=torch.float64)
        batches = [member.shuffled(self.params.batch_size) for member in self.members]
        for rows in zip(*batches, strict=True):
            sizes = torch.tensor([len(r) for r in rows])
            total += self._step(rows, sizes).double() * sizes
        counts = torch.tensor([len(member.job.labels) for member in self.members])
        return cast(list[float], (total / counts).tolist())

    def _step(self, rows: tuple[Tensor, ...], sizes: Tensor) -> Tensor:
        """One step of every member on its batch `rows`; (K,) mean losses before it."""
        x, y = self._gather(rows)
        ragged = bool((sizes < y.shape[1]).any())

        def mask(activations: Tensor, p: float) -> Tensor:
            noise = torch.zeros_like(activations) if ragged else torch.empty_like(activations)
            for member, kept, r in zip(self.members, noise, rows, strict=True):
                member.masks.fill(kept[: len(r)], p)
            return noise

        with _ModelAxis(mask):
            logits = functional_call(self.members[0].network, self.weights, (x,))
        losses = binary_cross_entropy_with_logits(logits, y, pos_weight=self.pos_weight, reduction="none")
        # A shorter batch is filled up with stays of weight 0.
        shares = (torch.arange(y.shape[1]) < sizes.unsqueeze(1)) / sizes.unsqueeze(1)
        means = (losses * shares).sum(dim=1)
        gradients = torch.autograd.grad(
            means.sum(), self.optimizer.parameters, allow_unused=True, materialize_grads=True
        )
        if self.params.clip_norm is not None:
            _clip_each(gradients, self.params.clip_norm)
        self.optimizer.step(gradients)
        return means.detach()

    def _gather(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(K, longest batch, ...) inputs and (K, longest batch) labels, 0 where a member's batch is shorter."""
        longest = max(len(r) for r in rows)
        inputs = [cast(Tensor, member.job.inputs) for member in self.members]
        first = inputs[0]
        x = first.new_zeros(len(rows), longest, *first.shape[1:])
        y = first.new_zeros(len(rows), longest)
        for k, (member, r) in enumerate(zip(self.members, rows, strict=True)):
            job = member.job
            torch.index_select(inputs[k], 0, r if job.rows is None else job.rows[r], out=x[k, : len(r)])
            torch.index_select(job.labels, 0, r, out=y[k, : len(r)])
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
        self._set({name: weight.detach()[stays] for name, weight in self.weights.items()})
        self.optimizer.load_state_dict(
            {
                "means": [mean[stays] for mean in before.means],
                "squares": [square[stays] for square in before.squares],
                "steps": before.steps,
            }
        )


def _clip_each(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale each model's gradient to a norm of at most `limit`, in place, as `clip_grad_norm_` does for one."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (limit / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(factors.view(-1, *[1] * (g.ndim - 1)))
