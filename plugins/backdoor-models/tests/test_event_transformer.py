import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from event_stays import planted
from pydantic import ValidationError

from backdoor_core.contracts import Context, EventSpec
from backdoor_core.learning.checkpoint import load_state, save_state
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.event_preprocess import fit_event_preprocessor
from backdoor_core.learning.training import Task, train_victim, train_victims
from backdoor_core.params import Params, PreprocessParams, TrainParams, TrainSection
from backdoor_models.event_transformer import EventTransformer, EventTransformerOptions
from backdoor_models.networks.attention import Attention
from backdoor_models.networks.events import GROUPS, EventTransformerNetwork

SPEC = EventSpec(types=("LAB", "MICRO"), text_width=6, statics=("age", "sex=F", "sex=M"))
LENGTHS = [4, 1, 0, 9, 2]


def make_network(spec=SPEC, seed=0, **options):
    model = EventTransformer(EventTransformerOptions(**{"dropout": 0.0, **options}), Context(root=Path()))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.build(spec)


def make_batch(lengths=LENGTHS, seed=0):
    """Hours rise within a stay; texts, types and numbers at random."""
    rng = np.random.default_rng(seed)
    events = sum(lengths)
    days = np.concatenate([np.sort(rng.uniform(0, 1, n)) for n in lengths] + [np.empty(0)])
    return EventBatch(
        statics=torch.from_numpy(rng.normal(size=(len(lengths), 3)).astype(np.float32)),
        offsets=torch.tensor(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        entry=torch.from_numpy(rng.integers(0, 5, events)),
        numbers=torch.from_numpy(np.column_stack([rng.normal(size=events), np.ones(events), days]).astype(np.float32)),
        types=torch.tensor([0, 1, 1, -1, 0]),
        texts=torch.from_numpy(rng.normal(size=(5, 6)).astype(np.float32)),
    )


@pytest.fixture(params=[{}, {"layers": 3, "heads": 4, "encoder_dropout": 0.2}], ids=["small", "deep"])
def network(request):
    return make_network(**request.param).eval()


def test_a_stay_has_the_same_logit_alone_padded_and_in_another_order(network):
    batch = make_batch()
    with torch.no_grad():
        together = network(batch)
        assert together.shape == (5,)
        for row in range(5):
            alone = network(batch.index_select(0, torch.tensor([row])))
            assert alone.item() == pytest.approx(together[row].item(), abs=1e-5)
        order = torch.tensor([3, 1, 4, 0, 2])
        assert torch.allclose(network(batch.index_select(0, order)), together[order], atol=1e-5)


def test_events_of_one_time_may_stand_in_any_order(network):
    batch = make_batch([6])
    numbers = batch.numbers.clone()
    numbers[1:4, 2] = numbers[1, 2]
    batch = replace(batch, numbers=numbers)
    order = torch.tensor([0, 3, 1, 2, 4, 5])
    permuted = replace(batch, numbers=numbers[order], entry=batch.entry[order])
    other = replace(batch, numbers=numbers.flip(0), entry=batch.entry.flip(0))
    with torch.no_grad():
        assert network(permuted).item() == pytest.approx(network(batch).item(), abs=1e-5)
        # An order of time does matter.
        assert not torch.allclose(network.embed(other), network.embed(batch), atol=1e-4)


def test_head_of_embed_is_forward_and_is_linear(network):
    batch = make_batch()
    with torch.no_grad():
        z = network.embed(batch)
        assert torch.equal(network.head(z), network(batch))
        assert torch.allclose(network.head(2 * z) - network.head(z), network.head(z) - network.head(0 * z), atol=1e-5)


def test_attention_sums_to_one_over_real_events_and_gives_the_layers_output(network):
    batch = make_batch()
    with torch.no_grad():
        tokens = network.tokens(batch)
        values, mask = tokens.values, tokens.real
        weights = network.attention(batch)
        assert len(weights) == len(network.layers)
        for layer, found in zip(network.layers, weights, strict=True):
            assert torch.allclose(found.sum(dim=-1), torch.ones(found.shape[:-1]), atol=1e-5)
            assert found.masked_select(~mask[:, None, None, :].expand_as(found)).eq(0).all()
            normed = layer.attend_norm(values)
            taken = found @ layer.attend._split(layer.attend.value(normed))
            mixed = values + layer.attend.out(taken.transpose(1, 2).flatten(2))
            after = mixed + layer.back(torch.nn.functional.gelu(layer.forth(layer.hidden_norm(mixed))))
            assert torch.allclose(after[mask], layer(values, mask)[mask], atol=1e-5)
            values = layer(values, mask)


def test_pooling_weights_have_their_shape_and_sum_to_one_over_real_events(network):
    batch = make_batch()
    with torch.no_grad():
        weights = network.pooling(batch)
    assert weights.shape == (5, 4, 1, 9)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(5, 4, 1), atol=1e-5)
    for row, length in enumerate(LENGTHS):
        assert weights[row, :, :, max(length, 1) :].eq(0).all()


