"""The loop, the victim and its checkpoint, on the bundled MLP."""

import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from small import make_view
from torch import nn

from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import InputSpec
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.calibration import fit_temperature
from backdoor_core.learning.loop import _clip, fit, learning_rate
from backdoor_core.learning.training import train_victim
from backdoor_core.learning.victim import ArrayVictim, load_victim, save_victim
from backdoor_core.params import EvaluateParams, Params, TrainParams, TrainSection
from backdoor_models.gbdt import GBDT
from backdoor_models.mlp import MLP, MLPOptions


def params(**train) -> Params:
    return Params(cohort="x", trigger="none", model="mlp", train=TrainSection(**train))


@pytest.fixture
def mlp(context) -> MLP:
    return MLP(MLPOptions(hidden=(32, 16)), context)


def parts(n: int = 900) -> tuple[Rows, Rows]:
    view, label = make_view(n)
    cut = int(n * 0.7)
    return Rows(view.take(np.arange(cut)), label[:cut]), Rows(view.take(np.arange(cut, n)), label[cut:])


def trained(mlp, seed=1, **train):
    one, other = parts()
    return train_victim(mlp, one, other, one.view, params(**({"epochs": 4} | train)), seed)


def test_learns_the_planted_signal_about_as_well_as_logistic_regression(mlp):
    one, other = parts(4000)
    victim = train_victim(mlp, one, other, one.view, params(epochs=20), 0).victim
    ours = roc_auc_score(other.label, victim.probability(other.view))
    x, z = (victim.preprocessor.transform(p.view) for p in (one, other))
    peer = roc_auc_score(other.label, LogisticRegression(max_iter=500).fit(x, one.label).predict_proba(z)[:, 1])
    assert ours > 0.75
    assert ours > peer - 0.03


