"""What `results_audit.json` tells of one audit: the poisoned model beside its clean twin, on the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.auditing import Signals
from backdoor_core.contracts import Booleans
from backdoor_core.privacy.judge import Run, judge, mean_auc, resamples
from backdoor_core.privacy.measured import utility
from backdoor_core.privacy.verdict import verdict, widened
from backdoor_core.ranking import auroc
from backdoor_core.statistics import Estimate, Floats, Weights, bootstrap_estimate

SIDES: Final = ("poisoned", "baseline")
SMALLEST: Final = 20
"""Members and non-members each; a smaller group gets no figure."""

Json = dict[str, Any]


def audit_findings(
    scores: Mapping[str, Mapping[str, Floats]],
    controls: frozenset[str],
    member: Booleans,
    patients: NDArray[Any],
    weights: Weights,
    subgroups: Sequence[tuple[str, str, Booleans]],
) -> Json:
    """Of every audit, by name: figures and verdict of both models, their paired difference, and AUC by subgroup.

    `scores` are (N,) by audit and by side, `member` and `patients` (N,), `weights` (replicates, N) resamples as
    `judge.resamples` makes them, the same for all. `subgroups` are what, which and (N,) rows. A control gets figures,
    and no verdict; the blind control is the one by the name of ``blind``. JSON-able.
    """
    blind = {side: [Run(scores["blind"][side], member, patients)] for side in SIDES} if "blind" in scores else None
    controlled = {
        name: {side: _auc(scores[name][side], member, weights) for side in SIDES}
        for name in ("blind", "untrained")
        if name in scores
    }
    found: Json = {}
    for name, both in scores.items():
        sides: Json = {}
        for side in SIDES:
            runs = [Run(both[side], member, patients)]
            over = None if blind is None or name in controls else blind[side]
            figures = judge(runs, weights, over)
            said = None
            if name not in controls:
                shifted, untrained = (controlled.get(control, {}).get(side) for control in ("blind", "untrained"))
                answer = verdict(figures, shifted, untrained)
                said = {"word": answer.word, "text": answer.text, "cautions": list(answer.cautions)}
            sides[side] = {**figures, "verdict": said}
        found[name] = {
            "control": name in controls,
            **sides,
            "difference": difference(both, member, patients, weights).as_dict(),
            "subgroups": [
                {"by": by, "value": value, **_subgroup(both, member, rows, weights)} for by, value, rows in subgroups
            ],
        }
    if "blind" in found:
        for side in SIDES:
            found["blind"][side]["widened"] = widened(controlled["blind"][side])
    return found


def findings_of_models(
    scores: Mapping[str, Mapping[str, Floats]],
    measured: Mapping[str, Signals],
    controls: frozenset[str],
    subgroups: Sequence[tuple[str, str, Booleans]],
    replicates: int,
    rng: np.random.Generator,
) -> Json:
    """`audit_findings` on resamples drawn from `rng`, with what was audited: stays, references, loss and utility.

    `measured` are the signals of both sides on the same N stays. JSON-able.
    """
    signals = measured["poisoned"]
    member, patients = np.asarray(signals.truth), signals.groups
    first = next(iter(scores.values()))["poisoned"]
    weights = resamples([Run(first, member, patients)], replicates, rng)
    return {
        "audits": audit_findings(scores, controls, member, patients, weights, subgroups),
        "members": int(member.sum()),
        "nonmembers": int((~member).sum()),
        "references": 0 if signals.references is None else len(signals.references.member),
        "loss": {side: gap(np.asarray(measured[side].loss), member) for side in SIDES},
        "auroc": {side: utility(measured[side]) for side in SIDES},
    }


def difference(both: Mapping[str, Floats], member: Booleans, patients: NDArray[Any], weights: Weights) -> Estimate:
    """AUC of the poisoned model less that of its twin, paired by patient."""
    poisoned, twin = ([Run(both[side], member, patients)] for side in SIDES)
    return bootstrap_estimate(lambda w: mean_auc(poisoned, w) - mean_auc(twin, w), weights)


def gap(loss: Floats, member: Booleans) -> Json:
    """Mean loss of members and of non-members (N,), and the second less the first: the generalization gap."""
    inside, outside = (float(loss[rows].mean()) if rows.any() else None for rows in (member, ~member))
    between = None if inside is None or outside is None else outside - inside
    return {"members": inside, "nonmembers": outside, "gap": between}


def _auc(scores: Floats, member: Booleans, weights: Weights) -> dict[str, float | None]:
    return bootstrap_estimate(lambda w: auroc(scores, member, w), weights).as_dict()


def _subgroup(both: Mapping[str, Floats], member: Booleans, rows: Booleans, weights: Weights) -> Json:
    members, others = int((member & rows).sum()), int((~member & rows).sum())
    counted: Json = {"members": members, "nonmembers": others}
    if min(members, others) < SMALLEST:
        return {**counted, **dict.fromkeys(SIDES), "why": f"fewer than {SMALLEST} members or non-members"}
    chosen = np.asarray(weights)[:, rows]
    return {**counted, **{side: _auc(both[side][rows], member[rows], chosen) for side in SIDES}, "why": None}
