import itertools

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, roc_auc_score

from backdoor_core.contracts import SeriesView
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.views import events_view
from backdoor_detectors import chow_liu
from backdoor_detectors.chow_liu import fit_chow_liu
from backdoor_detectors.missingness_pattern import MissingnessPattern


def panels(rng, rows=4000):
    """Three panels of three columns, each drawn together but for a few slips."""
    absent = np.repeat(rng.random((rows, 3)) < [0.5, 0.3, 0.6], 3, axis=1)
    return absent ^ (rng.random((rows, 9)) < 0.01)


def view_of(table, absent):
    return table(np.where(absent, np.nan, 1.0))


def every_mask(width):
    return np.array(list(itertools.product([False, True], repeat=width)))


@pytest.mark.parametrize("seed", range(4))
def test_the_probabilities_of_all_masks_sum_to_1(seed):
    rng = np.random.default_rng(seed)
    tree = fit_chow_liu(rng.random((60, 7)) < rng.random(7))
    assert np.exp(tree.log_likelihood(every_mask(7))).sum() == pytest.approx(1)


def test_the_tree_is_the_best_of_all_trees():
    # Of 4 columns there are 16 trees (Cayley): the one found has the greatest sum of sklearn's mutual information.
    rng = np.random.default_rng(1)
    hidden = rng.random((500, 1)) < 0.5
    absent = hidden ^ (rng.random((500, 4)) < [0.05, 0.1, 0.3, 0.2])
    pairs = list(itertools.combinations(range(4), 2))
    weight = {pair: mutual_info_score(absent[:, pair[0]], absent[:, pair[1]]) for pair in pairs}

    def connected(branches):
        reached = {0}
        for _ in range(4):
            reached |= {k for branch in branches if reached & set(branch) for k in branch}
        return len(reached) == 4

    trees = [branches for branches in itertools.combinations(pairs, 3) if connected(branches)]
    assert len(trees) == 16
    best = max(trees, key=lambda branches: sum(weight[b] for b in branches))
    parent = fit_chow_liu(absent).parent
    assert {tuple(sorted((k, int(parent[k])))) for k in range(1, 4)} == set(best)


def test_the_likelihood_is_the_product_of_the_smoothed_shares():
    absent = panels(np.random.default_rng(2), 300)
    tree = fit_chow_liu(absent)
    expected = np.zeros(len(absent))
    for column, parent in enumerate(tree.parent):
        for row in range(len(absent)):
            like = np.ones(300, bool) if column == parent else absent[:, parent] == absent[row, parent]
            p = (absent[like, column].sum() + 0.5) / (like.sum() + 1)
            expected[row] += np.log(p if absent[row, column] else 1 - p)
    assert tree.log_likelihood(absent) == pytest.approx(expected, rel=1e-9)


def test_samples_follow_the_tree():
    rng = np.random.default_rng(3)
    tree = fit_chow_liu(panels(rng)[:, :5])
    drawn, counts = np.unique(tree.sample(100_000, rng), axis=0, return_counts=True)
    assert counts / 100_000 == pytest.approx(np.exp(tree.log_likelihood(drawn)), abs=0.006)


def test_a_broken_panel_ranks_first_though_each_column_is_often_missing(detect_with, table):
    rng = np.random.default_rng(4)
    absent = panels(rng)
    truth = np.arange(len(absent)) < 20
    absent[truth] = [1, 0, 1, 0, 1, 0, 1, 0, 1]
    result = detect_with(MissingnessPattern, view_of(table, absent), np.zeros(len(absent), int))
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].all()
    assert result.flagged[~truth].mean() < 0.005
    alone = np.where(absent, -np.log(absent.mean(axis=0)), -np.log(1 - absent.mean(axis=0))).sum(axis=1)
    assert roc_auc_score(truth, alone) < 0.95


def test_masks_from_the_model_are_flagged_at_the_stated_share_6(detect_with, table):
    rng = np.random.default_rng(5)
    absent = fit_chow_liu(panels(rng)).sample(50_000, rng)
    result = detect_with(MissingnessPattern, view_of(table, absent), np.zeros(50_000, int), tail=0.01)
    assert 0.005 < result.flagged.mean() < 0.014


def test_row_order_and_batches_do_not_matter_9(detect_with, table, monkeypatch):
    rng = np.random.default_rng(6)
    absent = panels(rng, 500)
    order = rng.permutation(500)
    straight = detect_with(MissingnessPattern, view_of(table, absent), np.zeros(500, int))
    monkeypatch.setattr(chow_liu, "_ROWS_AT_ONCE", 64)
    shuffled = detect_with(MissingnessPattern, view_of(table, absent[order]), np.zeros(500, int))
    assert shuffled.scores == pytest.approx(straight.scores[order], rel=1e-12)
    assert (shuffled.flagged == straight.flagged[order]).all()


def test_columns_that_never_vary_say_nothing(detect_with, table):
    absent = panels(np.random.default_rng(7), 300)
    wide = np.column_stack([np.ones(300, bool), absent, np.zeros(300, bool)])
    plain = detect_with(MissingnessPattern, view_of(table, absent), np.zeros(300, int))
    padded = detect_with(MissingnessPattern, view_of(table, wide), np.zeros(300, int))
    assert (plain.scores == padded.scores).all()
    assert (padded.details["columns"], padded.details["varying_columns"]) == (11, 9)
    nothing = detect_with(MissingnessPattern, view_of(table, np.zeros((50, 3), bool)), np.zeros(50, int))
    assert not nothing.scores.any()
    assert not nothing.flagged.any()
    assert "skipped" in nothing.details


def test_each_hour_of_a_series_is_a_column(detect_with, table):
    absent = panels(np.random.default_rng(8), 400)
    flat = view_of(table, absent)
    values = flat.values.reshape(400, 3, 3)
    series = SeriesView(flat.stay_id, flat.features[:3], values, np.where(np.isnan(values), 0, 1).astype(np.uint16))
    both = [detect_with(MissingnessPattern, view, np.zeros(400, int)) for view in (flat, series)]
    assert (both[0].scores == both[1].scores).all()


def test_masks_of_one_row_are_counted(detect_with, table):
    absent = np.array([[0, 1], [0, 1], [1, 1], [1, 0]], bool)
    assert detect_with(MissingnessPattern, view_of(table, absent), np.zeros(4, int)).details["masks_of_one_row"] == 2


def test_events_are_refused(detect_with):
    with pytest.raises(BackdoorError, match=r"missingness_pattern.*events"):
        detect_with(MissingnessPattern, events_view(5), np.zeros(5, int))
