"""The synthetic source as a study sees it: the cohort that the hospital's SQL makes of the simulated tables."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from backdoor_cohorts.synthetic import Synthetic
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError


def build(out, seed, inclusion=None, **options):
    out.mkdir()
    source = Synthetic(Synthetic.Options(**options), Context(root=out.parent))
    return source.build(out, inclusion or Inclusion(), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "cohort"
    card = build(out, 11, stays=4000, threads=1)
    stays, table = pq.read_table(out / "stays.parquet"), pq.read_table(out / "table.parquet")
    values = np.column_stack([table[f.name].to_numpy() for f in card.features])
    return card, stays, values


def test_exactly_the_stays_asked_for_are_included(cohort):
    card, stays, values = cohort
    assert stays.num_rows == len(values) == 4000
    assert card.attrition[-1].stays == 4000
    assert card.attrition[0].stays > 4600
    assert len({step.stays for step in card.attrition}) >= 3


def test_card_says_synthetic(cohort):
    card = cohort[0]
    assert card.source == "synthetic"
    assert card.description.startswith("Synthetic")
    assert "synthetic data" in card.notes[0].lower()


def test_equal_generator_gives_equal_bytes_and_leaves_nothing_beside(tmp_path):
    for name in ("a", "b"):
        build(tmp_path / name, 5, stays=50)
    build(tmp_path / "c", 6, stays=50)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert {"stays.parquet", "table.parquet", "series.parquet", "events/data/0.parquet"} <= {
        f.as_posix() for f in files
    }
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    for file in ("stays.parquet", "table.parquet", "series.parquet", "events/data/0.parquet"):
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_no_impossible_value_reaches_the_table(cohort):
    card, _, values = cohort
    for number, feature in enumerate(card.features):
        column = values[:, number]
        measured = column[~np.isnan(column)]
        assert len(measured) > 1000, feature.name
        assert feature.low <= measured.min(), feature.name
        assert measured.max() <= feature.high, feature.name
    assert abs(np.nanmean(values[:, [f.name for f in card.features].index("temperature")]) - 36.95) < 0.1


def outcome(cohort):
    return cohort[1]["label"].to_numpy()


def test_models_find_the_task_as_hard_as_the_real_one(cohort):
    """PhysioNet 2012, first 24 hours, same kind of models: 0.80 to 0.83 both."""
    _, stays, values = cohort
    label, subject = outcome(cohort), stays["subject_id"].to_numpy()
    linear, boosted = [], []
    for train, test in GroupShuffleSplit(3, test_size=0.3, random_state=0).split(values, label, subject):
        regression = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(max_iter=1000)
        ).fit(values[train], label[train])
        trees = HistGradientBoostingClassifier(max_iter=80, learning_rate=0.08, max_leaf_nodes=15, random_state=0).fit(
            values[train], label[train]
        )
        linear.append(roc_auc_score(label[test], regression.predict_proba(values[test])[:, 1]))
        boosted.append(roc_auc_score(label[test], trees.predict_proba(values[test])[:, 1]))
    assert 0.74 < np.mean(linear) < 0.84
    assert 0.74 < np.mean(boosted) < np.mean(linear) + 0.05


def test_no_feature_alone_tells_the_outcome(cohort):
    card, _, values = cohort
    label = outcome(cohort)
    for number, feature in enumerate(card.features):
        measured = ~np.isnan(values[:, number])
        score = roc_auc_score(label[measured], values[measured, number])
        assert 0.25 < score < 0.75, feature.name
        assert 0.35 < roc_auc_score(label, measured) < 0.65, feature.name


def test_nothing_from_after_the_window_is_in_the_table(cohort):
    names = {feature.name for feature in cohort[0].features} | set(cohort[1].column_names)
    assert not [n for n in names if "los" in n.split("_") or "disch" in n or "death" in n or "dod" in n]


def test_the_patient_of_a_stay_is_known_by_its_other_stays(cohort):
    """Why splits go by patient: the stays of one are alike, as those of two are not."""
    card, stays, values = cohort
    weight = values[:, [f.name for f in card.features].index("weight")]
    subject = stays["subject_id"].to_numpy()
    again = subject[1:] == subject[:-1]
    assert again.mean() > 0.1
    same, other = (np.abs(np.diff(weight))[mask] for mask in (again, ~again))
    assert np.nanmedian(same) < np.nanmedian(other) / 2


def test_a_window_that_is_not_simulated_is_refused(tmp_path):
    with pytest.raises(BackdoorError, match=r"cohorts\.synthetic\.hours: 48 hours are simulated.*window has 72"):
        build(tmp_path / "out", 1, Inclusion(window_hours=72), stays=50)


def test_a_longer_window_is_built(tmp_path):
    card = build(tmp_path / "out", 1, Inclusion(window_hours=48, min_los_hours=48), stays=60)
    assert 20 < card.attrition[-1].stays < 60


def simulated(out, *args, **more):
    options = Synthetic.Options(**more.pop("options", {}))
    return Synthetic(options, Context(root=out.parent)).simulate(out, *args, **more)


def test_simulate_writes_the_raw_tables_of_any_size(tmp_path):
    found = simulated(tmp_path / "small", 20, 3)
    assert found["icu/icustays"] >= 20
    assert simulated(tmp_path / "csv", 20, 3, format="csv.gz") == found
    assert simulated(tmp_path / "long", 20, 3, options={"hours": 72})["icu/chartevents"] > found["icu/chartevents"]
    for name, suffix in (("small", ".parquet"), ("csv", ".csv.gz")):
        written = {p.relative_to(tmp_path / name).as_posix() for p in (tmp_path / name).rglob("*") if p.is_file()}
        assert written == {f"{table}{suffix}" for table in found}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["csv", "long", "small"]


def test_simulate_takes_an_empty_folder_and_refuses_any_other(tmp_path):
    (tmp_path / "empty").mkdir()
    assert simulated(tmp_path / "empty", 5, 3)["icu/icustays"] >= 5
    with pytest.raises(BackdoorError, match=r"empty: exists already; give a new or an empty folder"):
        simulated(tmp_path / "empty", 5, 3)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BackdoorError, match=r"file: exists already"):
        simulated(tmp_path / "file", 5, 3)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("stays", "seed", "format", "message"),
    [
        (0, 1, "parquet", r"stays: 0; must be 1 or more"),
        (5, -1, "parquet", r"seed: -1; must be 0 or more"),
        (5, 1, "csv", r"format: 'csv'; must be parquet or csv\.gz"),
    ],
)
def test_simulate_refuses_what_makes_no_hospital(tmp_path, stays, seed, format, message):
    with pytest.raises(BackdoorError, match=message):
        simulated(tmp_path / "out", stays, seed, format=format)
    assert not (tmp_path / "out").exists()


def test_a_simulation_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backdoor_cohorts.simulate.run.write_orders", full)
    with pytest.raises(OSError, match="No space left"):
        simulated(tmp_path / "out", 5, 3)
    assert list(tmp_path.iterdir()) == []


def test_the_table_does_not_depend_on_which_views_are_built(tmp_path):
    build(tmp_path / "all", 4, stays=60)
    build(tmp_path / "table", 4, Inclusion(views=("table",)), stays=60)
    for file in ("stays.parquet", "table.parquet"):
        assert (tmp_path / "all" / file).read_bytes() == (tmp_path / "table" / file).read_bytes()


def test_every_type_of_event_reaches_the_events(tmp_path):
    card = build(tmp_path / "out", 4, stays=60)
    assert set(card.views) == Synthetic.views == {"table", "series", "events"}
    events = pq.read_table(tmp_path / "out" / "events" / "data" / "0.parquet")
    types = [code.split("//")[0] for code in events["code"].to_pylist()]
    counts = {kind: types.count(kind) / 60 for kind in set(types)}
    assert counts.keys() >= {"PRESCRIPTION", "PROCEDURE", "LAB", "MICROBIOLOGY", "INGREDIENT"}
    assert 10 < counts["PRESCRIPTION"] < 30
    assert counts["MICROBIOLOGY"] > 1


def test_importing_the_source_is_quick():
    code = "import sys, backdoor_cohorts.synthetic; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"duckdb", "pyarrow", "scipy", "torch"} & set(loaded)
