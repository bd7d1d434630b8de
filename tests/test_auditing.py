import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from backdoor_core.auditing import ATTRIBUTES, AuditCase, Population, References, Signal, Signals, Tokens
from backdoor_core.cases import WithheldError
from backdoor_core.contracts import Audit, Context, NoOptions
from backdoor_core.errors import BackdoorError
from backdoor_core.privacy.case import run_audit

N = 4


def full() -> Signals:
    return Signals(
        groups=np.arange(N),
        loss=np.arange(4.0),
        logits=np.arange(4.0),
        labels=np.array([0, 1, 0, 1]),
        references=References(np.zeros((2, N), bool), np.ones((2, N)), np.ones((2, N))),
        population=Population(np.ones(3), np.ones((2, 3)), np.array([0, 1, 1]), np.ones(3), np.ones((2, 3))),
        tokens=Tokens(np.array([0, 2, 3, 4, 6]), -np.ones(6), -np.ones(6), np.ones(6)),
        texts=["a", "b", "c", "d"],
        inputs=np.array([[1.0, np.nan]] * N),
        neighbor_loss=np.ones((N, 2)),
        untrained_loss=np.ones(N),
        truth=np.array([True, False, True, False]),
    )


def answering(answer, *requires):
    class Answering(Audit):
        name = "answering"

        def score(self, case):
            return answer(case) if callable(answer) else answer

    Answering.requires = frozenset(requires)
    return Answering(NoOptions(), Context(Path()))


def run(audit, signals):
    return run_audit(audit, AuditCase(signals, np.random.default_rng(0)))


@pytest.mark.parametrize("signal", get_args(Signal))
def test_a_signal_is_granted_where_it_is_declared_and_nowhere_else(signal):
    case = AuditCase(full(), np.random.default_rng(0), frozenset({signal}))
    assert getattr(case, ATTRIBUTES[signal]) is getattr(case.signals, ATTRIBUTES[signal])
    for other in set(get_args(Signal)) - {signal}:
        with pytest.raises(WithheldError, match=f"uses '{other}' without declaring it"):
            getattr(case, ATTRIBUTES[other])
    without = dataclasses.replace(case, signals=dataclasses.replace(full(), **{ATTRIBUTES[signal]: None}))
    with pytest.raises(WithheldError, match=f"has no '{signal}'"):
        getattr(without, ATTRIBUTES[signal])


def test_labels_come_with_logits_or_inputs_and_groups_always():
    for granted in ("logits", "inputs"):
        case = AuditCase(full(), np.random.default_rng(0), frozenset({granted}))
        assert case.labels.tolist() == [0, 1, 0, 1]
    bare = AuditCase(full(), np.random.default_rng(0), frozenset({"loss"}))
    assert bare.groups.tolist() == [0, 1, 2, 3]
    with pytest.raises(WithheldError, match="labels without declaring"):
        _ = bare.labels


@pytest.mark.parametrize("signal", get_args(Signal))
def test_a_signal_that_was_not_measured_is_refused_before_any_work(signal):
    def never(case):
        raise AssertionError("the audit ran")

    signals = dataclasses.replace(full(), **{ATTRIBUTES[signal]: None})
    with pytest.raises(BackdoorError, match=f'audit answering: needs the signal "{signal}", which was not measured'):
        run(answering(never, "loss", signal), signals)


def test_the_runner_grants_exactly_what_is_declared():
    scores = run(answering(lambda case: case.loss * 2, "loss"), full())
    assert scores.dtype == np.float64
    assert scores.tolist() == [0.0, 2.0, 4.0, 6.0]
    with pytest.raises(WithheldError, match="truth"):
        run(answering(lambda case: case.truth, "loss"), full())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.array([0.0, np.nan, np.inf, 1.0]), "2 of 4 scores are NaN or infinite"),
        (np.zeros(3), r"scores have shape \(3,\) for 4 records"),
        (np.zeros((4, 1)), r"scores have shape \(4, 1\) for 4 records"),
    ],
)
def test_scores_that_are_not_one_finite_number_a_record_are_refused(answer, says):
    with pytest.raises(BackdoorError, match=says) as caught:
        run(answering(answer, "loss"), full())
    assert "\n" not in str(caught.value)


def changed(name, **parts):
    return {name: dataclasses.replace(getattr(full(), name), **parts)}


@pytest.mark.parametrize(
    ("signal", "change", "says"),
    [
        ("loss", {"loss": np.array([1.0, np.nan, 2.0, 3.0])}, "has 1 values that are NaN or infinite"),
        ("loss", {"loss": np.ones(3)}, r"has shape \(3,\), must be \(4\)"),
        ("logits", {"labels": None}, "comes without labels"),
        ("logits", {"labels": np.array([0, 1, 2, 1])}, "labels other than 0 and 1"),
        ("logits", {"logits": np.full(4, np.inf)}, "has 4 values that are NaN"),
        ("references", changed("references", loss=np.ones((2, 3))), r"loss, has shape \(2, 3\), must be \(any, 4\)"),
        ("references", changed("references", loss=np.ones((0, 4))), r"has shape \(0, 4\)"),
        ("references", changed("references", member=np.zeros((1, 4), bool)), r"member, has shape \(1, 4\)"),
        ("references", changed("references", member=np.zeros((2, 4), int)), "member, is int64, must be booleans"),
        ("references", changed("references", logits=np.full((2, 4), np.nan)), "logits, has 8 values"),
        ("population", changed("population", loss=np.ones(0)), r"loss, has shape \(0,\)"),
        ("population", changed("population", reference_loss=np.ones((3, 3))), r"must be \(2, 3\)"),
        ("population", changed("population", labels=None), "comes without labels"),
        ("population", changed("population", reference_logits=np.ones((2, 2))), "reference_logits, has shape"),
        ("token_logprobs", changed("tokens", offsets=np.array([0, 2, 2, 4, 6])), "has 1 texts without a token"),
        ("token_logprobs", changed("tokens", offsets=np.array([1, 2, 3, 4, 6])), "starts at 1, must start at 0"),
        ("token_logprobs", changed("tokens", sd=np.ones(5)), r"sd, has shape \(5,\), must be \(6\)"),
        ("texts", {"texts": ["a"]}, "has 1 texts for 4 records"),
        ("inputs", {"inputs": np.full((4, 2), np.inf)}, "has 8 values"),
        ("inputs", {"inputs": np.ones(4)}, r"has shape \(4,\), must be \(4, any\)"),
        ("neighbors", {"neighbor_loss": np.ones((4, 0))}, r"has shape \(4, 0\)"),
        ("untrained", {"untrained_loss": np.full(4, np.nan)}, "has 4 values"),
        ("truth", {"truth": np.array([0, 1, 0, 1])}, "is int64, must be booleans"),
    ],
)
def test_signals_that_do_not_fit_are_refused_in_one_line(signal, change, says):
    with pytest.raises(BackdoorError, match=says) as caught:
        run(answering(np.zeros(N), signal), dataclasses.replace(full(), **change))
    assert str(caught.value).startswith(f'audit answering: the signal "{signal}"')
    assert "\n" not in str(caught.value)
    untouched = "texts" if signal != "texts" else "loss"
    assert run(answering(np.zeros(N), untouched), dataclasses.replace(full(), **change)).tolist() == [0.0] * N


def test_missing_inputs_are_no_defect_and_tokens_know_their_lengths():
    assert run(answering(np.zeros(N), *get_args(Signal)), full()).tolist() == [0.0] * N
    tokens = full().tokens
    assert len(tokens) == N
    assert tokens.lengths.tolist() == [2, 1, 1, 2]