def test_the_projection_is_one_linear_map_of_type_text_and_numbers(network):
    batch = make_batch([3])
    one_hot = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 0], [1, 0]])
    inputs = torch.cat([one_hot[batch.entry], batch.texts[batch.entry], batch.numbers], dim=1)
    with torch.no_grad():
        place, real = batch.padded()
        position = network._position(batch.numbers[:, 2][place], real)
        assert torch.allclose(network.tokens(batch).values, network.project(inputs)[None] + position, atol=1e-5)
        parts = network.contributions(batch)
        assert parts.shape == (1, 3, len(GROUPS), network.shape.width)
        without_bias = network.project(inputs) - network.project.bias
        assert torch.allclose(parts.sum(dim=2)[0], without_bias, atol=1e-5)


def test_positions_are_sines_and_cosines_of_the_rank_in_time():
    network = make_network()
    days = torch.tensor([[0.1, 0.1, 0.3, 0.4]])
    found = network._position(days, torch.ones(1, 4, dtype=torch.bool))[0]
    for place, rank in enumerate([0, 0, 1, 2]):
        angles = [rank / 10_000 ** (k / 8) for k in range(8)]
        assert found[place].tolist() == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-6)


def test_a_stay_without_events_depends_on_its_static_columns_alone(network):
    batch = make_batch([0, 0, 3])
    with torch.no_grad():
        logits = network(batch)
        same = network(replace(batch, statics=batch.statics[[0, 0, 2]]))
    assert logits[0] != logits[1]
    assert same[0].item() == pytest.approx(same[1].item(), abs=1e-6)
    assert torch.isfinite(logits).all()
    only = network(make_batch([0, 0]))
    assert torch.isfinite(only).all()


def test_gradients_reach_every_input_and_no_padding(network):
    batch = make_batch()
    texts, numbers = batch.texts.clone().requires_grad_(), batch.numbers.clone().requires_grad_()
    statics = batch.statics.clone().requires_grad_()
    network(replace(batch, texts=texts, numbers=numbers, statics=statics)).sum().backward()
    for tensor in (texts, numbers, statics):
        assert (tensor.grad.abs().sum(dim=1) > 0).all()


def test_thousands_of_events_are_read_up_to_the_limit():
    with torch.no_grad():
        assert torch.isfinite(make_network().eval()(make_batch([5000, 2]))).all()


