"""What audits are given of models of stays: the stays, the models' answers, and the signals made of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.auditing import AuditCase, Population, References, Signals
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Audit, Booleans, Model, View
from backdoor_core.learning.victim import TorchVictim, Victim, as_torch
from backdoor_core.privacy.case import run_audit
from backdoor_core.privacy.signals import label_loss, raw_features
from backdoor_core.ranking import auroc
from backdoor_core.statistics import Floats


@dataclass(frozen=True)
class Audited:
    """N stays: those of the training part, which are members, then those of the test part, which are not."""

    view: View
    """As they are, without any trigger."""
    label: NDArray[np.int8]
    patients: NDArray[Any]
    """(N,)"""
    member: Booleans
    """(N,) whether the study's models were trained on the stay."""
    rows: NDArray[np.int64]
    """(N,) their positions in the cohort."""


@dataclass(frozen=True)
class ReferenceAnswers:
    """What is kept of K reference models; K may be 0."""

    member: Booleans
    """(K, N) which stays each was trained on."""
    logits: Floats
    """(K, N) log-odds of label 1 of the audited stays."""
    population: Floats
    """(K, M) log-odds of label 1 of the validation part."""

    @classmethod
    def of(cls, victims: Sequence[Victim], member: Booleans, view: View, population: View) -> Self:
        """From the models, in the order of `member` (K, N), on views of N and of M stays."""
        count = len(member)
        logits = np.array([victim.logits(view) for victim in victims]).reshape(count, len(view))
        outside = np.array([victim.logits(population) for victim in victims]).reshape(count, len(population))
        return cls(member, logits, outside)

    def __len__(self) -> int:
        return len(self.member)


def measure(
    stays: Audited, validation: Rows, victim: Victim, answers: ReferenceAnswers, fresh: Victim | None = None
) -> Signals:
    """The signals of one model on all N stays; the validation part is the population.

    Without references there is no population, and without `fresh`, see `untrained`, no loss before training.
    """
    label, logits = stays.label, victim.logits(stays.view)
    references = population = None
    if len(answers):
        references = References(answers.member, label_loss(answers.logits, label), answers.logits)
        outside = victim.logits(validation.view)
        population = Population(
            loss=label_loss(outside, validation.label),
            reference_loss=label_loss(answers.population, validation.label),
            labels=validation.label,
            logits=outside,
            reference_logits=answers.population,
        )
    return Signals(
        groups=stays.patients,
        loss=label_loss(logits, label),
        logits=logits,
        labels=label,
        references=references,
        population=population,
        inputs=raw_features(stays.view),
        untrained_loss=None if fresh is None else label_loss(fresh.logits(stays.view), label),
        truth=stays.member,
    )


def only(signals: Signals, rows: Booleans) -> Signals:
    """What `measure` gave, of some of its stays (N,); the population stays whole."""

    def of(values: NDArray[Any] | None) -> Any:
        return None if values is None else values[rows]

    references = signals.references
    if references is not None:
        logits = None if references.logits is None else references.logits[:, rows]
        references = References(references.member[:, rows], references.loss[:, rows], logits)
    return replace(
        signals,
        groups=of(signals.groups),
        loss=of(signals.loss),
        logits=of(signals.logits),
        labels=of(signals.labels),
        references=references,
        inputs=of(signals.inputs),
        untrained_loss=of(signals.untrained_loss),
        truth=of(signals.truth),
    )


def untrained(model: Model, victim: Victim, seed: int) -> Victim | None:
    """The victim's architecture and preprocessing with fresh weights; None for a model without a network."""
    if not isinstance(victim, TorchVictim):
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer(seed, "audit", 0))
        network = as_torch(model).build(victim.preprocessor.spec)
    return victim.with_state(network.state_dict())


def scores_of(audit: Audit, signals: Signals, seed: int) -> Floats:
    """(N,) the audit's scores.

    Its random numbers follow from the study's seed and its name: the same for every model, whichever other audits
    there are. Raises `BackdoorError` as `run_audit` does.
    """
    return run_audit(audit, AuditCase(signals, seeds.generator(seed, "audit", *audit.name.encode())))


def scores_by_model(audit: Audit, measured: Mapping[str, Signals], seed: int) -> dict[str, Floats]:
    """The audit's scores of the same stays under every model, by the models' names; see `scores_of`."""
    if audit.requires <= {"inputs", "texts", "truth"}:  # what never sees a model says the same of all
        return dict.fromkeys(measured, scores_of(audit, next(iter(measured.values())), seed))
    return {name: scores_of(audit, signals, seed) for name, signals in measured.items()}


def utility(signals: Signals) -> float | None:
    """AUROC of the label on the stays that are no members; None where they have one label only."""
    assert signals.logits is not None
    assert signals.labels is not None
    assert signals.truth is not None
    outside = ~signals.truth
    value = float(auroc(signals.logits[outside], signals.labels[outside] == 1))
    return None if np.isnan(value) else value