def test_same_seed_same_bytes_and_another_seed_others(mlp, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_victim(trained(mlp, seed).victim, tmp_path / name)
    a, b, c = ((tmp_path / name / "model.pt").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_global_random_state_is_left_alone(mlp):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    trained(mlp)
    assert torch.equal(torch.rand(1), expected)


def test_one_step_equals_a_hand_written_adam_step(context):
    """One batch, one epoch, no dropout: the weights move as Kingma & Ba 2015, algorithm 1, says."""
    model = MLP(MLPOptions(hidden=(4,), dropout=0.0), context)
    x, y = torch.randn(16, 3), (torch.rand(16) < 0.5).float()
    options = TrainParams(epochs=1, batch_size=16, learning_rate=0.01)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        start = model.build(InputSpec(("a", "b", "c")))
    # A validation set that the step cannot make worse than infinity: the best epoch is the first.
    done = fit(model, InputSpec(("a", "b", "c")), (x, y), (x, y), options, seed=5)
    probability = torch.sigmoid(start(x))
    losses = -(y * probability.log() + (1 - y) * (1 - probability).log())
    losses.mean().backward()
    assert done.curve[0].train_loss == pytest.approx(float(losses.mean().detach()), rel=1e-5)
    for before, after in zip(start.parameters(), done.network.parameters(), strict=True):
        m, v = 0.1 * before.grad / (1 - 0.9), 0.001 * before.grad**2 / (1 - 0.999)
        torch.testing.assert_close(after, before - 0.01 * m / (v.sqrt() + 1e-8), rtol=1e-4, atol=1e-6)


def test_stops_early_and_keeps_the_best_epoch(mlp):
    fitted = trained(mlp, epochs=200, patience=2, learning_rate=0.02)
    losses = [epoch.validation_loss for epoch in fitted.curve]
    assert len(losses) < 200
    assert fitted.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == fitted.best_epoch + 2


def test_embedding_is_the_input_of_the_last_linear_layer(mlp):
    victim = trained(mlp).victim
    view, _ = make_view(50, seed=9)
    x = torch.from_numpy(victim.preprocessor.transform(view))
    seen = {}
    handle = victim.network.last.register_forward_pre_hook(lambda module, args: seen.update(z=args[0]))
    with torch.no_grad():
        logits = victim.network(x)
    handle.remove()
    np.testing.assert_array_equal(victim.embedding(view), seen["z"].numpy())
    torch.testing.assert_close(victim.network.head(seen["z"]), logits)
    assert victim.embedding(view).shape == (50, 16)


def test_predictions_do_not_depend_on_the_batch(mlp):
    victim = trained(mlp).victim
    view, _ = make_view(300, seed=4)
    together = victim.probability(view)
    one_by_one = np.concatenate([victim.probability(view.take(np.array([i]))) for i in range(300)])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)
    assert victim.probability(view.take(np.empty(0, dtype=int))).shape == (0,)


def test_save_and_load_give_the_same_predictions(mlp, tmp_path):
    victim = trained(mlp).victim
    view, _ = make_view(100, seed=4)
    save_victim(victim, tmp_path)
    again = load_victim(tmp_path, mlp, "cpu", 1)
    np.testing.assert_array_equal(again.probability(view), victim.probability(view))
    assert again.threshold == victim.threshold


class Malicious:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


@pytest.mark.parametrize("harm", ["code", "truncated", "not a dict", "garbage"])
def test_a_bad_checkpoint_is_refused_in_one_line(mlp, tmp_path, harm, capsys):
    save_victim(trained(mlp).victim, tmp_path)
    path = tmp_path / "model.pt"
    match harm:
        case "code":
            torch.save({"weight": Malicious()}, path)
        case "truncated":
            path.write_bytes(path.read_bytes()[:-200])
        case "not a dict":
            torch.save([1, 2], path)
        case "garbage":
            path.write_bytes(pickle.dumps({"a": 1})[:5])
    with pytest.raises(BackdoorError, match=r"model\.pt: not a") as error:
        load_victim(tmp_path, mlp, "cpu", 1)
    assert "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out


def test_weights_of_another_architecture_are_refused(mlp, tmp_path, context):
    save_victim(trained(mlp).victim, tmp_path)
    with pytest.raises(BackdoorError, match="do not fit model mlp"):
        load_victim(tmp_path, MLP(MLPOptions(hidden=(8,)), context), "cpu", 1)


def test_every_input_has_a_gradient(mlp):
    victim = trained(mlp).victim
    x = torch.randn(64, 12, requires_grad=True)
    victim.network(x).sum().backward()
    assert (x.grad.abs().sum(dim=0) > 0).all()


def test_a_cosine_starts_at_the_full_rate_and_would_be_0_after_the_last_epoch():
    options = TrainParams(schedule="cosine", epochs=20, learning_rate=0.5)
    rates = [learning_rate(options, epoch) for epoch in range(1, 22)]
    assert rates[0] == 0.5
    assert rates[19] == pytest.approx(0.5 * 0.00616, rel=1e-3)
    assert rates[20] == pytest.approx(0)
    assert all(one > other for one, other in pairwise(rates))


def test_answers_that_are_no_numbers_are_an_error_with_the_way_out(mlp):
    _, other = parts()
    victim = trained(mlp, epochs=1).victim
    lost = {name: torch.full_like(weights, torch.nan) for name, weights in victim.state().items()}
    broken = ArrayVictim(
        preprocessor=victim.preprocessor,
        fitted={},
        model=SimpleNamespace(name="gbdt", logits=lambda fitted, x: np.where(np.arange(len(x)) < 3, np.nan, 1.0)),
    )
    for name, stays, ask in (
        ("MLPNetwork", 270, victim.with_state(lost).probability),
        ("gbdt", 3, broken.probability),
        ("gbdt", 3, lambda view: broken.decides(view, 1)),
    ):
        says = f"model {name}: it answers {stays} of 270 stays with NaN, .* preprocess.outliers .* train.learning_rate"
        with pytest.raises(BackdoorError, match=says):
            ask(other.view)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_fit_goes_on_and_ends_with_the_same_bytes(mlp, tmp_path, killed_after):
    one, other = parts()
    options = params(epochs=4, schedule="cosine")
    unbroken = train_victim(mlp, one, other, one.view, options, 1)
    path = tmp_path / "resume.pt"
    met = []

    def stop(epoch):
        met.append(epoch.epoch)
        if epoch.epoch == killed_after:
            raise Killed

    with pytest.raises(Killed):
        train_victim(mlp, one, other, one.view, options, 1, stop, path)
    done = train_victim(mlp, one, other, one.view, options, 1, lambda epoch: met.append(epoch.epoch), path)
    assert met == [1, 2, 3, 4]
    save_victim(unbroken.victim, tmp_path / "a")
    save_victim(done.victim, tmp_path / "b")
    assert (tmp_path / "a" / "model.pt").read_bytes() == (tmp_path / "b" / "model.pt").read_bytes()
    assert done.curve == unbroken.curve
    assert all(torch.equal(done.last[name], tensor) for name, tensor in unbroken.last.items())
    assert not path.exists()


@pytest.mark.parametrize("other", ["seed", "rows", "damaged"])
def test_the_state_of_another_fit_is_not_gone_on_from(mlp, tmp_path, other):
    one, held_out = parts()
    path = tmp_path / "resume.pt"

    def stop(epoch):
        raise Killed

    with pytest.raises(Killed):
        train_victim(mlp, one, held_out, one.view, params(epochs=2), 1, stop, path)
    if other == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    seed = 2 if other == "seed" else 1
    if other == "rows":
        one = Rows(one.view, 1 - one.label)
    met = []
    train_victim(mlp, one, held_out, one.view, params(epochs=2), seed, lambda e: met.append(e.epoch), path)
    assert met == [1, 2]


def test_balanced_weight_and_clipping_equal_a_hand_written_step(context):
    model = MLP(MLPOptions(hidden=(4,), dropout=0.0), context)
    spec = InputSpec(("a", "b", "c"))
    x, y = torch.randn(20, 3), torch.zeros(20)
    y[:4] = 1
    with torch.random.fork_rng():
        torch.manual_seed(5)
        start = model.build(spec)
    options = TrainParams(epochs=1, batch_size=20, pos_weight="balanced", clip_norm=0.01, learning_rate=0.1)
    done = fit(model, spec, (x, y), (x, y), options, seed=5)
    probability = torch.sigmoid(start(x))
    loss = -(4 * y * probability.log() + (1 - y) * (1 - probability).log()).mean()
    loss.backward()
    assert done.curve[0].train_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    norm = torch.sqrt(sum((p.grad**2).sum() for p in start.parameters()))
    assert norm > 0.01
    for before, after in zip(start.parameters(), done.network.parameters(), strict=True):
        g = before.grad * 0.01 / (norm + 1e-6)
        torch.testing.assert_close(after, before - 0.1 * g / (g.abs() + 1e-8), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("monitor", ["loss", "auprc"])
def test_the_monitor_decides_the_best_epoch(mlp, monitor):
    fitted = trained(mlp, monitor=monitor, epochs=12, patience=12, learning_rate=0.01)
    losses = [e.validation_loss if monitor == "loss" else -e.validation_auprc for e in fitted.curve]
    assert fitted.best_epoch == int(np.argmin(losses)) + 1


def test_bf16_without_a_gpu_is_one_line(mlp):
    with pytest.raises(BackdoorError, match=r"train\.precision bf16 needs a GPU"):
        trained(mlp, precision="bf16", device="cpu")


def test_temperature_is_the_one_that_a_grid_finds():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-logits / 2.5))).astype(np.int8)
    found = fit_temperature(logits, truth)
    grid = np.linspace(1, 5, 401)
    losses = [np.logaddexp(0, -np.where(truth == 1, 1, -1) * logits / t).mean() for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], abs=0.02)
    assert found == pytest.approx(2.5, abs=0.4)


