import hashlib
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.cohort.text_store import EmbeddingStore
from backdoor_core.errors import BackdoorError


def vector(identity, text, width):
    seed = hashlib.sha256(f"{identity}/{text}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(list(seed)).normal(size=width).astype(np.float32)


@dataclass
class Counting:
    """Writes down what it was asked."""

    identity: str = "counting"
    width: int = 3
    calls: list[list[str]] = field(default_factory=list)

    def encode(self, texts):
        self.calls.append(list(texts))
        return self.expected(texts)

    def expected(self, texts):
        return np.array([vector(self.identity, text, self.width) for text in texts], np.float32)

    @property
    def asked(self):
        return [text for call in self.calls for text in call]


TEXTS = ["pneumonia", "", "肺炎", "pneumonia", "sepsis", ""]


def test_each_distinct_text_is_computed_once_in_sorted_order(tmp_path):
    encoder = Counting()
    store = EmbeddingStore(tmp_path / "embeddings")
    np.testing.assert_array_equal(store.embed(encoder, TEXTS), encoder.expected(TEXTS))
    assert encoder.asked == ["", "pneumonia", "sepsis", "肺炎"]
    wider = [*TEXTS, "asthma"]
    again = EmbeddingStore(tmp_path / "embeddings").embed(encoder, wider)
    np.testing.assert_array_equal(again, encoder.expected(wider))
    assert encoder.asked[4:] == ["asthma"]
    assert again.dtype == np.float32


def test_no_text_asks_and_writes_nothing(tmp_path):
    encoder = Counting()
    assert EmbeddingStore(tmp_path / "embeddings").embed(encoder, []).shape == (0, 3)
    assert encoder.calls == []
    assert list(tmp_path.iterdir()) == []


def test_another_identity_or_width_is_another_entry(tmp_path):
    store = EmbeddingStore(tmp_path)
    encoders = [Counting("one"), Counting("two"), Counting("one", width=5)]
    for encoder in encoders * 2:
        np.testing.assert_array_equal(store.embed(encoder, TEXTS), encoder.expected(TEXTS))
    assert [len(encoder.asked) for encoder in encoders] == [4, 4, 4]


def test_the_files_hold_hashes_and_vectors_but_no_text_and_nothing_unfinished(tmp_path):
    encoder = Counting()
    EmbeddingStore(tmp_path).embed(encoder, ["a patient's secret"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "3.index", "3.vectors"]
    assert all(b"secret" not in path.read_bytes() for path in tmp_path.iterdir())
    key = hashlib.sha256(b"counting\0a patient's secret").hexdigest().encode()
    assert (tmp_path / "3.index").read_bytes().startswith(key)
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "3.vectors", "<f4"), encoder.expected(["a patient's secret"])[0]
    )


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


