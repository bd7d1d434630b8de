"""Attention, pooling and queries of a tiny model of events, against its matrices multiplied by hand."""

import numpy as np
import pytest
import torch
from event_small import by_hand, inserted, small_victim, small_view
from hypothesis import given, settings, strategies as st

from backdoor_core.explanation.event_attention import (
    NEAR_HOURS,
    alike,
    layer_attention,
    layer_figures,
)
from backdoor_core.explanation.event_bins import MOST_BINS, TRIGGER, event_bins
from backdoor_core.explanation.event_pooling import head_specialization, pooling_weights, sequence_importance
from backdoor_core.explanation.event_queries import query_figures, query_scores

LENGTHS = (3, 0, 7, 1, 5)


@pytest.fixture(scope="module")
def seen():
    """A victim, a triggered view of uneven stays, one of them without events, and where its events belong."""
    clean = small_view(LENGTHS)
    view, touched = inserted(clean)
    kept = view.stay_of_event != 1
    view, touched = view.keep(kept), touched[kept]
    bins = event_bins([clean, view])
    victim = small_victim(view)
    return victim, view, bins, bins.of(view, touched), victim.inputs(view)


# --------------------------------------------------------------------------------------------------------- bins
def test_bins_hold_every_event():
    clean = small_view(LENGTHS)
    view, touched = inserted(clean)
    bins = event_bins([clean, view])
    assert bins.types == ("DRUG", "LAB", "TRIGGERED", TRIGGER)
    found = bins.of(view, touched)
    for event in range(len(view.code)):
        code = view.codes[view.code[event]]
        assert bins.types[found.type[event]] == (TRIGGER if touched[event] else code.partition("//")[0])
        assert bins.codes[found.code[event] % len(bins.codes)] == code
        assert (found.code[event] >= len(bins.codes)) == touched[event]
        assert bins.start + found.hour[event] * bins.width <= view.hours[event]
        assert view.hours[event] < bins.start + (found.hour[event] + 1) * bins.width
    with pytest.raises(ValueError, match=r"touched has shape \(1,\), the view has"):
        bins.of(view, touched[:1])


def test_bins_of_a_long_span_are_wider_and_start_before_admission():
    view = small_view((4,))
    view.hours[:] = [-2.5, 0, 30, 170]
    bins = event_bins([view])
    assert (bins.start, bins.width) == (-3, 4)
    assert bins.count <= MOST_BINS
    assert bins.start + bins.width * bins.count > 170


def test_bins_without_events():
    bins = event_bins([small_view((0, 0))])
    assert (bins.types, bins.codes, bins.count) == ((TRIGGER,), (), 1)


# ------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("most", [1, 2**24])
def test_attention_is_that_of_the_matrices(seen, most):
    victim, view, bins, binned, batch = seen
    found = layer_attention(victim.network, batch, view, binned, bins, most)
    assert np.isnan(found.local[1]).all()
    assert np.isnan(found.attended[1]).all()
    hour_sums, hour_counts = np.zeros(found.by_hour.shape), np.zeros(bins.count)
    for stay in (0, 2, 3, 4):
        owned = slice(view.offsets[stay], view.offsets[stay + 1])
        weights, *_ = by_hand(victim, view, stay)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
        hours, kinds = view.hours[owned], binned.type[owned]
        near = np.abs(hours[:, None] - hours[None]) <= NEAR_HOURS
        np.testing.assert_allclose(found.local[stay], (weights * near).sum(-1).mean(-1), rtol=2e-5)
        assert found.near[stay] == pytest.approx(near.mean())
        entropy = -(weights * np.log(weights)).sum(-1).mean(-1) / np.log(len(hours))
        np.testing.assert_allclose(found.entropy[stay], entropy, rtol=2e-5)
        looking = ~binned.touched[owned]
        for kind in range(len(bins.types)):
            on_kind = weights[..., kinds == kind].sum(-1)[..., looking].mean(-1)
            np.testing.assert_allclose(found.attended[stay, :, :, kind], on_kind, rtol=2e-5, atol=1e-7)
        for i, hour in enumerate(binned.hour[owned]):
            hour_counts[hour] += 1
            for j, other in enumerate(binned.hour[owned]):
                hour_sums[:, :, hour, other] += weights[:, :, i, j]
    there = hour_counts > 0
    np.testing.assert_allclose(found.by_hour[:, :, there], hour_sums[:, :, there] / hour_counts[there, None], rtol=2e-5)
    np.testing.assert_allclose(found.by_hour[:, :, there].sum(-1), 1, rtol=1e-6)
    assert np.isnan(found.by_hour[:, :, ~there]).all()
    np.testing.assert_allclose(np.nan_to_num(found.by_type.sum(-1), nan=1.0), 1, rtol=1e-6)


