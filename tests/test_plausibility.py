import json

import numpy as np
import pytest
from scipy.stats import percentileofscore

from backdoor_core.attack import plausibility
from backdoor_core.attack.cells import changed_cells
from backdoor_core.attack.missing_mixture import fit_missing_mixture
from backdoor_core.attack.plausibility import plausibility_card, touched_figures, touched_percentiles
from backdoor_core.attack.row_distance import Reference
from backdoor_core.contracts import Feature, GridView, TableView
from backdoor_core.files import json_text
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.testing.views import FEATURES, series_view, table_view

BLOCKS = {"touched", "percentiles", "mahalanobis", "knn", "missingness", "correlation", "classifier"}
FACTS = {"modality", "stays", "stays_given", "patients", "reference_stays"}


def edited(view, where, value):
    values = view.values.copy()
    values[where] = value
    return view.with_values(values)


def card_of(clean, triggered, train, seed=0, replicates=100) -> dict:
    patients = np.arange(len(clean)) // 2
    return plausibility_card(clean, triggered, train, patients, np.random.default_rng(seed), replicates)


TRAIN, CLEAN = table_view(150, FEATURES[:5], seed=1), table_view(80, FEATURES[:5], seed=2)
TRAIN_3 = table_view(50, FEATURES[:3], seed=1)


