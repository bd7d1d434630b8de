import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.cohort.splits import PARTS, load_splits, split_by_patient
from backdoor_core.cohort.storage import Cohort
from backdoor_core.errors import BackdoorError
from backdoor_core.params import SplitParams


def hospital(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(0, int(n * 0.8), n))
    return np.arange(n) + 10_000, subject, (rng.random(n) < 0.13).astype(np.int8)


def split(stay, subject, label, seed=0):
    return split_by_patient(stay, subject, label, SplitParams(), np.random.default_rng(seed))


@settings(max_examples=25)
@given(st.integers(200, 2000), st.integers(0, 100))
def test_parts_are_disjoint_by_patient_and_cover_every_stay(n, seed):
    stay, subject, label = hospital(n, seed)
    parts = split(stay, subject, label, seed)
    assert sorted(s for part in PARTS for s in parts[part]) == sorted(stay.tolist())
    patients = [set(subject[np.isin(stay, parts[p])].tolist()) for p in PARTS]
    assert patients[0].isdisjoint(patients[1] | patients[2])
    assert patients[1].isdisjoint(patients[2])


def test_shares_and_prevalence_agree():
    stay, subject, label = hospital(10_000)
    parts = split(stay, subject, label)
    shares = [len(parts[p]) / 10_000 for p in PARTS]
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.01)
    rates = [label[np.isin(stay, parts[p])].mean() for p in PARTS]
    np.testing.assert_allclose(rates, label.mean(), atol=0.015)


def test_row_order_does_not_matter():
    stay, subject, label = hospital(1000)
    order = np.random.default_rng(5).permutation(1000)
    assert split(stay, subject, label) == split(stay[order], subject[order], label[order])


def test_seeds_differ():
    stay, subject, label = hospital(1000)
    assert split(stay, subject, label, 1) != split(stay, subject, label, 2)


def test_too_few_deaths_is_one_line():
    stay, subject, label = hospital(60)
    label[:] = 0
    label[:2] = 1
    with pytest.raises(BackdoorError, match="and not both outcomes"):
        split(stay, subject, label)


def cohort(stay, subject, label) -> Cohort:
    now = np.full(len(stay), np.datetime64("2150-01-01", "us"))
    return Cohort(Path(), {}, stay, subject, label, now, now, {})


def test_a_patient_on_both_sides_is_refused_on_load(tmp_path):
    stay, subject, label = hospital(1000)
    parts = split(stay, subject, label)
    training = np.isin(stay, parts["train"])
    twice = next(s for s in subject[training] if (subject == s).sum() > 1)
    moved = int(stay[subject == twice][0])
    parts["train"].remove(moved)
    parts["test"].append(moved)
    (tmp_path / "splits.json").write_text(json.dumps({"stay_id": parts}))
    with pytest.raises(BackdoorError, match="1 patients stand in both train and test"):
        load_splits(tmp_path / "splits.json", cohort(stay, subject, label))


def test_splits_of_another_cohort_are_refused_on_load(tmp_path):
    stay, subject, label = hospital(1000)
    (tmp_path / "splits.json").write_text(json.dumps({"stay_id": split(stay, subject, label)}))
    with pytest.raises(BackdoorError, match="do not cover"):
        load_splits(tmp_path / "splits.json", cohort(stay[:-1], subject[:-1], label[:-1]))


@pytest.mark.parametrize("text", ["{}", "[]", '{"stay_id": {"train": [1], "test": [2]}}', '{"stay_id": {"train": 3}}'])
def test_a_file_without_the_parts_is_one_line(tmp_path, text):
    stay, subject, label = hospital(30)
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(BackdoorError, match="expected the stays of train, validation, test below stay_id") as error:
        load_splits(path, cohort(stay, subject, label))
    assert str(error.value).startswith(f"{path}: ")
