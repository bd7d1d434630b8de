"""What the models leak: every audit over seeds and recipes, judged beside its controls and the models' use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.auditing import Population, References
from backdoor_core.contracts import Audit, AuditCase, Booleans, Integers, Signals, Tokens
from backdoor_core.privacy.case import run_audit
from backdoor_core.privacy.judge import Run, judge, mean_auc, pooled_scores
from backdoor_core.privacy.verdict import verdict, widened
from backdoor_core.ranking import tpr_at_fpr
from backdoor_core.statistics import Floats, Weights, bootstrap_estimate, mean

BLIND: Final = "blind"
UNTRAINED: Final = "untrained"
_BAND: Final = 9
"""False positive rates at which the ROC curve has an interval."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One trained model on the N audited notes."""

    member: Booleans
    """(N,)"""
    tokens: Tokens
    nll: NDArray[np.floating[Any]]
    """(E + 1, N) mean NLL after each epoch, the untrained model first."""
    kept: int
    """The epoch that is audited."""
    neighbor_loss: Floats | None = None
    """(N, J) mean NLL of altered copies, where an audit compares with them."""
    references: References | None = None
    population: Population | None = None
    """Likewise: models of the same recipe, and notes that neither they nor this one were trained on."""

    @property
    def loss(self) -> Floats:
        """(N,) of the audited epoch, from its tokens."""
        return -np.add.reduceat(self.tokens.log_prob, self.tokens.offsets[:-1]) / self.tokens.lengths


@dataclass(frozen=True)
class Audited:
    """The models of one recipe, one a seed, and what each audit said of them."""

    models: tuple[Model, ...]
    scores: Mapping[str, tuple[Floats, ...]]
    """(N,) by audit and by seed."""

    def runs(self, audit: str, patients: Integers) -> list[Run]:
        """What `judge` needs of one audit."""
        return [Run(s, m.member, patients) for s, m in zip(self.scores[audit], self.models, strict=True)]


def audit_models(
    audits: Sequence[Audit], models: Sequence[Model], patients: Integers, texts: Sequence[str], seed: int
) -> Audited:
    """Run every audit on every model. An audit's random numbers depend on its name and on the number of the seed."""
    scores: dict[str, list[Floats]] = {audit.name: [] for audit in audits}
    for number, model in enumerate(models):
        signals = Signals(
            groups=patients,
            loss=model.loss,
            tokens=model.tokens,
            texts=texts,
            neighbor_loss=model.neighbor_loss,
            references=model.references,
            population=model.population,
            untrained_loss=model.nll[0],
            truth=model.member,
        )
        for audit in audits:
            rng = seeds.generator(seed, "notes_audit", number, *audit.name.encode())
            scores[audit.name].append(run_audit(audit, AuditCase(signals, rng)))
    return Audited(tuple(models), {name: tuple(found) for name, found in scores.items()})


def compare(recipes: Mapping[str, Audited], controls: frozenset[str], patients: Integers, weights: Weights) -> Json:
    """Figures and verdicts of every recipe, and each audit's AUC of the first recipe less that of every other.

    `weights` are resamples of the pooled notes of all seeds, the same for all recipes. JSON-able.
    """
    found = {name: _of_recipe(audited, controls, patients, weights) for name, audited in recipes.items()}
    first, *others = recipes
    return {
        "recipes": found,
        "differences": [
            {
                "of": first,
                "less": other,
                "auc": {
                    audit: _less(recipes[first].runs(audit, patients), recipes[other].runs(audit, patients), weights)
                    for audit in recipes[first].scores
                    if audit not in controls
                },
            }
            for other in others
        ],
    }


def _less(one: Sequence[Run], other: Sequence[Run], weights: Weights) -> Json:
    return bootstrap_estimate(lambda w: mean_auc(one, w) - mean_auc(other, w), weights).as_dict()


def _of_recipe(audited: Audited, controls: frozenset[str], patients: Integers, weights: Weights) -> Json:
    runs = {name: audited.runs(name, patients) for name in audited.scores}
    aucs = {
        name: bootstrap_estimate(_auc(runs[name]), weights).as_dict() for name in (BLIND, UNTRAINED) if name in runs
    }
    judged: Json = {}
    for name, of_audit in runs.items():
        control = name in controls
        figures = judge(of_audit, weights, None if control else runs.get(BLIND))
        said = None
        if not control:
            answer = verdict(figures, aucs.get(BLIND), aucs.get(UNTRAINED))
            said = {"word": answer.word, "text": answer.text, "cautions": list(answer.cautions)}
        judged[name] = {"control": control, **figures, "band": band(of_audit, weights), "verdict": said}
    if BLIND in judged:
        judged[BLIND]["widened"] = widened(aucs[BLIND])
    return {
        "utility": utility(audited.models, weights),
        "kept_epochs": [model.kept for model in audited.models],
        "audits": judged,
        "curve": learning(audited.models, patients, weights),
    }


def _auc(runs: Sequence[Run]) -> Callable[[Weights | None], float | Floats]:
    return lambda w: mean_auc(runs, w)


def band(runs: Sequence[Run], weights: Weights) -> list[Json]:
    """True positive rates with intervals at false positive rates evenly spaced in log, from the smallest to 1."""
    scores, member = pooled_scores(runs), np.concatenate([run.member for run in runs])
    others = int((~member).sum())
    if not others or member.all() or not member.any():
        return []
    found = []
    for level in np.unique(np.geomspace(1, others, _BAND).round()) / others:
        estimate = bootstrap_estimate(lambda w, level=level: tpr_at_fpr(scores, member, level, w), weights)  # type: ignore[misc]
        found.append({"fpr": float(level), **estimate.as_dict()})
    return found


def utility(models: Sequence[Model], weights: Weights) -> Json:
    """Held-out NLL and perplexity (of non-members), members' NLL, and the gap between them, over all seeds.

    Means over notes, in nats a token; perplexity is exp of the held-out NLL.
    """
    loss = np.concatenate([model.loss for model in models])
    member = np.concatenate([model.member for model in models])

    def of(rows: Booleans, w: Weights | None) -> float | Floats:
        return mean(loss[rows], None if w is None else w[..., rows])

    figures = {
        "held_out_nll": lambda w: of(~member, w),
        "perplexity": lambda w: np.exp(of(~member, w)),
        "member_nll": lambda w: of(member, w),
        "gap": lambda w: of(~member, w) - of(member, w),
    }
    return {name: bootstrap_estimate(figure, weights).as_dict() for name, figure in figures.items()}


def learning(models: Sequence[Model], patients: Integers, weights: Weights) -> list[Json]:
    """After each epoch, over the seeds that reached it: NLL of members and of non-members, AUC of the NLL."""
    rows = len(patients)
    found = []
    for epoch in range(max(len(model.nll) for model in models)):
        there = [number for number, model in enumerate(models) if epoch < len(model.nll)]
        runs = [Run(-models[number].nll[epoch], models[number].member, patients) for number in there]
        columns = np.concatenate([np.arange(number * rows, (number + 1) * rows) for number in there])
        inside = np.concatenate([-run.scores[run.member] for run in runs])
        outside = np.concatenate([-run.scores[~run.member] for run in runs])
        found.append(
            {
                "epoch": epoch,
                "seeds": len(there),
                "member_nll": float(inside.mean()),
                "held_out_nll": float(outside.mean()),
                "auc": bootstrap_estimate(_auc(runs), weights[:, columns]).as_dict(),
            }
        )
    return found
