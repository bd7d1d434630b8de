"""An audit run on a case: its signals checked before, its scores after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.auditing import ATTRIBUTES, AuditCase, Signal, Signals
from backdoor_core.contracts import Audit
from backdoor_core.errors import BackdoorError
from backdoor_core.statistics import Floats


def run_audit(audit: Audit, case: AuditCase) -> Floats:
    """(N,) scores of an audit that is granted what it declares, whatever `case.granted` says.

    Raises `BackdoorError`, before the audit does anything, where a signal that it declares was not measured, does
    not fit the number of records or is not finite; and afterwards where the scores are not one finite number a record.
    """
    for signal in sorted(audit.requires):
        _check_signal(audit.name, signal, case.signals)
    scores = np.asarray(audit.score(replace(case, granted=audit.requires)), dtype=np.float64)
    n = len(case)
    if scores.shape != (n,):
        raise BackdoorError(f"audit {audit.name}: scores have shape {scores.shape} for {n} records; give one of each")
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise BackdoorError(f"audit {audit.name}: {broken} of {n} scores are NaN or infinite; every record needs one")
    return scores


def _check_signal(audit: str, signal: Signal, signals: Signals) -> None:
    if getattr(signals, ATTRIBUTES[signal]) is None:
        raise BackdoorError(f'audit {audit}: needs the signal "{signal}", which was not measured for this target')
    _CHECKS[signal](f'audit {audit}: the signal "{signal}"', signals)


def _array(where: str, values: Any, shape: tuple[int | None, ...], name: str = "") -> NDArray[Any]:
    """The values as an array of the shape, None for any length of 1 or more, and of finite numbers."""
    array, what = np.asarray(values), where + (f", {name}," if name else "")
    fits = array.ndim == len(shape) and all(
        (have > 0 if want is None else have == want) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise BackdoorError(f"{what} has shape {array.shape}, must be {wanted}")
    broken = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
    if broken:
        raise BackdoorError(f"{what} has {broken} values that are NaN or infinite; the model must give each record one")
    return array


def _flags(where: str, values: Any, shape: tuple[int | None, ...], name: str = "") -> None:
    array = _array(where, values, shape, name)
    if array.dtype != np.bool_:
        raise BackdoorError(f"{where}{f', {name},' if name else ''} is {array.dtype}, must be booleans")


def _labels(where: str, labels: Any, rows: int) -> None:
    if labels is None:
        raise BackdoorError(f"{where} comes without labels; log-odds say nothing of a record without its label")
    if not np.isin(_array(where, labels, (rows,), "labels"), (0, 1)).all():
        raise BackdoorError(f"{where} has labels other than 0 and 1")


def _check_loss(where: str, signals: Signals) -> None:
    _array(where, signals.loss, (len(signals),))


def _check_untrained(where: str, signals: Signals) -> None:
    _array(where, signals.untrained_loss, (len(signals),))


def _check_neighbors(where: str, signals: Signals) -> None:
    _array(where, signals.neighbor_loss, (len(signals), None))


def _check_truth(where: str, signals: Signals) -> None:
    _flags(where, signals.truth, (len(signals),))


def _check_logits(where: str, signals: Signals) -> None:
    _array(where, signals.logits, (len(signals),))
    _labels(where, signals.labels, len(signals))


def _check_references(where: str, signals: Signals) -> None:
    references = signals.references
    assert references is not None
    shape = (None, len(signals))
    found = _array(where, references.loss, shape, "loss").shape
    _flags(where, references.member, found, "member")
    if references.logits is not None:
        _array(where, references.logits, found, "logits")


def _check_population(where: str, signals: Signals) -> None:
    population = signals.population
    assert population is not None
    rows = len(_array(where, population.loss, (None,), "loss"))
    models = None if signals.references is None else len(signals.references.loss)
    _array(where, population.reference_loss, (models, rows), "reference_loss")
    if population.logits is not None:
        _array(where, population.logits, (rows,), "logits")
        _labels(where, population.labels, rows)
    if population.reference_logits is not None:
        _array(where, population.reference_logits, (models, rows), "reference_logits")


def _check_tokens(where: str, signals: Signals) -> None:
    tokens = signals.tokens
    assert tokens is not None
    offsets = _array(where, tokens.offsets, (len(signals) + 1,), "offsets")
    empty = int((np.diff(offsets) < 1).sum())
    if empty:
        raise BackdoorError(f"{where} has {empty} texts without a token; every text needs one at least")
    if offsets[0] != 0:
        raise BackdoorError(f"{where}, offsets, starts at {offsets[0]}, must start at 0")
    for name, values in (("log_prob", tokens.log_prob), ("mean", tokens.mean), ("sd", tokens.sd)):
        _array(where, values, (int(offsets[-1]),), name)


def _check_texts(where: str, signals: Signals) -> None:
    texts = signals.texts
    assert texts is not None
    if len(texts) != len(signals):
        raise BackdoorError(f"{where} has {len(texts)} texts for {len(signals)} records; give one of each")


def _check_inputs(where: str, signals: Signals) -> None:
    inputs = np.asarray(signals.inputs)
    # NaN is a missing value, which is no defect here.
    _array(where, np.where(np.isnan(inputs), 0, inputs), (len(signals), None))
    if signals.labels is not None:
        _labels(where, signals.labels, len(signals))


_CHECKS: Mapping[Signal, Callable[[str, Signals], None]] = {
    "loss": _check_loss,
    "logits": _check_logits,
    "references": _check_references,
    "population": _check_population,
    "token_logprobs": _check_tokens,
    "texts": _check_texts,
    "inputs": _check_inputs,
    "neighbors": _check_neighbors,
    "untrained": _check_untrained,
    "truth": _check_truth,
}
