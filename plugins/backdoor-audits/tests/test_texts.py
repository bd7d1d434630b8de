import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_audits import MinK, MinKPlusPlus, Neighborhood, Reference, ZlibEntropy
from backdoor_audits.lowest import mean_of_lowest
from backdoor_core.contracts import References, Signals, Tokens
from backdoor_core.errors import BackdoorError


def signals_of(*texts, mean=0.0, sd=1.0):
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    values = np.concatenate(texts).astype(float)
    return Signals(np.arange(len(texts)), tokens=Tokens(offsets, values, values * 0 + mean, values * 0 + sd))


def test_min_k_by_hand(audit):
    signals = signals_of([-1, -9, -2, -5, -3, -4, -7, -1, -1, -1], [-3, -8, -1], [-6])
    # 0.2 of 10 tokens are 2; of 3 and of 1 they are none, and the lowest one counts: never a mean of nothing.
    assert audit(MinK, signals).tolist() == [-8.0, -8.0, -6.0]
    assert audit(MinK, signals, k=0.5).tolist() == [-5.6, -8.0, -6.0]
    assert audit(MinK, signals, k=1.0).tolist() == [-3.4, -4.0, -6.0]


def test_min_k_plus_plus_by_hand(audit):
    tokens = Tokens(
        np.array([0, 3, 5]),
        np.array([-1.0, -6.0, -2.0, -4.0, -1.0]),
        np.array([-2.0, -4.0, -2.0, -2.0, -3.0]),
        np.array([0.5, 1.0, 2.0, 4.0, 0.0]),
    )
    signals = Signals(np.arange(2), tokens=tokens)
    # z is 2, -2, 0 and -0.5, 2 / floor.
    assert audit(MinKPlusPlus, signals).tolist() == [-2.0, -0.5]
    assert audit(MinKPlusPlus, signals, k=0.7).tolist() == [-1.0, -0.5]
    assert audit(MinKPlusPlus, signals, k=1.0, floor=0.5) == pytest.approx([0.0, (-0.5 + 4) / 2])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-9, 0), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 100))
def test_the_mean_of_the_lowest_equals_sorting_each_text(texts, percent):
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    expected = [np.mean(sorted(text)[: max(1, percent * len(text) // 100)]) for text in texts]
    found = mean_of_lowest(np.concatenate(texts).astype(float), offsets, percent / 100)
    assert found == pytest.approx(np.array(expected))


def test_a_share_that_is_whole_is_not_lost_to_rounding():
    # 0.29 times 100 is 28.999999999999996 in binary.
    values = -np.arange(1.0, 101.0)
    assert mean_of_lowest(values, np.array([0, 100]), 0.29) == pytest.approx(np.mean(np.arange(-100, -71)))


def test_the_zlib_ratio_by_hand_in_both_forms(audit):
    texts = ["fever and cough", "fever " * 50, "", "Schmerzen über Nacht"]
    tokens = signals_of([-1, -2, -3], [-2, -2], [-4], [-1, -7]).tokens
    signals = Signals(np.arange(4), loss=np.array([2.0, 2.0, 4.0, 4.0]), tokens=tokens, texts=texts)
    sizes = np.array([len(zlib.compress(text.encode("utf-8"))) for text in texts])
    assert audit(ZlibEntropy, signals) == pytest.approx(-np.array([2, 2, 4, 4]) / sizes)
    assert audit(ZlibEntropy, signals, loss="sum") == pytest.approx(-np.array([6, 4, 4, 8]) / sizes)


def test_neighbors_and_references_by_hand(audit):
    member = np.array([[True, False, False], [False, False, True], [False, True, False]])
    loss = np.array([[9.0, 2.0, 3.0], [2.0, 4.0, 9.0], [4.0, 9.0, 5.0]])
    signals = Signals(
        np.arange(3),
        loss=np.array([1.0, 2.0, 6.0]),
        neighbor_loss=np.array([[2.0, 4.0], [2.0, 2.0], [1.0, 2.0]]),
        references=References(member, loss),
    )
    assert audit(Neighborhood, signals).tolist() == [2.0, 0.0, -4.5]
    # Only the references that did not see the record count.
    assert audit(Reference, signals).tolist() == [2.0, 1.0, -2.0]


@pytest.mark.parametrize("kind", [MinK, MinKPlusPlus])
def test_a_text_without_tokens_is_refused_and_not_dropped(audit, kind):
    tokens = Tokens(np.array([0, 2, 2]), np.array([-1.0, -2.0]), np.zeros(2), np.ones(2))
    with pytest.raises(BackdoorError, match="has 1 texts without a token"):
        audit(kind, Signals(np.arange(2), tokens=tokens))


def test_a_token_that_is_not_finite_is_refused(audit):
    signals = signals_of([-1, -2], [-3])
    broken = dataclasses.replace(signals.tokens, log_prob=np.array([-1.0, -np.inf, -3.0]))
    with pytest.raises(BackdoorError, match='"token_logprobs", log_prob, has 1 values that are NaN or infinite'):
        audit(MinK, dataclasses.replace(signals, tokens=broken))
