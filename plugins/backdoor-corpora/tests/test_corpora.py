import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_core.contracts import Context
from backdoor_core.errors import BackdoorError
from backdoor_core.params import Params
from backdoor_core.plugins import discover
from backdoor_core.study import Paths, Study, plugin_lock


@pytest.fixture(scope="module")
def study():
    params = Params(cohort="synthetic", trigger="none", model="mlp", notes={"corpus": "mimic_like"})
    return Study(params, discover(), Paths(Path()))


def notes_of(study, name, seed=0, **options):
    return study.make("corpus", name, options).records(np.random.default_rng(seed))


def test_simple_notes_depend_on_the_seed_alone_and_fewer_are_the_first_of_more(study):
    notes = notes_of(study, "simple", records=200)
    assert notes == notes_of(study, "simple", records=300)[:200]
    assert notes != notes_of(study, "simple", 1, records=200)
    assert len({note.text for note in notes}) == 200
    assert len({note.record_id for note in notes}) == 200
    # About one note in five is of the patient before, with the same age and sex.
    patients = len({note.subject_id for note in notes})
    assert 140 < patients < 180
    who = {(note.subject_id, " ".join(note.text.split()[:3])) for note in notes}
    assert len(who) == patients


def test_a_simple_note_reads_as_one(study):
    pattern = (
        r"\d+ yo (male|female) with [\w ,]+ for \d+ days?\. PMH: [\w ,]+\. HR \d+, BP \d+/\d+, RR \d+, T \d+\.\d, "
        r"SpO2 \d+%\. WBC [\d.]+, Cr [\d.]+, lactate [\d.]+\. Assessment: .+\. Plan: .+\. Follow up in \d weeks?\."
    )
    for note in notes_of(study, "simple", records=50):
        assert re.fullmatch(pattern, note.text), note.text


def test_discharge_summaries_tell_what_the_simulated_tables_hold(study, tmp_path):
    notes = notes_of(study, "mimic_like", records=40)
    assert notes == notes_of(study, "mimic_like", records=40)
    hospital = study.make("cohort", "synthetic", {"stays": 50})
    hospital.simulate(tmp_path / "raw", 100, int(np.random.default_rng(0).integers(2**31)))
    labs = pq.read_table(tmp_path / "raw/hosp/labevents.parquet").to_pylist()
    people = {p["subject_id"]: p for p in pq.read_table(tmp_path / "raw/hosp/patients.parquet").to_pylist()}
    admissions = {a["hadm_id"]: a for a in pq.read_table(tmp_path / "raw/hosp/admissions.parquet").to_pylist()}
    drugs = pq.read_table(tmp_path / "raw/hosp/prescriptions.parquet", columns=["hadm_id", "drug"]).to_pylist()
    told = aged = 0
    for note in notes:
        admission = int(note.record_id.removeprefix("discharge-"))
        person = people[note.subject_id]
        assert note.text.startswith(f"Sex: {person['gender']} ")
        years = admissions[admission]["admittime"].year - person["anchor_year"]
        assert f"\n{person['anchor_age'] + years} year old " in note.text
        aged += years > 0
        creatinine = sorted(
            (lab["charttime"], lab["value"]) for lab in labs if lab["hadm_id"] == admission and lab["itemid"] == 50912
        )
        if match := re.search(r"Creatinine: (\S+) on admission, (\S+) last", note.text):
            assert match.groups() == (creatinine[0][1], creatinine[-1][1])
            told += 1
        for line in re.findall(r"^\d\. (.+)$", note.text, re.M):
            words = {" ".join(d["drug"].split()) for d in drugs if d["hadm_id"] == admission}
            assert any(line.startswith(word) for word in words)
    assert told > 20
    assert aged > 20


def test_the_lock_counts_the_hospital_as_part_of_its_notes(study):
    entry = plugin_lock(study)["notes"]["corpus"]
    assert [part["name"] for part in entry["parts"]] == ["synthetic"]
    assert entry["inputs"] == []


def text_corpus(folder, **options):
    from backdoor_corpora import Text

    return Text(Text.Options(**options), Context(folder))


CSV = 'id,who,note\na,3,"fever,\nand ""cough"""\nb,3,\nc,4,12\n'


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_tables_of_notes(tmp_path, kind):
    path = tmp_path / f"notes.{kind}"
    if kind == "csv":
        path.write_text(CSV)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    else:
        columns = {"id": ["a", "b", "c"], "who": [3, 3, 4], "note": ['fever,\nand "cough"', None, "12"]}
        pq.write_table(pa.table(columns), path)
    corpus = text_corpus(tmp_path, path=path.name, text="note", record="id", subject="who")
    found = [(n.record_id, n.subject_id, n.text) for n in corpus.records(np.random.default_rng(0))]
    assert found == [("a", 3, 'fever,\nand "cough"'), ("b", 3, ""), ("c", 4, "12")]
    assert corpus.inputs() == [path]
    alone = text_corpus(tmp_path, path=path.name, text="note").records(np.random.default_rng(0))
    assert [(n.record_id, n.subject_id) for n in alone] == [(f"row-00000{n}", n) for n in range(3)]


