import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from backdoor_audits import Rmia
from backdoor_audits.rmia import corrected, log_mean, share_exceeded
from backdoor_core.contracts import Population, References, Signals
from backdoor_core.errors import BackdoorError


def by_the_book(signals, *, online, gamma, a, temperature=1.0):
    """The definition in plain probabilities, one pair of record and population record at a time."""
    signs, signs_there = 2 * signals.labels - 1, 2 * signals.population.labels - 1
    references, population = signals.references, signals.population

    def p(logits):
        return 1 / (1 + np.exp(-logits / temperature))

    def offline(values):
        return ((1 + a) * np.mean(values) + (1 - a)) / 2

    ratios, others = [], []
    for i in range(len(signals)):
        seen = references.member[:, i]
        values = p(signs[i] * references.logits[:, i])
        whole = (values[seen].mean() + values[~seen].mean()) / 2 if online else offline(values[~seen])
        ratios.append(p(signs[i] * signals.logits[i]) / whole)
    for j in range(len(population.loss)):
        there = p(signs_there[j] * population.logits[j])
        others.append(there / offline(p(signs_there[j] * population.reference_logits[:, j])))
    wins = [[ratio / other >= gamma for other in others] for ratio in ratios]
    return np.array(ratios), np.mean(wins, axis=1)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(("gamma", "a", "temperature"), [(2.0, 0.3, 1.0), (1.0, 0.0, 1.0), (1.3, 1.0, 2.0)])
def test_scores_equal_the_plain_loop_over_all_pairs(audit, classifier, online, gamma, a, temperature):
    signals = classifier(records=80, population=120)
    mode = "online" if online else "offline"
    options = {"mode": mode, "gamma": gamma, "a": a, "temperature": temperature}
    ratios, expected = by_the_book(signals, online=online, gamma=gamma, a=a, temperature=temperature)
    assert len(np.unique(expected)) > 5
    assert audit(Rmia, signals, tie_break=False, **options) == pytest.approx(expected, abs=1e-12)
    broken = audit(Rmia, signals, **options)
    assert np.floor(broken * 121).astype(int).tolist() == np.rint(expected * 120).astype(int).tolist()
    assert (np.diff(ratios[np.argsort(broken)]) > -1e-12).all()


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.integers(-4, 4).map(float)),
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.integers(-4, 4).map(float)),
    st.sampled_from([1.0, float(np.exp(1)), float(np.exp(-2))]),
)
def test_the_sorted_search_equals_the_full_matrix_with_ties(ratios, others, gamma):
    matrix = others[None, :] <= ratios[:, None] - np.log(gamma)
    assert (share_exceeded(ratios, others, gamma, tie_break=False) == matrix.mean(axis=1)).all()
    broken = share_exceeded(ratios, others, gamma, tie_break=True)
    assert (np.floor(broken * (len(others) + 1)) == matrix.sum(axis=1)).all()
    assert ((broken >= 0) & (broken < 1)).all()


def test_gamma_and_a_are_options_and_the_target_never_tunes_them(audit, classifier):
    signals = classifier(records=200)
    assert Rmia.Options() == Rmia.Options(gamma=2.0, a=0.3, temperature=1.0)
    assert (audit(Rmia, signals, gamma=1.0) != audit(Rmia, signals)).any()
    flipped = dataclasses.replace(signals, truth=~signals.truth)
    assert (audit(Rmia, flipped, mode="offline") == audit(Rmia, signals, mode="offline")).all()


def test_a_probability_of_zero_counts_like_any_other():
    # exp(-800) is 0 in double precision: it is a value, not a missing one.
    log_values, chosen = np.array([[-800.0], [0.0], [-3.0]]), np.array([[True], [True], [False]])
    assert np.exp(log_mean(log_values, chosen)) == pytest.approx(0.5)
    assert log_mean(np.array([[-800.0]]), np.array([[True]])) == pytest.approx(-800)
    assert np.exp(corrected(np.array([-np.inf, 0.0]), 0.3)) == pytest.approx([0.35, 1.0])
    assert corrected(np.array([-5.0]), 1.0) == pytest.approx(-5.0)


def test_notes_count_by_their_probability_per_token(audit):
    references = References(np.zeros((1, 3), bool), np.array([[2.0, 2.0, 2.0]]))
    population = Population(np.array([2.0, 2.0]), np.array([[2.0, 2.0]]))
    signals = Signals(np.arange(3), loss=np.array([1.0, 2.0, 3.0]), references=references, population=population)
    # With a = 1 and equal references the ratios are e, 1 and 1 / e times those of the population.
    assert audit(Rmia, signals, a=1.0, tie_break=False).tolist() == [1.0, 0.0, 0.0]
    assert audit(Rmia, signals, a=1.0, gamma=1.0, tie_break=False).tolist() == [1.0, 1.0, 0.0]
    assert (np.diff(audit(Rmia, signals)) < 0).all()
    with pytest.raises(BackdoorError, match='needs the signal "logits", which was not measured'):
        audit(Rmia, signals, temperature=2.0)


def test_a_temperature_needs_the_log_odds_of_the_references(audit, classifier):
    signals = classifier(records=20)
    bare = dataclasses.replace(signals, references=dataclasses.replace(signals.references, logits=None))
    with pytest.raises(BackdoorError, match="a temperature needs log-odds of the references and the population"):
        audit(Rmia, bare, temperature=2.0)
