"""Many fits at once against `loop.fit` one by one: in stacks, in a pool, and what becomes of errors."""

import multiprocessing
import time

import pytest
import torch
from torch import nn

from backdoor_core.contracts import Context, InputSpec, TorchModel
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.adam import Adam
from backdoor_core.learning.chain import Scratch
from backdoor_core.learning.loop import Fit, fit
from backdoor_core.learning.many import Job, fit_group, fit_many
from backdoor_core.learning.pool import fit_in_pool
from backdoor_core.learning.stacked import fit_stacked
from backdoor_core.params import TrainParams
from backdoor_models.mlp import MLP, MLPOptions

SPEC = InputSpec(tuple(f"f{i}" for i in range(6)))
SERIES = InputSpec(("a", "b"), blocks=3, steps=5)
TRAIN = {"epochs": 30, "patience": 3, "batch_size": 64, "learning_rate": 0.01, "device": "cpu"}


def data(n: int = 700) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(n, 6, generator=draw)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] + torch.randn(n, generator=draw) > 0).float()


def three_jobs() -> list[Job]:
    """Another seed, subset (in size too) and labels each; they share the inputs and the validation part."""
    x, y = data()
    validation = (x[500:], y[500:])
    jobs = [Job(x[:500], y[:500], validation, seed=1)]
    for seed, size in ((2, 470), (3, 465)):
        rows = torch.randperm(500, generator=torch.Generator().manual_seed(seed))[:size]
        labels = y[rows].clone()
        labels[: 20 * (seed - 2)] = 1.0
        jobs.append(Job(x, labels, validation, seed, rows))
    return jobs


def mlp(hidden: tuple[int, ...] = (16, 8), dropout: float = 0.2) -> MLP:
    return MLP(MLPOptions(hidden=hidden, dropout=dropout), Context(root=None))


def one_by_one(model: TorchModel, jobs: list[Job], params: TrainParams, spec: InputSpec = SPEC) -> list[Fit]:
    return [fit(model, spec, job.train(), job.validation, params, job.seed) for job in jobs]


def assert_same(ours: list[Fit], theirs: list[Fit], atol: float = 1e-5) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.best_epoch, len(a.curve)) == (b.best_epoch, len(b.curve))
        assert not a.network.training
        torch.testing.assert_close(a.network.state_dict(), b.network.state_dict(), rtol=1e-4, atol=atol)
        torch.testing.assert_close(a.last, b.last, rtol=1e-4, atol=atol)
        for x, y in zip(a.curve, b.curve, strict=True):
            assert x.train_loss == pytest.approx(y.train_loss, rel=1e-5)
            assert x.validation_loss == pytest.approx(y.validation_loss, rel=1e-5)
            assert x.validation_auprc == pytest.approx(y.validation_auprc, abs=1e-3)


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze(-1)


class LogisticNetwork(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.last = nn.Linear(channels, 1)

    def forward(self, x):
        return self.last(x.flatten(1)).squeeze(-1)

    def chain(self):
        return [self.last]


class RecurrentNetwork(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cell, self.last = nn.GRU(channels, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.cell(x)[0][:, -1]).squeeze(-1)


class Logistic(TorchModel):
    name, modality = "small_logistic", "table"

    def build(self, spec):
        return LogisticNetwork(spec.channels)


class Recurrent(TorchModel):
    name, modality = "small_gru", "series"

    def build(self, spec):
        return RecurrentNetwork(spec.channels)


class Normed(TorchModel):
    name, modality = "normed", "table"

    def build(self, spec):
        return nn.Sequential(nn.Linear(spec.channels, 4), nn.LayerNorm(4), nn.Linear(4, 1), Squeeze())


class Failing(TorchModel):
    name, modality = "failing", "table"

    def build(self, spec):
        raise ZeroDivisionError("built to fail")


def test_adam_is_that_of_torch_to_the_last_bit():
    start = [torch.randn(5, 3), torch.randn(4)]
    theirs, ours = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    torchs, adam = torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1, fused=True), Adam(ours, 0.02, 0.1)
    for _ in range(5):
        # A transposed gradient, as that of a linear layer's weight is.
        gradients = [torch.randn(3, 5).T, torch.randn(4)]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
        torchs.step()
        adam.step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    again = Adam([p.detach().clone() for p in ours], 0.02, 0.1)
    again.load_state_dict(adam.state_dict())
    for one in (adam, again):
        one.step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(ours, again.parameters, strict=True))
    with pytest.raises(ValueError, match="must be contiguous"):
        Adam([torch.zeros(2, 3).T], 0.1, 0.0)