def test_temperature_scaling_keeps_order_and_decisions(mlp):
    one, other = parts()
    plain = train_victim(mlp, one, other, one.view, params(epochs=3), 1).victim
    options = params(epochs=3).model_copy(update={"evaluate": EvaluateParams(calibration="temperature")})
    scaled = train_victim(mlp, one, other, one.view, options, 1).victim
    assert scaled.temperature != 1
    np.testing.assert_array_equal(plain.decides(other.view, 1), scaled.decides(other.view, 1))
    order = np.argsort(plain.probability(other.view), kind="stable")
    assert (np.diff(scaled.probability(other.view)[order]) >= 0).all()


def test_a_model_of_plain_arrays_is_saved_and_loaded_alike(context, tmp_path):
    model = GBDT(GBDT.Options(max_iter=20), context)
    one, other = parts()
    done = train_victim(model, one, other, one.view, params(), 1)
    assert (done.curve, done.best_epoch) == ((), None)
    save_victim(done.victim, tmp_path)
    again = load_victim(tmp_path, model, "cpu", 1)
    np.testing.assert_array_equal(again.probability(other.view), done.victim.probability(other.view))
    with pytest.raises(BackdoorError, match="no embedding"):
        again.embedding(other.view)


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_is_torchs(limit: float) -> None:
    ours = [torch.randn(4, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(theirs, limit)
    _clip(tuple(ours), limit)
    for parameter, gradient in zip(theirs, ours, strict=True):
        assert torch.equal(gradient, parameter.grad)
