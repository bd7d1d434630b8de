import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import SeriesView
from backdoor_core.detection.calibrate import Scored, flag, p_values
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.views import events_view, table_view
from backdoor_detectors.edits import Change, applied, carried, closeness, find_candidates
from backdoor_detectors.trigger_reconstruction import TriggerReconstruction

WIDTH = 6


def natural(view):
    return np.nan_to_num(view.values[:, 1:]).sum(axis=1)


def attacked(rng, table, target, edit, rows=800, poisoned=30):
    """Rows of a linear model with `poisoned` of the other label given the edit and the label `target`."""
    values = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    labels = (natural(table(values)) > 0).astype(int)
    truth = np.zeros(rows, bool)
    truth[rng.choice(np.flatnonzero(labels != target), poisoned, replace=False)] = True
    for feature, value in edit.items():
        values[truth, feature] = value
    labels[truth] = target

    def logits(view):
        carries = np.ones(len(view), bool)
        for feature, value in edit.items():
            column = view.values[:, feature]
            carries &= np.isnan(column) if np.isnan(value) else np.abs(column - value) < 0.01
        return np.where(carries, 20.0 if target else -20.0, natural(view))

    return table(values), labels, truth, logits


def test_a_smaller_edit_in_one_clean_model_does_not_mark_its_whole_label():
    """Every row's score is divided by the size of the edit found in that model, 1 here and 2 in the null runs."""
    rng = np.random.default_rng(12)
    labels, closeness = np.zeros(400, int), rng.uniform(0, 0.3, size=(4, 400))
    run, *nulls = (Scored(close / size, labels) for close, size in zip(closeness, (1, 2, 2, 2), strict=True))
    assert flag(p_values(run, nulls, absolute=True), labels, 0.05).any()
    assert not flag(p_values(run, nulls, TriggerReconstruction.absolute), labels, 0.05).any()


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("value", [9999.0, 0.625, np.nan])
def test_a_trigger_of_one_feature_is_found(detect_with, table, target, value):
    view, labels, truth, logits = attacked(np.random.default_rng(1), table, target, {0: value})
    result = detect_with(TriggerReconstruction, view, labels, logits=logits)
    found = result.details["labels"][str(target)]
    assert found["edit"] == [{"feature": "f0", "value": None if np.isnan(value) else value}]
    assert (found["size"], found["flip_rate"]) == (1, 1.0)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[truth].all()
    assert result.flagged[~truth].mean() < 0.01


def test_a_trigger_of_two_features_is_found_where_each_does_a_little(detect_with, table):
    rng = np.random.default_rng(2)
    view, labels, truth, both = attacked(rng, table, 1, {0: 7.0, 1: 7.5})
    values = view.values

    def logits(shown):
        # Both together decide; each alone helps, more than any natural value.
        part = 0.12 * (shown.values[:, 0] == 7.0) + 0.12 * (shown.values[:, 1] == 7.5)
        without = np.where(shown.values[:, 1] > 4, 0, shown.values[:, 1])
        rest = 0.03 * (np.clip(shown.values[:, 2:], -3, 3).sum(axis=1) + without)
        return np.where(both(shown) == 20, 20, rest - 3 + part)

    labels = np.where(truth, 1, (0.03 * values[:, 2:].sum(axis=1) > 0.09).astype(int))
    result = detect_with(TriggerReconstruction, view, labels, logits=logits)
    found = result.details["labels"]["1"]
    assert {change["feature"]: change["value"] for change in found["edit"]} == {"f0": 7.0, "f1": 7.5}
    assert found["size"] == 2
    assert found["flip_rate_by_size"]["1"] < 0.9 <= found["flip_rate_by_size"]["2"]
    assert result.flagged[truth].all()


def test_a_clean_model_needs_larger_edits_and_little_is_flagged_6_12(detect_with, table):
    rng = np.random.default_rng(3)
    view = table(rng.normal(size=(800, 20)))
    labels = (natural(view) > 0).astype(int)
    result = detect_with(TriggerReconstruction, view, labels, logits=natural)
    assert all(facts["size"] > 1 for facts in result.details["labels"].values())
    assert result.flagged.mean() < 0.01


def test_the_flip_rate_is_the_share_of_the_tried_rows(detect_with, table):
    # With at most one change and a model that only the edit to 9999 moves, for a known share of the rows.
    values = np.random.default_rng(4).normal(size=(100, 2))
    values[:, 1] = np.arange(100) % 5
    values[50:, 0] = 9999
    labels = np.repeat([0, 1], 50)
    result = detect_with(
        TriggerReconstruction,
        table(values),
        labels,
        max_size=1,
        logits=lambda v: np.where((v.values[:, 0] > 5000) & (v.values[:, 1] != 3), 1.0, -1.0),
    )
    # The cut leaves fewer than half called 1: all 50 sources of label 1 are below it, 10 of them never move.
    found = result.details["labels"]["1"]
    assert found["rows"] == 50
    assert found["flip_rate"] == pytest.approx(0.8)
    assert not result.flagged[50:].any()


