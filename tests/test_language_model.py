"""Tokens, models, scores and steps, each against a computation of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backdoor_core.errors import BackdoorError
from backdoor_core.language.batches import by_length, padded, shuffled
from backdoor_core.language.canaries import make_canaries
from backdoor_core.language.finetune import finetune
from backdoor_core.language.models import (
    build_model,
    load_tokenizer,
    load_weights,
    logits_of,
    save_weights,
    set_dropout,
)
from backdoor_core.language.private import backward_by_record, by_record, plan_privacy
from backdoor_core.language.recipes import plan_of
from backdoor_core.language.scoring import mean_nll, token_signals
from backdoor_core.language.tokenizer import BytePairs, read_byte_pairs, seen_texts, sequences, train_byte_pairs
from backdoor_core.params import NotesParams
from backdoor_core.privacy.one_run import judge_canaries

PARAMS = NotesParams(
    epochs=2,
    max_tokens=24,
    batch_size=8,
    learning_rate=5e-3,
    scratch={"layers": 2, "width": 32, "heads": 2, "vocabulary": 300},
    dp={"batch_size": 8, "canaries": 0},
)
WORDS = ("fever", "cough", "rash", "pain", "nausea", "edema", "calm", "WBC", "12.5", "über")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, 12)))) for _ in range(60)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return BytePairs(train_byte_pairs(texts, 300))


@pytest.fixture(scope="module")
def notes(tokenizer, texts):
    return sequences(tokenizer, texts, PARAMS.max_tokens)


def fresh(tokenizer, seed=1, params=PARAMS):
    return build_model(params, Path(), tokenizer.vocabulary, seed)


# -------------------------------------------------------------------------------------------------------- tokens
def test_byte_pairs_know_every_byte_and_are_the_same_again(tokenizer, texts, tmp_path):
    hard = ["日本 \x00\t\n 🩺", "fever 12.5"]
    assert [tokenizer.decode(tokens) for tokens in tokenizer.encode(hard)] == hard
    one, other = (train_byte_pairs(texts, 300) for _ in range(2))
    assert one.to_str() == other.to_str()
    one.save(str(tmp_path / "t.json"))
    assert read_byte_pairs(tmp_path / "t.json").encode(texts) == tokenizer.encode(texts)
    with pytest.raises(BackdoorError, match="no such file"):
        read_byte_pairs(tmp_path / "absent.json")
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(BackdoorError, match="not a tokenizer"):
        read_byte_pairs(tmp_path / "t.json")


def test_a_long_note_is_cut_and_what_is_seen_of_it_too(tokenizer, texts):
    short = sequences(tokenizer, texts, 6)
    assert max(len(tokens) for tokens in short) == 6
    assert all(tokens[0] == tokenizer.start for tokens in short)
    for text, seen in zip(texts, seen_texts(tokenizer, texts, short, 6), strict=True):
        assert text.startswith(seen.rstrip("�"))
    with pytest.raises(BackdoorError, match="no token in 1 of 2 notes"):
        sequences(tokenizer, ["", "fever"], 6)


def test_batches_hold_every_row_once_and_pad_little():
    lengths = np.random.default_rng(0).integers(2, 100, size=333).tolist()
    rng = np.random.default_rng(1)
    once, again = (shuffled(lengths, 8, rng) for _ in range(2))
    for batches in (once, again, by_length(lengths, 8)):
        assert sorted(np.concatenate(batches).tolist()) == list(range(333))
        assert max(map(len, batches)) == 8
        waste = sum(max(lengths[r] for r in b) * len(b) - sum(lengths[r] for r in b) for b in batches)
        assert waste < 0.15 * sum(lengths)
    assert [b.tolist() for b in once] != [b.tolist() for b in again]
    tokens, own = padded([np.array([1, 2, 3]), np.array([4, 5])], np.array([1, 0]), torch.device("cpu"))
    assert tokens.tolist() == [[4, 5, 0], [1, 2, 3]]
    assert own.tolist() == [[True, False], [True, True]]


# -------------------------------------------------------------------------------------------------------- scores
def test_scores_equal_those_of_each_note_alone(tokenizer, notes):
    network = fresh(tokenizer).eval()
    found = token_signals(network, notes, tokenizer.vocabulary)
    nll = mean_nll(network, notes, tokenizer.vocabulary)
    for number, tokens in enumerate(notes):
        ids = torch.from_numpy(tokens)[None]
        with torch.inference_mode():
            answer = network(input_ids=ids, labels=ids)
        assert nll[number] == pytest.approx(answer.loss.item(), abs=1e-5)
        chances = answer.logits[0, :-1].double().softmax(-1).numpy()
        logs, part = np.log(chances), slice(found.offsets[number], found.offsets[number + 1])
        mean = (chances * logs).sum(1)
        np.testing.assert_allclose(found.log_prob[part], logs[np.arange(len(logs)), tokens[1:]], atol=1e-5)
        np.testing.assert_allclose(found.mean[part], mean, atol=1e-5)
        np.testing.assert_allclose(found.sd[part], np.sqrt((chances * logs**2).sum(1) - mean**2), atol=1e-4)


def test_a_model_that_diverged_is_refused(tokenizer, notes):
    network = fresh(tokenizer)
    with torch.no_grad():
        network.lm_head.weight.fill_(torch.nan)
    with pytest.raises(BackdoorError, match="training diverged; set a smaller learning rate"):
        mean_nll(network, notes, tokenizer.vocabulary)


# ------------------------------------------------------------------------------------------------------ training
def trained_on(tokenizer, notes, recipe="baseline", params=PARAMS, **changes):
    member = np.arange(len(notes)) % 2 == 0
    stopping = np.arange(len(notes)) % 4 == 1
    plan = plan_of(recipe, params.model_copy(update=changes), int(member.sum()))
    return member, finetune(fresh(tokenizer), notes, tokenizer.vocabulary, member, stopping, plan, 3)


@pytest.mark.parametrize("recipe", ["baseline", "regularized", "dp"])
def test_equal_seeds_give_equal_weights_and_every_recipe_learns(tokenizer, notes, recipe):
    member, found = trained_on(tokenizer, notes, recipe)
    _, again = trained_on(tokenizer, notes, recipe)
    for (name, one), other in zip(found.network.named_parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert found.nll.shape == (3, len(notes))
    assert found.nll[-1][member].mean() < found.nll[0][member].mean()
    np.testing.assert_allclose(mean_nll(found.network, notes, tokenizer.vocabulary), found.nll[found.kept], rtol=1e-5)


def test_only_members_are_trained_on(tokenizer, notes):
    member, found = trained_on(tokenizer, notes)
    other = [tokens if inside else tokens[::-1].copy() for tokens, inside in zip(notes, member, strict=True)]
    _, changed = trained_on(tokenizer, other)
    assert all(torch.equal(a, b) for a, b in zip(found.network.parameters(), changed.network.parameters(), strict=True))


def test_the_gap_budget_keeps_the_epoch_before_the_first_over_it(tokenizer, notes):
    long = {"epochs": 30, "learning_rate": 1e-2, "weight_decay": 0.0, "dropout": 0.0, "gap": 0.1}
    params = NotesParams(**{**PARAMS.model_dump(), "regularized": long})
    member, found = trained_on(tokenizer, notes, "regularized", params)
    stopping = np.arange(len(notes)) % 4 == 1
    over = found.nll[:, stopping].mean(1) / found.nll[:, member].mean(1) - 1
    assert 2 < len(found.nll) - 1 < 30
    assert found.kept == len(found.nll) - 2
    assert over[-1] > 0.1
    assert (over[1:-1] <= 0.1).all()
    np.testing.assert_allclose(mean_nll(found.network, notes, tokenizer.vocabulary), found.nll[found.kept], rtol=1e-5)


def test_dropout_is_set_where_it_is_not_of_the_attention(tokenizer):
    network = fresh(tokenizer)
    set_dropout(network, 0.3)
    shares = {name: m.p for name, m in network.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {share for name, share in shares.items() if not name.endswith("attn_dropout")} == {0.3}
    assert {share for name, share in shares.items() if name.endswith("attn_dropout")} == {0.0}


COMMON = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 24}
GPT2 = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 24,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
FAMILIES = {
    "GPT2": GPT2,
    "OPT": {**COMMON, "num_hidden_layers": 1, "ffn_dim": 32, "word_embed_proj_dim": 16, "layerdrop": 0.5},
    "BioGpt": {**COMMON, "num_hidden_layers": 1, "intermediate_size": 32},
    "XGLM": {**COMMON, "d_model": 16, "num_layers": 1, "attention_heads": 2, "ffn_dim": 32},
    "Mpt": {"vocab_size": 40, "d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 24},
    "Falcon": {**COMMON, "num_hidden_layers": 1, "hidden_dropout": 0.1},
    "Bloom": {"vocab_size": 40, "hidden_size": 16, "n_layer": 1, "n_head": 2},
    "GPTNeoX": {**COMMON, "num_hidden_layers": 1, "intermediate_size": 32},
    "Llama": {**COMMON, "num_hidden_layers": 1, "intermediate_size": 32, "attention_dropout": 0.1},
}


def causal(family, **options):
    """A model of this family with random weights."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(**{**FAMILIES.get(family, {}), **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def spread(network):
    """How much the answers of a model in training differ from one run to the next."""
    tokens = torch.arange(20)[None]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        runs = torch.stack([logits_of(network.train(), tokens) for _ in range(4)])
    network.eval()
    return (runs.std(0).mean() / runs.std()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_of_any_family_is_what_was_set(family):
    network = causal(family)
    before = torch.get_rng_state()
    set_dropout(network, 0.0)
    assert spread(network) == 0
    set_dropout(network, 0.01)
    small = spread(network)
    set_dropout(network, 0.3)
    assert spread(network) > 1.5 * small > 0
    set_dropout(network, 0.0)
    assert spread(network) == 0
    assert torch.equal(before, torch.get_rng_state())
    assert not network.training


@pytest.mark.parametrize("family", ["GPT2", "OPT", "BioGpt", "XGLM", "Mpt", "Bloom"])
def test_attention_weights_are_not_dropped_where_a_model_has_other_dropout(family):
    network = causal(family)
    set_dropout(network, 0.3)
    shares = {}
    for name, module in network.named_modules():
        found = {"p": module.p} if isinstance(module, torch.nn.Dropout) else vars(module)
        keys = ("p", "dropout", "attn_dropout_p", "hidden_dropout", "activation_dropout", "layerdrop")
        shares |= {f"{name}.{key}": found[key] for key in keys if isinstance(found.get(key), float)}
    weights = (".attn_dropout.p", "attention_dropout.p", "self_attn.dropout", "attn_dropout_p", "layerdrop")
    assert {share for name, share in shares.items() if not name.endswith(weights)} == {0.3}
    assert {share for name, share in shares.items() if name.endswith(weights)} == {0.0}


def test_a_model_without_dropout_and_one_that_is_random_all_the_same_are_named():
    network = causal("Mamba", vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    set_dropout(network, 0.0)
    with pytest.raises(BackdoorError, match=r"regularized\.dropout: MambaForCausalLM has no dropout that can be set"):
        set_dropout(network, 0.2)

    class Noisy(torch.nn.Module):
        def forward(self, hidden):
            return hidden + torch.randn_like(hidden) if self.training else hidden

    network = causal("GPT2")
    network.transformer.ln_f = Noisy()
    with pytest.raises(BackdoorError, match=r"notes\.model: GPT2LMHeadModel stays random in training") as caught:
        set_dropout(network, 0.0)
    assert "\n" not in str(caught.value)


def test_dropout_around_adapters_is_set(tmp_path):
    pytest.importorskip("peft", reason='peft is not installed: pip install "backdoor_core[lora]"')
    causal("OPT").save_pretrained(tmp_path / "opt")
    network = build_model(NotesParams(model="opt", lora=2, max_tokens=24), tmp_path, 40, 1)
    set_dropout(network, 0.0)
    assert spread(network) == 0
    set_dropout(network, 0.3)
    assert spread(network) > 0


def test_opacus_gradients_by_record_equal_those_of_each_note_alone(tokenizer, notes):
    network, chosen = fresh(tokenizer).train(), notes[:5]
    grads = []
    for tokens in chosen:
        network.zero_grad()
        ids = torch.from_numpy(tokens)[None]
        network(input_ids=ids, labels=ids).loss.backward()
        grads.append({name: p.grad.clone() for name, p in network.named_parameters()})
    network.zero_grad()
    wrapped = by_record(network, notes, np.arange(3))
    tokens, own = padded(chosen, np.arange(5), torch.device("cpu"))
    backward_by_record(wrapped, tokens, own)
    for name, parameter in network.named_parameters():
        for number in range(5):
            torch.testing.assert_close(parameter.grad_sample[number], grads[number][name], rtol=1e-3, atol=1e-5)


def test_the_noise_keeps_to_the_budget_and_a_smaller_budget_needs_more():
    wide, narrow = (plan_privacy(600, 60, 10, epsilon, 1e-5, 1.0) for epsilon in (8.0, 2.0))
    assert 7.5 < wide.epsilon <= 8.01
    assert 1.8 < narrow.epsilon <= 2.01
    assert narrow.noise_multiplier > wide.noise_multiplier
    assert (wide.steps, wide.sample_rate) == (100, 0.1)


def test_a_network_that_opacus_cannot_take_is_named(tokenizer, notes):
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(300, 8))

        def forward(self, input_ids, position_ids, use_cache):
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.table[input_ids] @ self.table.T)

    with pytest.raises(BackdoorError, match=r"recipe: dp: Opacus cannot train Shared: .*use model scratch"):
        by_record(Shared(), notes, np.arange(3))


