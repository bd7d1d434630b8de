"""Groups of channels that are replaced together, and what the output loses by it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import ExplainCase, Floats, Integers
from backdoor_core.errors import BackdoorError

By = Literal["feature", "hour", "cell"]
BY_HELP = (
    "what is replaced at once: cell (all channels of a feature, for series at one hour), feature (at all hours), "
    "hour (all features of one hour; series only)"
)


def group_of_input(name: str, case: ExplainCase, by: By) -> tuple[Integers, int]:
    """The group of each input, in the shape of a row, and the number of groups.

    Groups are features in their order, hours, or cells as hour * F + feature; of a table a cell is a feature.
    Raises `BackdoorError` for hours of a table.
    """
    row = case.inputs.shape[1:]
    feature = np.broadcast_to(case.feature_of_channel, row)
    if len(row) == 1:
        if by == "hour":
            raise BackdoorError(f"explainer {name}: by: hour needs a series, and the model reads a table; use by: cell")
        return feature, case.features
    hour = np.broadcast_to(np.arange(row[0])[:, np.newaxis], row)
    if by == "hour":
        return hour, row[0]
    return (feature, case.features) if by == "feature" else (hour * case.features + feature, row[0] * case.features)


def spread(values: Floats, group: Integers) -> Floats:
    """(N, *row) each of (N, groups) in equal shares on the inputs of its group, so that they sum to it.

    Shares of one sign: summing and summing absolute values agree on how much a group has.
    """
    sizes = np.bincount(group.ravel(), minlength=values.shape[1])
    shares: Floats = (values / sizes)[:, group]
    return shares


def losses(
    case: ExplainCase, group: Integers, groups: int, donors: NDArray[np.float32], outputs: Floats
) -> NDArray[np.float64]:
    """(N, groups) output of each row less that of the row with one group taken from its donor (N, *row).

    `outputs` are (N,) the rows' own. Exactly 0 where the donor has the same values; NaN equals NaN.
    At most `case.rows_at_once` changed rows exist at a time.
    """
    lost = np.zeros(len(outputs) * groups)
    inside = tuple(range(1, case.inputs.ndim))
    for start in range(0, len(lost), case.rows_at_once):
        row, number = np.divmod(np.arange(start, min(start + case.rows_at_once, len(lost))), groups)
        own = case.inputs[row]
        changed = np.where(group == np.expand_dims(number, inside), donors[row], own)
        moved = ((changed != own) & ~(np.isnan(changed) & np.isnan(own))).any(axis=inside)
        if moved.any():
            lost[start + np.flatnonzero(moved)] = outputs[row[moved]] - case.predict(changed[moved])
    return lost.reshape(len(outputs), groups)


def predicted(case: ExplainCase) -> NDArray[np.float64]:
    """(N,) outputs of the rows themselves."""
    starts = range(0, len(case.inputs), case.rows_at_once)
    return np.concatenate([np.empty(0), *(case.predict(case.inputs[s : s + case.rows_at_once]) for s in starts)])