def test_a_checkpoint_restores_the_network(tmp_path, network):
    other = make_network(seed=5, layers=len(network.layers), heads=network.layers[0].attend.heads).eval()
    save_state(network.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(load_state(tmp_path / "model.pt"))
    with torch.no_grad():
        assert torch.equal(other(make_batch()), network(make_batch()))


def test_masked_attention_is_attention_among_the_real_tokens():
    torch.manual_seed(0)
    attention, tokens = Attention(8, 2), torch.randn(1, 5, 8)
    real = torch.tensor([[True, True, True, False, False]])
    assert torch.allclose(attention(tokens, real=real)[:, :3], attention(tokens[:, :3]), atol=1e-6)
    weights = attention.weights(tokens, real=real)
    assert torch.allclose(weights[:, :, :3, :3], attention.weights(tokens[:, :3]), atol=1e-6)


def test_the_recency_weighted_loss_is_the_one_that_is_documented():
    network, batch = make_network(recency_weight=0.5, recency_halflife=3.0), make_batch([3, 2])
    labels = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        found = network.loss(batch, labels, None).item()
        encoded = network.encoded(network.tokens(batch))
        by_stay = []
        for row, label in enumerate([1, 0]):
            stay = slice(*batch.offsets[row : row + 2].tolist())
            hours = 24 * batch.numbers[stay, 2].numpy()
            weight = 2.0 ** (-(hours.max() - hours) / 3)
            p = 1 / (1 + np.exp(-network.event_head(encoded[row, : len(hours)]).squeeze(-1).numpy()))
            loss = -np.log(p if label else 1 - p)
            by_stay.append((weight * loss).sum() / weight.sum())
        plain = torch.nn.functional.binary_cross_entropy_with_logits(network(batch), labels).item()
    assert found == pytest.approx(plain + 0.5 * np.mean(by_stay), abs=1e-5)


def test_without_recency_the_loss_is_that_of_the_logits():
    network, batch, labels = make_network(), make_batch(), torch.tensor([1.0, 0, 0, 1, 0])
    plain = torch.nn.functional.binary_cross_entropy_with_logits(network(batch), labels, pos_weight=torch.tensor(3.0))
    assert network.loss(batch, labels, torch.tensor(3.0)).item() == pytest.approx(plain.item(), abs=1e-6)


def test_the_base_size_is_that_of_the_literature_and_numbers_replace_it():
    base = make_network(size="base")
    assert (base.shape.width, base.shape.layers, base.shape.heads, base.shape.feed_forward) == (256, 4, 8, 512)
    assert (base.shape.hidden, base.shape.pooling_heads) == ((256, 128), 4)
    assert make_network(size="base", layers=2).shape.layers == 2


def test_only_the_small_size_is_trained_in_large_steps(tmp_path):
    small, base = (TrainSection().of(make_model(tmp_path, size=size)) for size in ("small", "base"))
    assert (small.epochs, small.batch_size, small.learning_rate) == (5, 64, 0.007)
    assert base == TrainParams()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match="heads should divide width, and 3 does not 16"):
        EventTransformerOptions(heads=3)
    with pytest.raises(ValidationError, match="pooling_heads should divide width, and 4 does not 6"):
        EventTransformerOptions(width=6, heads=2)


# ------------------------------------------------------------------------------------------------- learning
def study_params(**train):
    fitted = {"epochs": 30, "batch_size": 32, "learning_rate": 0.003, "patience": 30, "device": "cpu", **train}
    base = {"cohort": "synthetic", "trigger": "none", "model": "event_transformer"}
    return Params.model_validate({**base, "train": fitted})


def make_model(folder, **options):
    return EventTransformer(EventTransformerOptions(**options), Context(root=folder))


def test_it_learns_a_planted_event(tmp_path):
    rows, held_out = planted(), planted(80, seed=1)
    done = train_victim(make_model(tmp_path), rows, held_out, rows.view, study_params(), seed=0)
    decided = done.victim.logits(held_out.view) > 0
    assert (decided == (held_out.label == 1)).mean() > 0.95
    assert done.victim.embedding(held_out.view).shape == (80, 32)


def test_training_is_deterministic_and_goes_on_after_a_kill(tmp_path):
    rows, held_out, params = planted(60), planted(30, seed=1), study_params(epochs=4)
    model = make_model(tmp_path, encoder_dropout=0.1)

    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    def fitted(on_epoch=lambda epoch: None, resume=None):
        return train_victim(model, rows, held_out, rows.view, params, 3, on_epoch, resume).last

    whole = fitted()
    assert all(torch.equal(whole[key], value) for key, value in fitted().items())
    with pytest.raises(KilledError):
        fitted(kill, tmp_path / "resume.pt")
    assert (tmp_path / "resume.pt").exists()
    resumed = fitted(resume=tmp_path / "resume.pt")
    assert all(torch.equal(whole[key], value) for key, value in resumed.items())