def test_a_folder_of_texts(tmp_path):
    (tmp_path / "notes/b").mkdir(parents=True)
    (tmp_path / "notes/b/2.txt").write_text("über")
    (tmp_path / "notes/1.txt").write_text("one")
    (tmp_path / "notes/1.md").write_text("no")
    found = text_corpus(tmp_path, path="notes").records(np.random.default_rng(0))
    assert [(n.record_id, n.subject_id, n.text) for n in found] == [("1", 0, "one"), ("b/2", 1, "über")]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("numéro,text\n1,a\n", "latin-1"),
        ("id,text\n1,café\n", "latin-1"),
        ("id,text\n" + "1,a\n" * 400_000 + "é,a\n", "latin-1"),
        ("text\nx\n", "utf-16"),
        ("text\nx\n", "utf-16-le"),
    ],
    ids=["header", "cell", "late", "utf-16", "utf-16-le"],
)
def test_a_table_that_is_not_utf8_is_one_line(tmp_path, content, encoding, suffix):
    written = content.encode(encoding)
    (tmp_path / f"n.{suffix}").write_bytes(gzip.compress(written, 1) if suffix == "csv.gz" else written)
    with pytest.raises(BackdoorError) as caught:
        text_corpus(tmp_path, path=f"n.{suffix}").records(np.random.default_rng(0))
    assert str(caught.value) == f"corpora.text.path: n.{suffix} is not UTF-8; save it as UTF-8"


def test_utf8_is_read_with_and_without_a_byte_order_mark(tmp_path):
    # Of letters of three bytes some lie across the portions in which a file is looked at.
    text = "日" * 700_000
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "n.csv").write_text(f"text\n{text}\n", encoding=encoding)
        assert [note.text for note in text_corpus(tmp_path, path="n.csv").records(np.random.default_rng(0))] == [text]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_long_notes_are_read(tmp_path, suffix):
    texts = ["word\n" * 300_000 + "a", "b", "word " * 700_000 + "c"]
    written = ("text\n" + "".join(f'"{text}"\n' for text in texts)).encode()
    (tmp_path / f"n.{suffix}").write_bytes(gzip.compress(written) if suffix == "csv.gz" else written)
    notes = text_corpus(tmp_path, path=f"n.{suffix}").records(np.random.default_rng(0))
    assert [note.text for note in notes] == texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "corpora.text.path: missing"),
        ({"path": "absent.csv"}, "absent.csv: no such file"),
        ({"path": "notes.txt"}, "notes.txt is none of .csv"),
        ({"path": "empty"}, "empty holds no .txt file"),
        ({"path": "notes.csv"}, "lacks the column 'text'; it has id, who, note"),
        ({"path": "notes.csv", "text": "note", "subject": "id"}, "column 'id' holds 'a' in row 1"),
        ({"path": "broken.parquet"}, "corpora.text.path: broken.parquet: "),
        ({"path": "twice.csv"}, "corpora.text: twice.csv: column text is there twice; expected each name once"),
        ({"path": "twice.csv", "text": "a", "record": "text"}, "column text is there twice"),
        ({"path": "cut.csv.gz"}, "corpora.text.path: cut.csv.gz: "),
        ({"path": "latin"}, "2.txt is not UTF-8 (invalid continuation byte at byte 0); save it as UTF-8"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(tmp_path, options, message):
    (tmp_path / "notes.csv").write_text(CSV)
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "broken.parquet").write_text("no")
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice.csv").write_text("text,a,text\na,b,c\n")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(CSV.encode())[:-9])
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin/2.txt").write_bytes("ère".encode("latin-1"))
    with pytest.raises(BackdoorError) as caught:
        text_corpus(tmp_path, **options).records(np.random.default_rng(0))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mtsamples(real_data):
    from backdoor_core.language.corpus import without_repeats

    corpus = text_corpus(real_data, path="mtsamples/mtsamples.csv.gz", text="transcription")
    notes = corpus.records(np.random.default_rng(0))
    kept, dropped = without_repeats(notes)
    assert len(notes) == 4999
    assert len(kept) + dropped.empty + dropped.repeated == 4999
    assert len(kept) == 2376
    assert (dropped.empty, dropped.repeated) == (0, 2623)


def test_names_stay_as_they_are_written(tmp_path):
    (tmp_path / "notes.csv").write_text("note,text\n001,first\n1,second\n2020-01-02,third\n")
    names = [
        n.record_id for n in text_corpus(tmp_path, path="notes.csv", record="note").records(np.random.default_rng(0))
    ]
    assert names == ["001", "1", "2020-01-02"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"note": ["a", None], "text": ["x", "y"]}, "record: column 'note' holds nothing in row 2"),
        ({"note": ["a", ""], "text": ["x", "y"]}, "record: column 'note' holds nothing in row 2"),
        ({"note": ["a", "b"], "text": [b"x", b"y"]}, "text: column 'text' is binary"),
    ],
)
def test_a_name_that_is_missing_and_bytes_are_refused(tmp_path, columns, says):
    pq.write_table(pa.table(columns), tmp_path / "notes.parquet")
    with pytest.raises(BackdoorError, match=says):
        text_corpus(tmp_path, path="notes.parquet", record="note").records(np.random.default_rng(0))


def test_a_byte_order_mark_is_none_of_the_note(tmp_path):
    (tmp_path / "one.txt").write_text("\ufeffa note", encoding="utf-8")
    assert [n.text for n in text_corpus(tmp_path, path=".").records(np.random.default_rng(0))] == ["a note"]