DAMAGE = {
    "a changed vector": (lambda folder: flip(folder / "3.vectors", 13), 1),
    "a changed key": (lambda folder: flip(folder / "3.index", 128 + 5), 1),
    "a changed checksum": (lambda folder: flip(folder / "3.index", 128 + 70), 1),
    "a matrix cut within a row": (lambda folder: cut(folder / "3.vectors", 30), 2),
    "an empty matrix": (lambda folder: (folder / "3.vectors").write_bytes(b""), 4),
    "an index cut within a record": (lambda folder: cut(folder / "3.index", 300), 2),
    "a garbage index": (lambda folder: (folder / "3.index").write_bytes(b"\xff\0{garbage" * 60), 4),
    "no index": (lambda folder: (folder / "3.index").unlink(), 4),
    "no matrix": (lambda folder: (folder / "3.vectors").unlink(), 4),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_computed_again_and_then_mended(tmp_path, what):
    damage, lost = DAMAGE[what]
    store, encoder = EmbeddingStore(tmp_path), Counting()
    store.embed(encoder, TEXTS)
    damage(tmp_path)
    encoder.calls.clear()
    np.testing.assert_array_equal(store.embed(encoder, TEXTS), encoder.expected(TEXTS))
    assert len(encoder.asked) == lost
    encoder.calls.clear()
    np.testing.assert_array_equal(store.embed(encoder, TEXTS), encoder.expected(TEXTS))
    assert encoder.calls == []


def test_an_index_older_than_its_matrix_is_still_right(tmp_path):
    """What a process leaves behind that dies between its two renames."""
    store, encoder = EmbeddingStore(tmp_path), Counting()
    store.embed(encoder, ["b", "c"])
    old = (tmp_path / "3.index").read_bytes()
    store.embed(encoder, ["a", "d"])
    (tmp_path / "3.index").write_bytes(old)
    encoder.calls.clear()
    np.testing.assert_array_equal(store.embed(encoder, list("abcd")), encoder.expected(list("abcd")))
    assert encoder.asked == ["a", "d"]


def test_what_a_failed_run_had_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("backdoor_core.cohort.text_store._SAVE_EVERY", 2)
    store, encoder = EmbeddingStore(tmp_path), Counting()

    class Dies(Counting):
        def encode(self, texts):
            if "e" in texts:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        store.embed(Dies(), list("abcdef"))
    np.testing.assert_array_equal(store.embed(encoder, list("abcdef")), encoder.expected(list("abcdef")))
    assert encoder.calls == [["e", "f"]]


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(st.lists(st.text(st.characters(exclude_categories=()), max_size=4), max_size=6), max_size=4),
    repeated=st.booleans(),
)
def test_any_texts_in_any_order_give_their_own_vectors(tmp_path_factory, asked, repeated):
    store, encoder = EmbeddingStore(tmp_path_factory.mktemp("store")), Counting()
    for texts in asked * (2 if repeated else 1):
        result = store.embed(encoder, texts)
        np.testing.assert_array_equal(result, encoder.expected(texts).reshape(-1, 3))
    assert len(encoder.asked) == len({text for texts in asked for text in texts})


def test_the_first_value_written_is_the_one_all_use(tmp_path):
    class Rounds(Counting):
        def encode(self, texts):
            return super().encode(texts) + np.float32(1e-6 * len(texts))

    store = EmbeddingStore(tmp_path)
    first = store.embed(Rounds(), ["a"])
    np.testing.assert_array_equal(store.embed(Rounds(), ["b", "a", "c"])[[1]], first)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (np.zeros((1, 4), np.float32), r"counting: gave an array of shape \(1, 4\) for 1 texts; it must be \(1, 3\)"),
        (np.full((1, 3), np.nan, np.float32), "counting: gave a NaN or infinite value"),
    ],
)
def test_an_encoder_that_breaks_the_contract_is_named(tmp_path, result, told):
    class Broken(Counting):
        def encode(self, texts):
            return result

    with pytest.raises(BackdoorError, match=told):
        EmbeddingStore(tmp_path).embed(Broken(), ["a"])
    assert not (tmp_path / "3.index").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackdoorError, match=r"file: cannot keep text embeddings there.*must be a folder"):
        EmbeddingStore(tmp_path / "file").embed(Counting(), ["a"])


WORKER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    import numpy as np
    from backdoor_core.cohort.text_store import EmbeddingStore

    class Slow:
        identity, width = "slow", 3
        def encode(self, texts):
            time.sleep(0.05)
            with Path(sys.argv[2]).open("a") as file:
                file.write("".join(text + "\\n" for text in texts))
            return np.array([[int(text), 2, 3] for text in texts], np.float32)

    store, encoder = EmbeddingStore(Path(sys.argv[1])), Slow()
    for start in range(int(sys.argv[3]), 60, 3):
        texts = [str(i) for i in range(start, start + 20)]
        got = store.embed(encoder, texts)
        assert (got[:, 0] == np.arange(start, start + 20)).all()
""")


def test_two_processes_at_once_compute_nothing_twice_and_tear_nothing(tmp_path):
    log = tmp_path / "log"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "store"), str(log), str(start)], cwd=Path.cwd())
        for start in (0, 1)
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    computed = log.read_text().split()
    assert sorted(computed, key=int) == sorted(set(computed), key=int)
    assert len(computed) == 78
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", "3.index", "3.vectors"]