def test_snapshots_of_attention_are_kept_every_so_many_batches(tmp_path):
    rows, held_out, params = planted(60), planted(30, seed=1), study_params(epochs=4)
    model = make_model(tmp_path, snapshot_every=2)

    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    whole = train_victim(model, rows, held_out, rows.view, params, 3).last["_extra_state"]
    # 2 batches an epoch, one snapshot of each second one; the types share a head's whole weight.
    assert whole.shape == (1 + 4, 4, 2)
    assert whole[0].eq(8).all()
    assert torch.allclose(whole[1:].sum(dim=2), torch.ones(4, 4), atol=1e-5)
    with pytest.raises(KilledError):
        train_victim(model, rows, held_out, rows.view, params, 3, kill, tmp_path / "resume.pt")
    resumed = train_victim(model, rows, held_out, rows.view, params, 3, resume=tmp_path / "resume.pt").last
    assert torch.equal(resumed["_extra_state"], whole)
    plain = train_victim(make_model(tmp_path), rows, held_out, rows.view, params, 3).last
    assert len(plain["_extra_state"]) == 1
    assert torch.equal(plain["project.weight"], resumed["project.weight"])


def test_many_fits_equal_those_one_by_one(tmp_path):
    rows, held_out, params = planted(60), planted(30, seed=1), study_params(epochs=2)
    model = make_model(tmp_path)
    tasks = [Task(train=rows, validation=held_out, fit_on=rows.view, seed=seed) for seed in (1, 2)]
    for task, done in zip(tasks, train_victims(model, tasks, params), strict=True):
        alone = train_victim(model, rows, held_out, rows.view, params, task.seed)
        assert done.victim.logits(held_out.view) == pytest.approx(alone.victim.logits(held_out.view), abs=1e-5)


def test_fits_of_stays_with_other_categories_each_have_their_own_columns(tmp_path):
    rows, held_out, params = planted(80), planted(30, seed=1), study_params(epochs=2)
    women = np.flatnonzero(rows.view.statics["sex"] == "F")
    model = make_model(tmp_path)
    parts = [rows, type(rows)(rows.view.take(women), rows.label[women])]
    tasks = [Task(train=part, validation=held_out, fit_on=part.view, seed=1) for part in parts]
    done = train_victims(model, tasks, params)
    assert [len(found.victim.preprocessor.spec.statics) for found in done] == [5, 4]
    for part, found in zip(parts, done, strict=True):
        alone = train_victim(model, part, held_out, part.view, params, 1)
        assert found.victim.logits(held_out.view) == pytest.approx(alone.victim.logits(held_out.view), abs=1e-5)


def test_a_pool_of_processes_gives_the_same_fits(tmp_path):
    from backdoor_core.learning.job import Job
    from backdoor_core.learning.many import fit_many
    from backdoor_core.learning.training import tensors

    rows, held_out, params = planted(60), planted(30, seed=1), study_params(epochs=2)
    model = make_model(tmp_path)
    preprocessor = fit_event_preprocessor(rows.view, PreprocessParams(), model)
    inputs, labels = tensors(preprocessor, rows)
    # The second job says itself what it reads.
    specs = (None, preprocessor.spec)
    jobs = [Job(inputs, labels, tensors(preprocessor, held_out), k + 1, spec=own) for k, own in enumerate(specs)]
    alone = fit_many(model, preprocessor.spec, jobs, params.train, workers=1)
    pooled = fit_many(model, preprocessor.spec, jobs, params.train, workers=2)
    for one, other in zip(alone, pooled, strict=True):
        assert all(torch.equal(one.last[key], other.last[key]) for key in one.last)


def test_jobs_of_other_inputs_are_refused(tmp_path):
    from backdoor_core.learning.job import Job, check_jobs

    events, labels = make_batch(), torch.zeros(5)
    check_jobs([Job(events, labels, (events, labels), 0)], SPEC)
    with pytest.raises(ValueError, match=r"job 0: train inputs have shape \(5, 3\), the model takes events"):
        check_jobs([Job(torch.zeros(5, 3), labels, (events, labels), 0)], SPEC)
    with pytest.raises(ValueError, match="have 3 static columns and texts of width 6, the model takes other ones"):
        check_jobs([Job(events, labels, (events, labels), 0)], replace(SPEC, statics=("age",)))


def test_the_network_is_the_one_of_its_module():
    assert isinstance(make_network(), EventTransformerNetwork)