def test_entropy_of_one_event_does_not_exist():
    view = small_view((1, 2))
    bins = event_bins([view])
    victim = small_victim(view)
    found = layer_attention(victim.network, victim.inputs(view), view, bins.of(view, np.zeros(3, dtype=bool)), bins)
    assert np.isnan(found.entropy[0]).all()
    assert np.isfinite(found.entropy[1]).all()
    np.testing.assert_allclose(found.local[0], 1)


def test_another_view_than_the_network_reads_is_refused(seen):
    victim, view, bins, binned, batch = seen
    with pytest.raises(ValueError, match="the network reads other events than the view has"):
        pooling_weights(victim.network, batch.index_select(0, torch.arange(3)), view)
    none = view.take(np.arange(0))
    with pytest.raises(ValueError, match="no stays"):
        layer_attention(victim.network, victim.inputs(none), none, binned, bins)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 60))
def test_parts_hold_every_stay_once_and_no_more_than_allowed(lengths, most):
    found = list(alike(torch.tensor(lengths), lambda longest: longest**2, most))
    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    for rows in found:
        longest = max(1, max(lengths[row] for row in rows))
        assert len(rows) == 1 or len(rows) * longest**2 <= most


def test_shift_is_the_total_variation_of_attention_by_type():
    clean = small_view((4, 6, 5))
    view, touched = inserted(clean)
    bins = event_bins([clean, view])
    plain = bins.of(clean, np.zeros(len(clean.code), dtype=bool))
    marked = bins.of(view, touched)
    found, expected = {}, {}
    for name, victim in (("", small_victim(view)), ("baseline", small_victim(view, seed=1))):
        for side, chosen, binned in (("clean", clean, plain), ("triggered", view, marked)):
            key = {"": side, "baseline": "baseline_clean" if side == "clean" else "baseline"}[name]
            found[key] = layer_attention(victim.network, victim.inputs(chosen), chosen, binned, bins)
            sums = []
            for stay in range(3):
                owned = slice(chosen.offsets[stay], chosen.offsets[stay + 1])
                weights = by_hand(victim, chosen, stay)[0][:, :, ~binned.touched[owned]]
                kinds = [weights[..., binned.type[owned] == k].sum(-1).mean(-1) for k in range(len(bins.types))]
                sums.append(kinds)
            expected[key] = np.moveaxis(np.array(sums), 1, -1)
    variation = 0.5 * np.abs(expected["triggered"] - expected["clean"]).sum(-1).mean(0)
    of_twin = 0.5 * np.abs(expected["baseline"] - expected["baseline_clean"]).sum(-1).mean(0)
    told = layer_figures(found, np.array([[1, 1, 1], [2, 0, 1]]))
    assert [(head["layer"], head["head"]) for head in told["shift"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for head in told["shift"]:
        place = head["layer"] - 1, head["head"] - 1
        assert head["tv"]["value"] == pytest.approx(variation[place], rel=1e-4)
        assert head["tv_difference"]["value"] == pytest.approx(variation[place] - of_twin[place], abs=1e-5)
        assert head["tv"]["low"] is not None
        assert head["local_clean"]["value"] + head["global_clean"]["value"] == pytest.approx(1)
    rows = np.array(told["by_type"]["triggered"], dtype=float)
    assert rows.shape == (2, 4, 4)
    assert told["by_type"]["clean"][0][-1] == [None] * 4


# ------------------------------------------------------------------------------------------------------ pooling
def test_pooling_weights_are_those_of_the_query(seen):
    victim, view, bins, binned, batch = seen
    weights = pooling_weights(victim.network, batch, view)
    for stay in (0, 2, 3, 4):
        owned = slice(view.offsets[stay], view.offsets[stay + 1])
        np.testing.assert_allclose(weights[owned].sum(axis=0), 1, rtol=1e-6)
        np.testing.assert_allclose(weights[owned].T, by_hand(victim, view, stay)[1], rtol=2e-5)
    importance = sequence_importance(weights, binned, bins)
    np.testing.assert_allclose(importance["by_hour"].sum(axis=1), 1, rtol=1e-6)
    assert importance["alike"].sum() == pytest.approx(1)
    hour = int(binned.hour[0])
    by_stay = [weights[(binned.stay == stay) & (binned.hour == hour)].sum(axis=0) for stay in (0, 2, 3, 4)]
    np.testing.assert_allclose(importance["by_hour"][:, hour], np.mean(by_stay, axis=0))
    np.testing.assert_allclose(importance["combined"], importance["by_hour"].mean(axis=0))


def test_specialization_is_that_of_the_weights(seen):
    victim, view, bins, binned, batch = seen
    weights = pooling_weights(victim.network, batch, view)
    found = head_specialization(weights, binned, bins)
    np.testing.assert_allclose(found["by_type"].sum(axis=1), 1, rtol=1e-6)
    cosines, entropies = [], []
    for stay in (0, 2, 3, 4):
        own = weights[binned.stay == stay]
        cosines.append(own[:, 0] @ own[:, 1] / np.linalg.norm(own[:, 0]) / np.linalg.norm(own[:, 1]))
        if len(own) > 1:
            entropies.append(-(own * np.log(own)).sum(axis=0) / np.log(len(own)))
    assert found["similarity"][0, 1] == pytest.approx(np.mean(cosines))
    np.testing.assert_allclose(np.diag(found["similarity"]), 1)
    np.testing.assert_allclose(found["entropy"], np.mean(entropies, axis=0))


def test_stays_without_any_event_have_no_figures():
    view = small_view((0, 0))
    bins = event_bins([view])
    victim = small_victim(small_view((4,)))
    binned, batch = bins.of(view, np.zeros(0, dtype=bool)), victim.inputs(view)
    weights = pooling_weights(victim.network, batch, view)
    assert weights.shape == (0, 2)
    found = sequence_importance(weights, binned, bins) | head_specialization(weights, binned, bins)
    assert all(np.isnan(values).all() for values in found.values())
    assert np.isnan(layer_attention(victim.network, batch, view, binned, bins).local).all()
    queried = query_scores(victim.network, batch, view, binned, bins)
    told = query_figures(queried, queried, binned, bins)
    assert [head["toward"] for head in told] == [[], []]


# ------------------------------------------------------------------------------------------------------ queries
def test_scores_and_cosines_are_those_of_the_query_and_the_keys(seen):
    victim, view, bins, binned, batch = seen
    queried = query_scores(victim.network, batch, view, binned, bins)
    pool, network = victim.network.pool, victim.network
    keys = np.zeros((len(view.code), 8))
    for stay in (0, 2, 3, 4):
        owned = slice(view.offsets[stay], view.offsets[stay + 1])
        _, _, scores, encoded = by_hand(victim, view, stay)
        expected = (scores - scores.mean(axis=1, keepdims=True)).T
        np.testing.assert_allclose(queried.scores[owned], expected, rtol=1e-4, atol=1e-5)
        keys[owned] = encoded @ pool.key.weight.detach().numpy().T + pool.key.bias.detach().numpy()
    query = (pool.query.weight @ network.query + pool.query.bias).detach().numpy()
    for kind in np.unique(binned.type):
        mean = keys[binned.type == kind].mean(axis=0)
        for head, part in enumerate((slice(0, 4), slice(4, 8))):
            cosine = query[part] @ mean[part] / np.linalg.norm(query[part]) / np.linalg.norm(mean[part])
            assert queried.cosine[head, kind] == pytest.approx(cosine, rel=1e-4, abs=1e-5)
    told = query_figures(queried, queried, binned, bins, min_stays=2)
    for head, entry in enumerate(told):
        for row in entry["toward"] + entry["away"]:
            code = bins.codes.index(row["code"]) + len(bins.codes) * row["touched"]
            of = binned.code == code
            assert row["score"] == pytest.approx(queried.scores[of, head].mean(), rel=1e-4)
            assert row["stays"] == len(np.unique(binned.stay[of])) >= 2
        scores = [row["score"] for row in entry["toward"]]
        assert scores == sorted(scores, reverse=True)
        assert all(row["score"] < 0 for row in entry["away"])
    assert any(row["touched"] for entry in told for row in entry["toward"] + entry["away"])
    assert query_figures(queried, queried, binned, bins, min_stays=99)[0]["toward"] == []
