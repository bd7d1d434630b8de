from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backdoor_core.contracts import AuditCase, Context, Population, References, Signals, Tokens
from backdoor_core.privacy.case import run_audit
from backdoor_core.privacy.halves import membership_matrix


def _audit(audit, signals, *, seed=0, **options):
    made = audit(audit.Options(**options), Context(Path()))
    return run_audit(made, AuditCase(signals, np.random.default_rng(seed)))


@pytest.fixture
def audit():
    """Run an audit on signals, with options, by the runner that checks both."""
    return _audit


def _classifier(
    *, records=3000, models=8, distance=1.5, difficulty=2.0, population=1500, outside=False, seed=0, scale=1.0
):
    """Confidences of a record are N(mu, 1) under models that did not see it, and N(mu + distance, 1) under others."""
    rng = np.random.default_rng(seed)
    groups = np.arange(records)
    truth = rng.random(records) < 0.5
    member = np.zeros((models, records), bool) if outside else membership_matrix(groups, models, rng)
    center = difficulty * rng.normal(size=records)
    target = center + distance * truth + scale * rng.normal(size=records)
    references = center + distance * member + scale * rng.normal(size=(models, records))
    there = difficulty * rng.normal(size=population)
    target_there = there + scale * rng.normal(size=population)
    references_there = there + scale * rng.normal(size=(models, population))
    labels, labels_there = rng.integers(2, size=records), rng.integers(2, size=population)
    sign, sign_there = 2 * labels - 1, 2 * labels_there - 1
    return Signals(
        groups=groups,
        loss=np.logaddexp(0, -target),
        logits=sign * target,
        labels=labels,
        references=References(member, np.logaddexp(0, -references), sign * references),
        population=Population(
            loss=np.logaddexp(0, -target_there),
            reference_loss=np.logaddexp(0, -references_there),
            labels=labels_there,
            logits=sign_there * target_there,
            reference_logits=sign_there * references_there,
        ),
        untrained_loss=rng.normal(size=records),
        inputs=np.where(rng.random((records, 4)) < 0.1, np.nan, rng.normal(size=(records, 4))),
        truth=truth,
    )


@pytest.fixture
def classifier():
    """Signals of a classifier with planted Gaussian confidences."""
    return _classifier


WORDS = ("admitted", "with", "acute", "chest", "pain", "fever", "cough", "started", "aspirin", "heparin", "stable")


def _texts(*, records=1000, tokens=20, shift=0.2, neighbors=5, seed=0):
    """Standardized log-probabilities of tokens are N(0, 1), and N(shift, 1) in texts of the training."""
    rng = np.random.default_rng(seed)
    truth = rng.random(records) < 0.5
    lengths = np.full(records, tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    mean, sd = rng.uniform(-6, -2, offsets[-1]), rng.uniform(0.5, 2, offsets[-1])
    log_prob = mean + sd * (rng.normal(size=offsets[-1]) + shift * np.repeat(truth, lengths))
    loss = -np.add.reduceat(log_prob, offsets[:-1]) / lengths
    member = np.zeros((2, records), bool)
    return Signals(
        groups=np.arange(records),
        loss=loss,
        tokens=Tokens(offsets, log_prob, mean, sd),
        texts=[" ".join(rng.choice(WORDS, 12)) for _ in range(records)],
        neighbor_loss=loss[:, None] + 0.1 * truth[:, None] + 0.1 * rng.normal(size=(records, neighbors)),
        references=References(member, rng.normal(4, 1, size=(2, records))),
        untrained_loss=rng.normal(size=records),
        truth=truth,
    )


@pytest.fixture
def language():
    """Signals of a language model with planted log-probabilities of tokens."""
    return _texts


def _take(signals, rows):
    """The signals of the given records, in that order; the population stays."""

    def of(value):
        return None if value is None else value[rows]

    tokens, references = signals.tokens, signals.references
    if tokens is not None:
        spans = [np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in rows]
        at = np.concatenate(spans)
        offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        tokens = Tokens(offsets, tokens.log_prob[at], tokens.mean[at], tokens.sd[at])
    if references is not None:
        logits = None if references.logits is None else references.logits[:, rows]
        references = References(references.member[:, rows], references.loss[:, rows], logits)
    names = ("groups", "loss", "logits", "labels", "inputs", "neighbor_loss", "untrained_loss", "truth")
    texts = None if signals.texts is None else [signals.texts[i] for i in rows]
    parts = {name: of(getattr(signals, name)) for name in names}
    return replace(signals, **parts, texts=texts, tokens=tokens, references=references)


@pytest.fixture
def take():
    """Choose and reorder records of signals."""
    return _take


def _auc(scores, truth, groups=None, seed=0):
    from backdoor_core.privacy.judge import Run, judge, resamples

    runs = [Run(scores, truth, np.arange(len(truth)) if groups is None else groups)]
    return SimpleNamespace(**judge(runs, resamples(runs, 200, np.random.default_rng(seed)))["auc"])


@pytest.fixture
def auc():
    """AUC of scores with its bootstrap interval: value, low, high."""
    return _auc
