"""The parts of an export: the check with every violation planted, shapes, small cells, and scores of notes."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.errors import BackdoorError
from backdoor_core.sharing.allowed import Each, Leaf, allowed
from backdoor_core.sharing.check import Check
from backdoor_core.sharing.config import clean_config
from backdoor_core.sharing.rows import NOTE_SCORES, note_csv
from backdoor_core.sharing.small import SMALLEST_CELL, hidden_cells, suppress

# -------------------------------------------------------------------------------------------- planted in a member
STAY, PATIENT, VALUE = 30000112, 10004422, np.float32(1.8333334)


@pytest.fixture
def check(tmp_path):
    cohort = tmp_path / "cohort"
    write_parquet(
        cohort / "stays.parquet",
        {"stay_id": np.array([STAY, STAY + 8]), "subject_id": np.array([PATIENT, PATIENT])},
    )
    write_parquet(cohort / "table.parquet", {"stay_id": np.array([STAY]), "lactate": np.array([VALUE, np.nan])[:1]})
    write_parquet(cohort / "series.parquet", {"stay_id": np.array([STAY]), "ph": np.array([7.3512], dtype=np.float32)})
    return Check(
        [cohort], frozenset({"lactate", "ph"}), folders=[Path("/home/alice/study")], names=["alice", "icu-box"]
    )


SVG = '<svg xmlns="http://www.w3.org/2000/svg" aria-label="TAR">{}</svg>'


def png(kind, said):
    content = said.encode()
    checked = struct.pack(">I", zlib.crc32(kind + content))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(content)) + kind + content + checked


REFUSED = {
    "an id": ("results.json", {"epochs_done": STAY}, "epochs_done holds 30000112, an id of the cohort"),
    "a patient's id": ("results.json", {"x": [[1, PATIENT]]}, "an id of the cohort"),
    "an id as a float": ("results.json", {"x": float(STAY)}, "an id of the cohort"),
    "an id as a key": ("results.json", {"x": {str(STAY): 1}}, "an id of the cohort"),
    "ids under the key of a count": ("results.json", {"stays": [STAY, STAY + 8]}, "stays holds 30000112"),
    "an id as text of a count": ("results.json", {"stays": str(STAY)}, "stays holds 30000112"),
    "an id below a count": ("results.json", {"cells": {"x": STAY}}, "cells.x holds 30000112"),
    "an id as text": ("results.json", {"x": f"of {STAY}"}, "an id of the cohort"),
    "an id in a cell": ("summary.csv", f"model,auroc\nmlp,{STAY}\n", "auroc holds 30000112"),
    "an id in a cell as a float": ("summary.csv", f"model,auroc\nmlp,{STAY}.0\n", "auroc holds 30000112"),
    "an id in a line without columns": ("summary.csv", f"model\nmlp,{STAY}\n", "an id of the cohort"),
    "an id in a page's data": (
        "report.html",
        f'<script type="application/json">{{"cells": {{"x": [{STAY}]}}}}</script>',
        "cells.x holds",
    ),
    "an id in a page's words": ("report.html", f"<p>stay {STAY}</p>", "an id of the cohort"),
    "an id in a page's attribute": ("report.html", f'<p title="{STAY}">x</p>', "an id of the cohort"),
    "an id in a file's name": (f"figures/stay_{STAY}.png", png(b"IEND", ""), "an id of the cohort"),
    "an id in a report": ("notes/REPORT.md", f"# Notes\n\nof {STAY}\n", "an id of the cohort"),
    "a key of ids": ("results.json", {"x": {"stay_id": 1}}, "names identifiers"),
    "a key of text": ("results.json", {"events": [{"text": "positive"}]}, "names identifiers"),
    "a key of times": ("results.json", {"INTIME": None}, "names identifiers"),
    "a column of ids": ("summary.csv", "model,hadm_id\nmlp,1\n", "names identifiers"),
    "a time": ("results.json", {"x": "2150-01-02 03:04:05"}, "a date with a time of day"),
    "a path": ("results.json", {"x": "/srv/hospital/data"}, "absolute path"),
    "a path of Windows": ("results.json", {"x": "C:\\data\\mimic"}, "absolute path"),
    "a path at home": ("results.json", {"x": "~/mimic"}, "absolute path"),
    "a path in a sentence": ("notes/REPORT.md", "read from /home/bob/x\n", "absolute path"),
    "the study's path": ("results.json", {"/home/alice/study": 1}, "/home/alice/study"),
    "an address": ("results.json", {"x": "spark://node7:7077"}, "address"),
    "the user": ("results.json", {"x": "made by alice"}, "'alice'"),
    "the machine": ("report.html", "<p>on ICU-box</p>", "'icu-box'"),
    "an id in a comment": ("report.html", f"<p>x</p><!-- {STAY} -->", str(STAY)),
    "an id that names an attribute": ("report.html", f"<p data-x{STAY}='1'>x</p>", str(STAY)),
    "an id in a drawing's comment": ("figures/tar.svg", SVG.format(f"<!-- {STAY} -->"), str(STAY)),
    "an id that names a shape": ("figures/tar.svg", SVG.format(f'<g id="stay_{STAY}"/>'), str(STAY)),
    "an id in a drawing's data": ("figures/tar.svg", SVG.format(f'<g data-stay="{STAY}"/>'), str(STAY)),
    "an id before a drawing": ("figures/tar.svg", f"<!-- {STAY} -->" + SVG.format(""), str(STAY)),
    "an id beside a picture": ("figures/tar.png", png(b"tEXt", f"Comment\0stay {STAY}"), str(STAY)),
    "a packed text": ("figures/tar.png", png(b"zTXt", "Comment"), "a part 'zTXt' that is not looked at"),
    "more than a picture": ("figures/tar.png", png(b"IEND", "") + b"x", "more than its picture"),
    "a column of a feature": ("summary.csv", "model,lactate\nmlp,2\n", "named like a feature"),
    "a score of a feature": ("audit_scores.csv", "member,lactate.poisoned\n1,2\n", "no score or label"),
    "another column": ("predictions.csv", "label,age_band\n1,2\n", "column age_band is no score or label"),
    "a raw score": ("detector_scores.csv", "label,range_rule.poisoned.score\n1,2\n", "no score or label"),
    "text among scores": ("predictions.csv", "label,poisoned.clean\n1,died\n", "line 2, column poisoned.clean"),
    "a score of many digits": ("predictions.csv", "label,poisoned.clean\n1,0.1234567\n", "6 digits"),
    "a cell too many": ("predictions.csv", "label\n1,0.5\n", "more or fewer cells"),
    "a value": ("results.json", {"x": 1.8333334}, "x holds 1.8333334, a measured value"),
    "a value, negative": ("results.json", {"x": -1.8333334}, "a measured value"),
    "a value as float64": ("results.json", {"x": {"y": [0.5, float(VALUE)]}}, "x.y holds 1.833333"),
    "a short value as float64": ("results.json", {"x": float(np.float32(7.3512))}, "a measured value"),
    "a value as text": ("notes/REPORT.md", "lactate was 1.8333334.\n", "a measured value"),
    "a value in a cell": ("aggregated_metrics.csv", "metric,mean\nauroc,1.8333334\n", "a measured value"),
    "another file": ("model.pt", b"", "not on the list"),
    "a file elsewhere": ("cells/../cohort/stays.csv", b"", "not on the list"),
}


def look_at(check, name, content):
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    check.add(name, content)
    check.finish()


@pytest.mark.parametrize("what", REFUSED)
def test_a_planted_violation_is_refused(check, what):
    name, content, said = REFUSED[what]
    with pytest.raises(BackdoorError) as error:
        look_at(check, name, content)
    assert said in str(error.value)
    assert name in str(error.value) or "name" in what
    assert str(error.value).endswith("nothing was written")


SOUND = {
    "a count": ("results.json", {"test": {"stays": STAY}, "metrics": {"train_stays": {"mean": float(STAY)}}}),
    "a count in a long table": ("aggregated_metrics.csv", f"model,metric,mean\nmlp,train_stays,{STAY}.0\n"),
    "a seed": ("results.json", {"doses": {"per_seed": {str(STAY): 0.5}}, "seeds": [STAY]}),
    "a hash": ("results.json", {"sha256": "a" + str(STAY) + "b" * 55}),
    "decimals": ("results.json", {"x": "0.30000112", "y": 0.30000112}),
    "a part of a number": ("results.json", {"x": STAY * 10 + 3}),
    "a rounded value": ("predictions.csv", "label,poisoned.clean\n1,1.83333\n0,\n"),
    "a value of few digits": ("results.json", {"x": 7.3512}),
    "a word that starts like a path": ("notes/REPORT.md", "~ 10 stays\n/ 24 h\n"),
    "another figure": ("results.json", {"x": 11 / 6, "stays": "Medical/Surgical", "y": "and/or"}),
    "coordinates": (
        "figures/tar.svg",
        f'<svg xmlns="http://www.w3.org/2000/svg" aria-label="TAR"><path d="M {STAY} 1.8333334"/></svg>',
    ),
    "a script of the page": ("report.html", f"<style>a{{}}</style><script>var x = {STAY};</script><p>x</p>"),
}


@pytest.mark.parametrize("what", SOUND)
def test_what_is_no_patient_passes(check, what):
    look_at(check, *SOUND[what])


def test_names_and_texts_of_notes_are_refused(tmp_path):
    folder = tmp_path / "corpus"
    columns = {"record_id": ["note-00017", "1234567"], "subject_id": [PATIENT, 5], "text": ["He left. ", "She stayed."]}
    write_parquet(folder / "notes.parquet", columns)
    said = {
        "name": ["x: note-00017", "note-00017", 1234567],
        "text": ["He left."],
        "patient": [PATIENT],
    }
    for kind, values in said.items():
        for value in values:
            check = Check([], frozenset(), notes=folder)
            check.add("notes/comparison.json", json.dumps({"corpus": {"x": value}}).encode())
            if value == "x: note-00017":
                check.finish()
                continue
            with pytest.raises(BackdoorError, match=f"holds the {kind} of a note"):
                check.finish()


# --------------------------------------------------------------------------------------------------------- parts
def test_scores_of_notes_lose_names_and_texts(tmp_path):
    path = tmp_path / "mia_baseline.csv"
    path.write_text('seed,record_id,member,nll,zlib,text\n0,b,1,2.123456789,-1,"He, left"\n0,a,0,1.5,3,x\n')
    assert note_csv(path).decode() == "seed,member,nll,zlib\n0,0,1.5,3\n0,1,2.12346,-1\n"
    assert NOTE_SCORES.fullmatch("record_id")  # it is left out by name
    path.write_text("seed,nll\n0,x\n")
    with pytest.raises(BackdoorError, match="a score is no number"):
        note_csv(path)


def test_a_shape_copies_what_it_lists():
    shape = {"a": Leaf.NUMBER, "b": [{"c": Leaf.NAME}], "d": Each(Leaf.NUMBERS), "e": Leaf.CONFIG}
    content = {
        "a": 1.5,
        "b": [{"c": "x", "stay": 3}, {"c": "y" * 401}, None],
        "d": {"f": [[1, None], [2]], "g": ["a"]},
        "e": {"path": "/data/x"},
        "h": 2,
    }
    left: set[str] = set()
    expected = {"a": 1.5, "b": [{"c": "x"}, {}, None], "d": {"f": [[1, None], [2]]}, "e": {"path": "x"}}
    assert allowed(shape, content, left) == expected
    assert left == {"b[].stay", "b[].c", "d.*", "h"}
    assert allowed(shape, {"a": "text", "b": 3}, left) == {}


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("/home/alice/mimic/", "mimic"),
        ("~/mimic", "mimic"),
        ("C:\\data\\mimic", "mimic"),
        ("data/raw/mimiciv", "data/raw/mimiciv"),
        ("spark://host:7077", "spark://"),
        ("and/or", "and/or"),
        (None, None),
    ],
)
def test_absolute_paths_lose_their_folders(given_path, expected):
    assert clean_config({"a": [given_path], "stay_id": 1, "address": "host:1"}) == {"a": [expected]}


counts = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8
)


@given(counts)
def test_no_hidden_cell_can_be_told_from_the_others(cells):
    hidden = hidden_cells(cells)
    assert all(min(cells[name]) >= SMALLEST_CELL for name in cells.keys() - hidden)
    if any(min(found) < SMALLEST_CELL for found in cells.values()) and len(hidden) < len(cells):
        sums = [sum(found) for found in zip(*(cells[name] for name in hidden), strict=True)]
        assert len(hidden) >= 2
        assert min(sums) >= SMALLEST_CELL
    if all(min(found) >= SMALLEST_CELL for found in cells.values()):
        assert not hidden


def test_a_large_cell_that_another_file_hides_does_not_stand_alone():
    cells = {"a": (50,), "b": (40,), "c": (60,)}
    assert hidden_cells(cells, frozenset({"a", "elsewhere"})) == {"a", "b"}
    assert hidden_cells(cells) == frozenset()


def test_codes_of_few_stays_are_left_out_of_events():
    code = {"code": "LAB//rare", "stays": SMALLEST_CELL - 1}
    common = {"code": "LAB//common", "stays": SMALLEST_CELL}
    shares = [{"code": "a", "stays": 0.09}, {"code": "b", "stays": 0.1}]
    results = {
        "stays": {"explained": 100},
        "touched": {"a": 9, "b": 10},
        "events": {
            "queries": [{"toward": [code, common], "away": [code]}],
            "explainers": {"saliency": {"by_code": shares}},
        },
    }
    suppress({"results_explain.json": results})
    assert results["events"]["queries"] == [{"toward": [common], "away": []}]
    assert results["events"]["explainers"]["saliency"]["by_code"] == shares[1:]
    assert results["touched"] == {"a": None, "b": 10}


def test_an_explanation_of_few_stays_is_left_out():
    results = {"stays": {"explained": 9}, "explainers": {"x": 1}, "figures": ["tar"], "note": None, "touched": {"a": 9}}
    suppress({"results_explain.json": results})
    assert results["explainers"] is results["touched"] is None
    assert results["figures"] == []
    assert "fewer than 10 stays" in results["note"]