OPTIONS = [
    {},
    {"clip_norm": 0.1, "weight_decay": 0.01, "pos_weight": "balanced"},
    {"schedule": "cosine", "monitor": "auprc", "pos_weight": 3.0, "epochs": 8},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "clip and balanced", "cosine and auprc"])
def test_a_stack_equals_one_by_one(options):
    params, jobs = TrainParams(**(TRAIN | options)), three_jobs()
    expected = one_by_one(mlp(), jobs, params)
    assert_same(fit_stacked(mlp(), SPEC, jobs, params), expected)
    weights = [f.network.last.weight for f in expected]
    assert not torch.allclose(weights[1], weights[2], atol=1e-2), "the jobs must differ for this to mean anything"


def test_members_that_stop_early_leave_the_others_as_they_were():
    params, jobs = TrainParams(**TRAIN), three_jobs()
    fits = fit_stacked(mlp(), SPEC, jobs, params)
    assert len({len(f.curve) for f in fits}) > 1, "all stopped at once: nothing is tested"
    assert_same(fits, one_by_one(mlp(), jobs, params))


def test_a_stack_of_logistic_models_without_hidden_layer():
    params, jobs = TrainParams(**(TRAIN | {"epochs": 5})), three_jobs()
    assert_same(
        fit_stacked(Logistic(None, Context(root=None)), SPEC, jobs, params),
        one_by_one(Logistic(None, Context(root=None)), jobs, params),
    )


def test_jobs_of_different_numbers_of_batches_are_stacked_apart():
    x, y = data()
    validation = (x[500:], y[500:])
    jobs = [Job(x[:n], y[:n], validation, seed=n) for n in (500, 300, 130, 499, 301, 500)]
    params = TrainParams(**(TRAIN | {"epochs": 3}))
    with pytest.raises(ValueError, match="same number of batches"):
        fit_stacked(mlp(), SPEC, jobs, params)
    assert_same(fit_many(mlp(), SPEC, jobs, params, workers=1), one_by_one(mlp(), jobs, params))


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([500] * 40, 2, [10, 10, 10, 10]),
        ([500] * 20, 2, [10, 10]),
        ([500] * 5, 1, [5]),
        ([500, 500, 400, 400, 300, 300, 200, 200], 2, [2, 2, 2, 2]),
        ([500] * 3, 8, [1, 1, 1]),
    ],
)
def test_jobs_are_shared_out_in_stacks(monkeypatch, sizes, workers, expected):
    x, y = data()
    jobs = [Job(x[:n], y[:n], (x[500:], y[500:]), seed) for seed, n in enumerate(sizes)]
    groups = []

    def spy(model, spec, jobs, tasks, *rest):
        groups.extend(sorted((len(task) for task in tasks), reverse=True))
        return [None] * len(jobs)

    def spy_here(model, spec, jobs, params):
        groups.append(len(jobs))
        return [None] * len(jobs)

    monkeypatch.setattr("backdoor_core.learning.many.fit_in_pool", spy)
    monkeypatch.setattr("backdoor_core.learning.many.fit_group", spy_here)
    fit_many(mlp(), SPEC, jobs, TrainParams(**TRAIN), workers=workers)
    assert groups == expected


@pytest.mark.parametrize("model", [mlp((512, 64)), Normed(None, Context(root=None))], ids=["large", "no chain"])
def test_others_are_fitted_one_by_one(monkeypatch, model):
    groups = []
    monkeypatch.setattr(
        "backdoor_core.learning.many.fit_group", lambda model, spec, jobs, params: groups.append(len(jobs)) or jobs
    )
    fit_many(model, SPEC, three_jobs(), TrainParams(**TRAIN), workers=1)
    assert groups == [1, 1, 1]


def test_nothing_is_read_that_was_not_written(monkeypatch):
    """Tensors that are used again hold what was there before; here that is NaN."""
    params, jobs, take = TrainParams(**TRAIN), three_jobs(), Scratch.take
    monkeypatch.setattr(Scratch, "take", lambda self, *key: take(self, *key).fill_(torch.nan))
    fits = fit_stacked(mlp(), SPEC, jobs, params)
    assert len({len(f.curve) for f in fits}) > 1
    monkeypatch.undo()
    assert_same(fits, one_by_one(mlp(), jobs, params))


def test_a_pool_equals_one_by_one():
    params, jobs = TrainParams(**(TRAIN | {"epochs": 6})), [*three_jobs(), *three_jobs()[:2]]
    done: list[int] = []
    fits = fit_many(mlp(), SPEC, jobs, params, workers=2, on_done=done.extend)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert_same(fits, one_by_one(mlp(), jobs, params))
    again = fit_many(mlp(), SPEC, jobs, params, workers=2)
    for a, b in zip(fits, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True))