def test_a_rare_value_is_odd_in_every_figure_but_missingness():
    measured = edited(CLEAN, np.s_[:, 2], np.linspace(70, 180, 80))
    card = card_of(measured, edited(measured, np.s_[:, 2], 9999), TRAIN)
    assert set(card) == BLOCKS | FACTS
    assert card == json.loads(json_text(card))
    touched = card["touched"]
    assert (touched["cells"], touched["outside"]["value"], touched["removed"]["value"]) == (80, 1, 0)
    (row,) = card["percentiles"]
    assert (row["feature"], row["cells"], row["median"]) == ("heart_rate", 80, 100)
    for name in ("mahalanobis", "knn"):
        assert card[name]["difference"]["low"] > 50
    assert card["missingness"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert card["correlation"]["lost"] == 4
    assert card["classifier"]["auroc"]["value"] > 0.99


def test_a_removed_value_is_not_outside_and_shows_in_missingness():
    train, clean = (edited(v, np.s_[:, 2], np.linspace(70, 180, len(v))) for v in (TRAIN, CLEAN))
    card = card_of(clean, edited(clean, np.s_[:, 2], np.nan), train)
    assert card["touched"]["removed"] == {"value": 1, "low": 1, "high": 1}
    assert card["touched"]["outside"]["value"] is None
    assert card["percentiles"] == []
    # Never missing in 150 training stays: as likely as half a case among 151.
    assert card["missingness"]["difference"]["value"] == pytest.approx(np.log(0.5 / 150.5), abs=0.3)
    # Nothing to see for a distance that puts the median there.
    assert card["mahalanobis"]["difference"]["value"] < 0
    assert card["classifier"]["auroc"]["value"] > 0.99


@pytest.mark.parametrize("make", [table_view, series_view])
def test_an_untouched_view_differs_in_nothing(make):
    clean = make(40, FEATURES[:3])
    card = card_of(clean, clean, make(60, FEATURES[:3], seed=1))
    nothing = {"value": 0, "low": 0, "high": 0}
    assert card["touched"]["cells"] == 0
    assert card["touched"]["stays"] == nothing
    assert card["touched"]["removed"]["value"] is None
    assert "nothing" in card["touched"]["note"]
    assert card["percentiles"] == []
    assert [card[k]["difference"] for k in ("mahalanobis", "knn", "missingness")] == [nothing] * 3
    assert (card["correlation"]["mean"], card["correlation"]["max"]) == (0, 0)
    assert card["classifier"]["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_the_distances_are_those_of_the_same_rows():
    triggered = edited(CLEAN, np.s_[:, 3], 250)
    card = card_of(CLEAN, triggered, TRAIN)
    reference = Reference.of(TRAIN.values.astype(np.float64))
    for name, distance in (("mahalanobis", reference.mahalanobis), ("knn", reference.neighbors)):
        before, after = distance(CLEAN.values.astype(np.float64)), distance(triggered.values.astype(np.float64))
        assert card[name]["clean"]["value"] == pytest.approx(before.mean())
        assert card[name]["triggered"]["value"] == pytest.approx(after.mean())
        difference = card[name]["difference"]
        assert difference["value"] == pytest.approx((after - before).mean())
        assert difference["low"] < difference["value"] < difference["high"]


def test_the_patterns_of_a_series_are_hour_by_hour():
    """Measured at even hours only, in features that were measured at odd ones too: the share alone tells less."""
    train, clean = series_view(150, FEATURES[:2], seed=1), series_view(40, FEATURES[:2], seed=2)
    train, clean = (edited(v, np.s_[:, 1, 0], 60) for v in (train, clean))
    card = card_of(clean, edited(clean, np.s_[:, 1, 0], np.nan), train)
    assert card["missingness"]["difference"]["high"] < -4
    mixture = fit_missing_mixture(np.isnan(train.values).reshape(150, -1), np.random.default_rng(0))
    likelihood = mixture.log_likelihood(np.isnan(clean.values).reshape(40, -1)).mean()
    assert card["missingness"]["clean"]["value"] == pytest.approx(likelihood, abs=0.5)
    assert card["modality"] == "series"


def small_table(*columns, low=0.1, high=100.0):
    values = np.column_stack(columns).astype(np.float32)
    return TableView(np.arange(len(values)), tuple(Feature(n, "", low, high) for n in "ab"[: len(columns)]), values)


def test_shares_of_touched_cells_are_counts_over_counts():
    clean = small_table([1, 2, np.nan, 4], [1, 2, 300, np.nan])
    triggered = small_table([0.1, 500, 7, 4], [np.nan, -3, 300, np.nan])
    weights = cluster_bootstrap_weights(np.arange(4), 200, np.random.default_rng(0))
    figures = touched_figures(clean, triggered, changed_cells(clean, triggered), weights)
    # Five touched cells: 0.1 (a limit, which is inside), 500, 7 where nothing was, one removed, -3. 300 is not one.
    assert figures["cells"] == 5
    assert figures["stays"]["value"] == 0.75
    assert figures["removed"]["value"] == pytest.approx(1 / 5)
    assert figures["filled"]["value"] == pytest.approx(1 / 5)
    assert figures["outside"]["value"] == pytest.approx(2 / 4)
    assert figures["outside"]["low"] < 0.5 < figures["outside"]["high"]


def test_an_interval_counts_patients_and_not_stays():
    clean = table_view(60, FEATURES[:2])
    triggered = edited(clean, np.s_[:30, 0], 9999)

    def width(patients):
        weights = cluster_bootstrap_weights(patients, 300, np.random.default_rng(0))
        stays = touched_figures(clean, triggered, changed_cells(clean, triggered), weights)["stays"]
        return stays["high"] - stays["low"]

    assert width(np.arange(60) // 10) > 1.5 * width(np.arange(60))


def test_percentiles_equal_scipys():
    rng = np.random.default_rng(0)
    train = small_table(rng.integers(1, 20, 300), np.full(300, np.nan))
    clean = small_table(np.full(41, np.nan), np.full(41, np.nan))
    set_to = rng.integers(1, 25, 41)
    triggered = small_table(set_to, np.where(np.arange(41) < 3, 1, np.nan))
    first, second = touched_percentiles(triggered, changed_cells(clean, triggered), train)
    known = [percentileofscore(train.values[:, 0], x, kind="mean") for x in set_to]
    assert (first["median"], first["p2_5"], first["p97_5"]) == pytest.approx(np.percentile(known, [50, 2.5, 97.5]))
    assert (second["feature"], second["cells"], second["median"]) == ("b", 3, None)
    assert "never measured" in second["note"]


def test_more_stays_than_the_cap_are_drawn_from(monkeypatch):
    monkeypatch.setattr(plausibility, "MOST_STAYS", 30)
    card = card_of(CLEAN, edited(CLEAN, np.s_[:, 2], 9999), TRAIN)
    assert (card["stays"], card["stays_given"], card["reference_stays"]) == (30, 80, 30)
    assert card["touched"]["cells"] == 30


def no_figure_is_odd(card):
    text = json_text(card)
    assert card == json.loads(text)
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize("make", [table_view, series_view])
@pytest.mark.parametrize(("stays", "train"), [(0, 0), (0, 50), (1, 50), (3, 2), (30, 0), (30, 1), (25, 6)])
def test_few_rows_give_null_figures_and_notes(make, stays, train):
    clean = make(stays, FEATURES[:3])
    known = make(train, FEATURES[:3], seed=1)
    card = card_of(clean, edited(clean, np.s_[..., 1], 9999), known)
    no_figure_is_odd(card)
    assert (card["stays"], card["reference_stays"]) == (stays, train)
    assert (card["mahalanobis"]["clean"]["value"] is None) == (not stays or train < 2)
    assert (card["missingness"]["clean"]["value"] is None) == (not stays or not train)
    assert (card["classifier"]["auroc"]["value"] is None) == (stays < 20)
    for block in ("mahalanobis", "knn", "missingness"):
        assert bool(card[block]["note"]) == (card[block]["clean"]["value"] is None)


def test_one_patient_has_figures_without_intervals():
    clean = table_view(30, FEATURES[:3])
    triggered = edited(clean, np.s_[:, 1], 9999)
    card = plausibility_card(clean, triggered, TRAIN_3, np.zeros(30, int), np.random.default_rng(0), 100)
    no_figure_is_odd(card)
    assert card["patients"] == 1
    assert card["touched"]["outside"] == {"value": 1, "low": None, "high": None}
    assert card["knn"]["difference"]["value"] > 1
    assert card["knn"]["difference"]["low"] is None
    assert card["classifier"]["auroc"]["value"] is None


@pytest.mark.parametrize(("make", "stays"), [(table_view, 22), (series_view, 12)])
@pytest.mark.parametrize("known", [np.nan, 5.0])
@pytest.mark.parametrize("value", [np.nan, 5.0, 1e30])
def test_missing_and_constant_features_and_all_removed(make, stays, known, value):
    def odd(view: GridView) -> GridView:
        return edited(edited(view, np.s_[..., 0], known), np.s_[..., 1], np.nan)

    clean, train = odd(make(stays, FEATURES[:3])), odd(make(40, FEATURES[:3], seed=1))
    no_figure_is_odd(card_of(clean, edited(clean, np.s_[..., :], value), train, replicates=20))


def test_the_card_is_deterministic_and_leaves_its_views_alone():
    clean = table_view(30, FEATURES[:3])
    triggered = edited(clean, np.s_[:, 1], 9999)
    copies = [view.values.copy() for view in (clean, triggered, TRAIN_3)]
    assert card_of(clean, triggered, TRAIN_3) == card_of(clean, triggered, TRAIN_3)
    for view, copy in zip((clean, triggered, TRAIN_3), copies, strict=True):
        np.testing.assert_array_equal(view.values, copy)