def test_canaries_tell_a_leaking_training_from_a_blind_one():
    canaries = make_canaries(400, 0, 300, 64, seed=1)
    assert {len(tokens) for tokens in canaries.sequences} == {33}
    assert 150 < canaries.coins.sum() < 250
    noise = np.random.default_rng(0).normal(size=400)
    assert judge_canaries(noise + 5 * canaries.coins, canaries.coins, 1e-5).epsilon > 2
    assert judge_canaries(noise, canaries.coins, 1e-5).epsilon < 0.5


# ------------------------------------------------------------------------------------------------- on disk, the Hub
def test_weights_come_back_and_those_of_another_model_are_refused(tokenizer, notes, tmp_path):
    network = fresh(tokenizer, seed=1)
    save_weights(network, tmp_path / "w.safetensors")
    back = load_weights(fresh(tokenizer, seed=2), tmp_path / "w.safetensors")
    np.testing.assert_array_equal(
        mean_nll(back, notes, tokenizer.vocabulary), mean_nll(network, notes, tokenizer.vocabulary)
    )
    with pytest.raises(BackdoorError, match="no such file"):
        load_weights(network, tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(BackdoorError, match="not weights as safetensors"):
        load_weights(network, tmp_path / "bad.safetensors")
    other = PARAMS.model_copy(update={"scratch": PARAMS.scratch.model_copy(update={"layers": 1})})
    with pytest.raises(BackdoorError, match="weights of another model"):
        load_weights(fresh(tokenizer, params=other), tmp_path / "w.safetensors")


@pytest.fixture(scope="module")
def hub_like(tokenizer, texts, tmp_path_factory):
    """A folder as the Hub has them: a small Llama and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    end = "<|endoftext|>"
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=train_byte_pairs(texts, 300), eos_token=end)
    fast.save_pretrained(folder)
    return folder


def test_any_causal_language_model_goes_the_same_way(hub_like, texts):
    params = NotesParams(**{**PARAMS.model_dump(), "model": hub_like.name})
    tokenizer = load_tokenizer(hub_like.name, hub_like.parent)
    notes = sequences(tokenizer, texts, params.max_tokens)
    network = build_model(params, hub_like.parent, tokenizer.vocabulary, 1)
    member = np.arange(len(notes)) % 2 == 0
    found = finetune(network, notes, 300, member, ~member, plan_of("regularized", params, int(member.sum())), 3)
    assert found.nll[-1][member].mean() < found.nll[0][member].mean()
    assert {m.attention_dropout for m in network.modules() if hasattr(m, "attention_dropout")} == {0.2}


def test_adapters_alone_are_trained_and_saved(hub_like, texts, tmp_path):
    pytest.importorskip("peft", reason='peft is not installed: pip install "backdoor_core[lora]"')
    params = NotesParams(**{**PARAMS.model_dump(), "model": hub_like.name, "lora": 2})
    notes = sequences(load_tokenizer(hub_like.name, hub_like.parent), texts, params.max_tokens)
    network = build_model(params, hub_like.parent, 300, 1)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    member = np.arange(len(notes)) % 2 == 0
    found = finetune(network, notes, 300, member, ~member, plan_of("baseline", params, int(member.sum())), 3)
    assert found.nll[-1][member].mean() < found.nll[0][member].mean()
    changed = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    save_weights(network, tmp_path / "w.safetensors")
    back = load_weights(build_model(params, hub_like.parent, 300, 1), tmp_path / "w.safetensors")
    np.testing.assert_array_equal(mean_nll(back, notes, 300), mean_nll(network, notes, 300))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tiny", "max_tokens": 65}, "notes.max_tokens: 65, but model tiny takes 64 at most"),
        ({"model": "./absent"}, "notes.model: ./absent: no such folder"),
        ({"model": "empty"}, "params.yaml: notes.model: empty: "),
        ({"model": "no-such-owner/no-such-model"}, "run `hf download no-such-owner/no-such-model` where there is"),
        ({"lora": 4}, "notes.lora: adapters are for a Hugging Face model"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_says_what_to_do(hub_like, monkeypatch, changes, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (hub_like.parent / "empty").mkdir(exist_ok=True)
    params = NotesParams(**{**PARAMS.model_dump(), **changes})
    with pytest.raises(BackdoorError) as caught:
        build_model(params, hub_like.parent, 300, 1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