def test_what_cannot_be_stacked_is_fitted_in_a_pool_and_keeps_its_order():
    model, params = Recurrent(None, Context(root=None)), TrainParams(**(TRAIN | {"epochs": 2}))
    x = torch.randn(90, 5, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, -1, 0] > 0).float()
    jobs = [Job(x[:n], y[:n], (x[60:], y[60:]), seed=n) for n in (60, 20, 50)]
    fits = fit_many(model, SERIES, jobs, params, workers=2)
    assert_same(fits, one_by_one(model, jobs, params, SERIES))


def test_a_single_job_is_loop_fit_to_the_last_bit():
    params, job = TrainParams(**(TRAIN | {"epochs": 3})), three_jobs()[1]
    (ours,), (theirs,) = fit_many(mlp(), SPEC, [job], params), one_by_one(mlp(), [job], params)
    for a, b in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert fit_many(mlp(), SPEC, [], params) == []


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    fit_many(mlp(), SPEC, three_jobs(), TrainParams(**(TRAIN | {"epochs": 1})), workers=1)
    assert torch.equal(torch.rand(1), expected)


def test_an_error_in_a_worker_names_its_job():
    params = TrainParams(**(TRAIN | {"epochs": 1}))
    args = SPEC, three_jobs(), [[0], [1], [2]], params, fit_group, 2
    with pytest.raises(RuntimeError, match=r"^job [012] failed in a worker: ZeroDivisionError: built to fail$"):
        fit_in_pool(Failing(None, Context(root=None)), *args)
    bf16 = params.model_copy(update={"precision": "bf16"})
    with pytest.raises(BackdoorError, match=r"^job [012]: .*bf16 needs a GPU"):
        fit_in_pool(mlp(), *args[:3], bf16, fit_group, 2)


def fails_or_goes_on_for_ever(model, spec, jobs, params, on_epoch):
    if jobs[0].seed == 2:
        raise ZeroDivisionError("second job")
    while True:
        on_epoch()
        time.sleep(0.01)


def test_an_error_stops_the_other_workers():
    args = SPEC, three_jobs(), [[0], [1], [2]], TrainParams(**TRAIN), fails_or_goes_on_for_ever, 2
    with pytest.raises(RuntimeError, match=r"^job 1 failed in a worker: ZeroDivisionError: second job$"):
        fit_in_pool(mlp(), *args)
    assert multiprocessing.active_children() == []


def test_an_option_that_no_stack_has_is_refused_not_ignored():
    params = TrainParams(**(TRAIN | {"precision": "bf16"}))
    with pytest.raises(BackdoorError, match="bf16 needs a GPU"):
        fit_many(mlp(), SPEC, three_jobs(), params, workers=1)


def test_a_model_that_cannot_be_sent_is_an_error_before_any_work():
    class Local(MLP):
        pass

    model = Local(MLPOptions(hidden=(4,)), Context(root=None))
    with pytest.raises(BackdoorError, match="model mlp cannot be sent to worker processes"):
        fit_in_pool(model, SPEC, three_jobs(), [[0], [1], [2]], TrainParams(**TRAIN), fit_group, 2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": torch.zeros(3)}, "train labels have shape"),
        ({"rows": torch.full((470,), 700)}, "rows must be int64 positions from 0 to 699"),
        ({"inputs": torch.zeros(700, 5)}, r"train inputs have shape \(700, 5\), the model takes \(N, 6\)"),
        ({"validation": (torch.zeros(2, 6), torch.zeros(3))}, "validation labels have shape"),
        ({"labels": torch.zeros(470, dtype=torch.int8)}, "train labels must be float32, they are torch.int8"),
    ],
)
def test_a_job_whose_tensors_do_not_fit_is_named(change, problem):
    jobs = three_jobs()
    jobs[1] = Job(**(vars(jobs[1]) | change))
    with pytest.raises(ValueError, match=f"^job 1: {problem}"):
        fit_many(mlp(), SPEC, jobs, TrainParams(**TRAIN))


def test_what_is_no_chain_of_layers_is_not_stacked():
    with pytest.raises(ValueError, match="networks of normed cannot be stacked"):
        fit_stacked(Normed(None, Context(root=None)), SPEC, three_jobs(), TrainParams(**TRAIN))
    params = TrainParams(**(TRAIN | {"epochs": 2}))
    model = Normed(None, Context(root=None))
    assert_same(fit_many(model, SPEC, three_jobs(), params, workers=1), one_by_one(model, three_jobs(), params))
