"""Judging an audit's scores against who was in the training: figures, their intervals, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import betabinom, rankdata

from backdoor_core.ranking import auroc, tpr_at_fpr
from backdoor_core.statistics import (
    Estimate,
    Floats,
    Weights,
    as_flags,
    as_numbers,
    bootstrap_estimate,
    cluster_bootstrap_weights,
    t_quantile,
)

LEVELS = (0.1, 0.01, 0.001)
"""False positive rates at which the true positive rate is told."""
ROC_POINTS = 100

Figures = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One audited model (one seed): what an audit said of its records, and which of them it was trained on."""

    scores: Floats
    """(N,) higher = more likely a member."""
    member: NDArray[np.bool_]
    """(N,)"""
    groups: NDArray[Any]
    """(N,) patient of each record; the same name in two runs is the same patient."""

    def __post_init__(self) -> None:
        flags = as_flags(self.member, "member")
        as_numbers(self.scores, "scores", len(flags))
        if np.shape(self.groups) != flags.shape or not len(flags):
            raise ValueError(f"groups have shape {np.shape(self.groups)} for {len(flags)} records (1 or more)")


def resamples(runs: Sequence[Run], replicates: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """(B, rows of all runs) bootstrap weights: whole patients, drawn within members and within non-members.

    A patient that is in several runs is drawn in all of them at once. One that was in the training of some runs only
    counts as a member for the drawing. To judge two audits of the same runs on the same weights makes them paired.
    """
    groups = np.concatenate([run.groups for run in runs])
    member = np.concatenate([run.member for run in runs]).astype(np.int64)
    return cluster_bootstrap_weights(groups, replicates, rng, member)


def pooled_scores(runs: Sequence[Run]) -> Floats:
    """(rows of all runs,) each record's rank among the records of its own run, from 0 to 1, ties sharing a rank.

    Scores of two models are not on one scale, so a threshold on raw scores would flag many records of one model
    and none of the other. Ranks flag the same share of each. They use no membership: an attacker has them too.
    """
    return np.concatenate([rankdata(run.scores) / len(run.scores) for run in runs])


def judge(runs: Sequence[Run], weights: Weights, blind: Sequence[Run] | None = None) -> Figures:
    """All figures of one audit over several models; `weights` are from `resamples` of the same runs.

    - ``auc``: mean over runs of the probability that a member outranks a non-member of the same run. Its interval
      (percentile bootstrap of whole patients) covers other patients with the same trained models.
    - ``auc_by_run``, and ``auc_over_runs`` with Student's t interval, which covers other seeds instead; no interval
      for one run, and it is too narrow where the runs share their records.
    - ``tpr``: for each of `LEVELS` the highest true positive rate over the thresholds whose false positive rate is at
      most that level, on `pooled_scores`. A threshold never splits equal scores. ``low`` and ``high`` are the
      bootstrap's: other patients, the threshold found anew. ``clopper_pearson`` (1934) is exact for ``found`` of
      ``members`` at a threshold fixed in advance and independent records: it covers neither the choice of the
      threshold nor repeated patients, but unlike the bootstrap it does not shrink to nothing at 0 or 1. ``by_luck`` is
      the probability of finding as many members by scores that know nothing, with the choice of the threshold.
      Below ``smallest_fpr``, one over the number of non-members, there is no figure and ``why`` says so.
    - ``roc``: for a log-log plot, the highest true positive rate within each of up to `ROC_POINTS` rates, the first
      of them ``smallest_fpr``.
    - ``over_blind``: ``auc`` less that of the blind control on the same runs, paired; null without the control.

    Figures are null where members or non-members are missing.
    """
    member = np.concatenate([run.member for run in runs])
    groups = np.concatenate([run.groups for run in runs])
    pooled = pooled_scores(runs)
    members, others = int(member.sum()), int((~member).sum())
    by_run = [None if np.isnan(value := float(auroc(run.scores, run.member))) else value for run in runs]
    return {
        "runs": len(runs),
        "records": len(member),
        "members": members,
        "nonmembers": others,
        "patients": len(np.unique(groups)),
        "smallest_fpr": 1 / others if others else None,
        "auc": bootstrap_estimate(lambda w: mean_auc(runs, w), weights).as_dict(),
        "auc_by_run": by_run,
        "auc_over_runs": over_runs([value for value in by_run if value is not None]).as_dict(),
        "tpr": [_tpr(pooled, member, level, weights) for level in LEVELS],
        "roc": thinned_roc(pooled, member),
        "over_blind": None if blind is None else over_blind(runs, blind, weights).as_dict(),
    }


def mean_auc(runs: Sequence[Run], weights: Weights | None) -> float | Floats:
    """Mean over runs of the area under the ROC curve within the run; NaN where a run lacks members or non-members."""
    ends = np.cumsum([len(run.scores) for run in runs])
    parts = [
        auroc(run.scores, run.member, None if weights is None else weights[..., end - len(run.scores) : end])
        for run, end in zip(runs, ends, strict=True)
    ]
    return sum(parts[1:], start=parts[0]) / len(parts)


def over_blind(runs: Sequence[Run], blind: Sequence[Run], weights: Weights) -> Estimate:
    """How much higher the audit's AUC is than the blind control's. Raises `ValueError` for other runs."""
    same = len(runs) == len(blind) and all(
        np.array_equal(one.member, other.member) for one, other in zip(runs, blind, strict=True)
    )
    if not same:
        raise ValueError("the blind control was judged on other runs than the audit")
    return bootstrap_estimate(lambda w: mean_auc(runs, w) - mean_auc(blind, w), weights)


def over_runs(values: Sequence[float]) -> Estimate:
    """Mean of one figure over runs and Student's 95% interval; no interval for one run, nothing for none."""
    if not values:
        return Estimate(None, None, None)
    center = float(np.mean(values))
    if len(values) == 1:
        return Estimate(center, None, None)
    reach = float(t_quantile(len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(center, center - reach, center + reach)


def clopper_pearson(found: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial proportion (Clopper and Pearson 1934), by quantiles of the beta distribution."""
    if not 0 <= found <= of or of < 1:
        raise ValueError(f"{found} of {of} is no proportion")
    tail = (1 - level) / 2
    low = 0.0 if found == 0 else float(betaincinv(found, of - found + 1, tail))
    high = 1.0 if found == of else float(betaincinv(found + 1, of - found, 1 - tail))
    return low, high


def by_luck(found: int, members: int, others: int, wrong: int) -> float:
    """Probability that scores by lot find `found` members or more, where up to `wrong` of the others may be flagged.

    The threshold then lies below all members that outrank the (wrong + 1)-th of the others, and their number has a
    beta-binomial (negative hypergeometric) distribution, whose mean is above `wrong` / `others`: of 100 others and
    one that may be flagged it is 2% of the members. Equal scores only make it less. Exact for independent records.
    """
    return float(betabinom.sf(found - 1, members, wrong + 1, others - wrong)) if wrong < others else 1.0


def operating_points(scores: Floats, member: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Non-members and members flagged at each distinct threshold, from none to all; equal scores go together."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
    found = np.append(0, np.cumsum(member[order])[last])
    return np.append(0, last + 1) - found, found


def thinned_roc(scores: Floats, member: NDArray[np.bool_]) -> list[dict[str, float]]:
    """The highest true positive rate within each of up to `ROC_POINTS` false positive rates, evenly spaced in log."""
    members, others = int(member.sum()), int((~member).sum())
    if not members or not others:
        return []
    wrong, found = operating_points(scores, member)
    allowed = np.unique(np.ceil(np.geomspace(1, others, ROC_POINTS) - 1e-9).astype(np.int64))
    reached = found[np.searchsorted(wrong, allowed, side="right") - 1]
    return [{"fpr": int(a) / others, "tpr": int(r) / members} for a, r in zip(allowed, reached, strict=True)]


def _tpr(scores: Floats, member: NDArray[np.bool_], level: float, weights: Weights) -> Figures:
    members, others = int(member.sum()), int((~member).sum())
    shown: Figures = {"fpr": level, **Estimate(None, None, None).as_dict(), "clopper_pearson": None, "by_luck": None}
    if not members or not others:
        return shown | {"why": "there are no members" if others else "there are no non-members"}
    if 1 / others > level:
        return shown | {"why": f"{others} non-members resolve no false positive rate below {1 / others:.2g}"}
    wrong, found = operating_points(scores, member)
    point = int(np.searchsorted(wrong / others, level, side="right")) - 1
    return {
        **shown,
        **bootstrap_estimate(lambda w: tpr_at_fpr(scores, member, level, w), weights).as_dict(),
        "found": int(found[point]),
        "members": members,
        "reached_fpr": int(wrong[point]) / others,
        "clopper_pearson": list(clopper_pearson(int(found[point]), members)),
        # With room for rounding: 0.01 of 300 is 2.9999999999999996.
        "by_luck": by_luck(int(found[point]), members, others, int(level * others + 1e-9)),
    }