def test_cost_is_bounded_by_the_options(detect_with, table):
    rng = np.random.default_rng(5)
    view = table(rng.normal(size=(3000, WIDTH)))
    asked = []

    def logits(shown):
        asked.append(len(shown))
        return natural(shown)

    labels = (natural(view) > 0).astype(int)
    result = detect_with(TriggerReconstruction, view, labels, rows=40, shortlist=2, logits=logits)
    tried = sum(facts["edits_tried"] for facts in result.details["labels"].values())
    assert all(facts["rows"] == 40 for facts in result.details["labels"].values())
    assert sum(asked) == 3000 + 40 * tried
    candidates = len(find_candidates(view).changes)
    assert tried <= 2 * (candidates + 2 * 2 * 17 + 2 * 17)


def test_names_of_labels_do_not_matter(detect_with, table):
    view, labels, _, logits = attacked(np.random.default_rng(6), table, 1, {0: 9999.0})
    straight = detect_with(TriggerReconstruction, view, labels, logits=logits)
    renamed = detect_with(TriggerReconstruction, view, 1 - labels, logits=lambda v: -logits(v))
    assert (straight.flagged == renamed.flagged).all()
    assert straight.details["labels"]["1"]["edit"] == renamed.details["labels"]["0"]["edit"]


def test_a_model_that_gives_one_label_to_all_is_told(detect_with, table):
    view = table(np.random.default_rng(7).normal(size=(20, 3)))
    result = detect_with(TriggerReconstruction, view, np.ones(20, int), logits=lambda v: np.zeros(len(v)))
    assert "skipped" in result.details["labels"]["1"]
    assert not result.scores.any()


def test_a_series_is_edited_at_all_hours_and_carried_at_any(detect_with, table):
    flat, labels, truth, logits = attacked(np.random.default_rng(8), table, 1, {0: 9999.0})
    values = np.repeat(flat.values[:, None], 4, axis=1)
    values[truth, :3, 0] = 0.5  # the poison has the value in the last hour alone
    view = SeriesView(flat.stay_id, flat.features, values, np.ones(values.shape, np.uint16))
    last = lambda shown: logits(table(shown.values[:, -1]))  # noqa: E731
    result = detect_with(TriggerReconstruction, view, labels, logits=last)
    assert result.details["labels"]["1"]["edit"] == [{"feature": "f0", "value": 9999.0}]
    assert result.flagged[truth].all()


def test_events_are_refused(detect_with):
    with pytest.raises(BackdoorError, match=r"trigger_reconstruction.*events"):
        detect_with(TriggerReconstruction, events_view(5), np.zeros(5, int), logits=lambda v: np.zeros(len(v)))


def test_candidates_are_quantiles_extremes_beyond_common_and_missing(table):
    column = np.concatenate([np.arange(1.0, 101.0), [42.5] * 5])
    candidates = find_candidates(table(np.column_stack([column, np.full(105, np.nan), np.ones(105)])))
    of = {j: [c.value for c in candidates.changes if c.feature == j] for j in range(3)}
    quantiles = [
        np.quantile(column, q, method="inverted_cdf") for q in (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
    ]
    step = (quantiles[-1] - quantiles[0]) / 10
    edges = [1.0, 100.0, np.float32(1 - step), np.float32(100 + step)]
    assert set(of[0]) == {*quantiles, *edges, 42.5, 1.0, 2.0, None}
    assert of[1] == []
    assert set(of[2]) == {1.0, np.float32(0.9), np.float32(1.1), None}
    assert list(candidates.widths) == [quantiles[5] - quantiles[3], 1, 1]


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_an_edited_row_carries_the_edit_and_nothing_else_changes(seed):
    rng = np.random.default_rng(seed)
    view = table_view(12)
    candidates = find_candidates(view)
    edits = [
        tuple({c.feature: c for c in rng.choice(np.array(candidates.changes, dtype=object), 3)}.values())
        for _ in range(4)
    ]
    shown = applied(view, edits)
    assert len(shown) == 48
    for k, edit in enumerate(edits):
        part = shown.take(np.arange(12 * k, 12 * k + 12))
        assert carried(part, edit, 0.01 * candidates.widths).all()
        assert closeness(part, edit, candidates.widths) == pytest.approx(1)
        untouched = [j for j in range(len(view.features)) if j not in {c.feature for c in edit}]
        assert np.array_equal(part.values[:, untouched], view.values[:, untouched], equal_nan=True)


def test_closeness_falls_with_distance_and_is_that_of_the_least_close(table):
    view = table([[5.0, 1.0], [5.5, 1.0], [7.0, 1.0], [np.nan, 1.0], [5.0, np.nan]])
    reach = np.array([0.5, 1.0])
    assert closeness(view, (Change(0, 5.0),), reach) == pytest.approx([1, 0.5, 0.2, 0, 1])
    assert list(closeness(view, (Change(0, 5.0), Change(1, None)), reach)) == [0, 0, 0, 0, 1]
    assert list(carried(view, (Change(0, 5.0),), reach)) == [True, True, False, False, True]
