"""Judging a detector's scores and flags against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Booleans, Detection, Floats
from backdoor_core.ranking import DETECTION, ranked_estimates
from backdoor_core.statistics import shares

SMALLEST = 20
"""Clean rows; a smaller group gets no false positive rate of its own."""

Figures = dict[str, Any]


def judge(detection: Detection, truth: Booleans, label: NDArray[np.int8], weights: NDArray[Any]) -> Figures:
    """Figures over all rows, and the same among the rows of each training label.

    Every figure is a dict of value, low and high (95% interval over resampled patients), null where it is
    not defined, such as recall where nothing was poisoned. Within a label, a detector that merely prefers
    the target's label gains nothing. `weights` is (replicates, N).
    """
    parts = {"all": np.ones_like(truth)} | {str(value): label == value for value in (0, 1) if (label == value).any()}
    flags = _flags(detection.flagged, truth, list(parts.values()), weights)
    figures = {
        name: {
            "rows": int(rows.sum()),
            "poisoned": int(truth[rows].sum()),
            **_ranked(detection.scores[rows], truth[rows], weights if name == "all" else weights[:, rows]),
            **found,
        }
        for (name, rows), found in zip(parts.items(), flags, strict=True)
    }
    return {**figures.pop("all"), "by_label": figures}


def judge_flags(flagged: Booleans, truth: Booleans, weights: NDArray[Any]) -> Figures:
    """Recall, precision, flagged share and false positive rate of flags, with the count."""
    (found,) = _flags(flagged, truth, [np.ones_like(truth)], weights)
    return found


def _flags(flagged: Booleans, truth: Booleans, parts: Sequence[Booleans], weights: NDArray[Any]) -> list[Figures]:
    """The figures of `judge_flags` among the rows of each part (N,)."""
    pairs = [
        pair
        for rows in parts
        for pair in ((flagged, truth & rows), (truth, flagged & rows), (flagged, rows), (flagged, ~truth & rows))
    ]
    found = iter(_shares(pairs, weights))
    return [
        {"flagged": int((flagged & rows).sum())}
        | {name: next(found) for name in ("recall", "precision", "flagged_share", "fpr")}
        for rows in parts
    ]


def filter_bias(
    flagged: Booleans, truth: Booleans, groups: Mapping[str, Mapping[str, Booleans]], weights: NDArray[Any]
) -> dict[str, dict[str, Figures]]:
    """Whose clean rows a filter would remove: the false positive rate in each group of patients.

    `groups` holds, by what they have in common (sex, say) and by name, the rows (N,) of each group. A group with
    fewer than `SMALLEST` clean rows has null figures.
    """
    listed = [(by, name, rows) for by, named in groups.items() for name, rows in named.items()]
    large = [k for k, (_, _, rows) in enumerate(listed) if (rows & ~truth).sum() >= SMALLEST]
    rates = _shares([(flagged, listed[k][2] & ~truth) for k in large], weights)
    known = dict(zip(large, rates, strict=True))
    found: dict[str, dict[str, Figures]] = {by: {} for by in groups}
    for k, (by, name, rows) in enumerate(listed):
        rate = known.get(k, {"value": None, "low": None, "high": None})
        found[by][name] = {"clean_rows": int((rows & ~truth).sum()), "fpr": rate}
    return found


def _shares(pairs: Sequence[tuple[Booleans, Booleans]], weights: NDArray[Any]) -> list[Figures]:
    """Share of each event (N,) among its rows (N,)."""
    if not pairs:
        return []
    events, among = (np.column_stack(side) for side in zip(*pairs, strict=True))
    return [estimate.as_dict() for estimate in shares(events, among, weights)]


def _ranked(scores: Floats, truth: Booleans, weights: NDArray[Any]) -> Figures:
    return {name: found.as_dict() for name, found in ranked_estimates(DETECTION, scores, truth, weights).items()}
