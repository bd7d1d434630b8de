"""What must hold for every `Detector`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Detection, DetectionCase, Detector, View
from backdoor_core.testing.check import expect
from backdoor_core.testing.views import series_view, table_view

ROWS, WIDTH, POISONED = 200, 12, 10
FEW = (1, 2, 3, 10)


def one_finite_score_and_one_flag_a_row(detector: Detector) -> None:
    """(N,) finite scores and (N,) boolean flags."""
    _detect(detector, make_case(detector))


def a_series_is_judged_like_a_table(detector: Detector) -> None:
    """Also where the view is a series, there is one score a stay."""
    _detect(detector, make_case(detector, view=series_view(ROWS)))


def the_same_rng_gives_the_same_answer(detector: Detector) -> None:
    """Random numbers come from `case.rng` alone."""
    first, again = (_detect(detector, make_case(detector)) for _ in range(2))
    expect(bool(np.array_equal(first.scores, again.scores)), "the same case and random numbers give other scores")
    expect(bool(np.array_equal(first.flagged, again.flagged)), "the same case and random numbers give other flags")


def the_order_of_rows_does_not_matter(detector: Detector) -> None:
    """The same rows in another order get the same scores up to rounding, unless the scores themselves are random.

    Random is a detector whose scores differ between two seeds of `case.rng`.
    """
    answer, other = (_detect(detector, make_case(detector, seed=seed)).scores for seed in (0, 1))
    if not np.array_equal(answer, other):
        return
    order = np.random.default_rng(2).permutation(ROWS)
    permuted = _detect(detector, make_case(detector, order=order)).scores
    spread = max(float(np.ptp(answer)), 1e-12)
    difference = float(np.abs(permuted - answer[order]).max())
    expect(difference <= 1e-3 * spread, f"scores change by up to {difference:.3g} with the order of the rows")


def the_case_is_left_as_it_was(detector: Detector) -> None:
    """The detector writes neither into the view nor into labels, activations or truth."""
    case, fresh = make_case(detector), make_case(detector)
    _detect(detector, case)
    pairs = [
        (case.view.values, fresh.view.values),
        (case._labels, fresh._labels),
        (case._embedding(), fresh._embedding()),
        (np.array(case._truth, dtype=np.float64), np.array(fresh._truth, dtype=np.float64)),
    ]
    same = all(np.array_equal(found, expected, equal_nan=True) for found, expected in pairs)
    expect(same, "the detector writes into the arrays of its case")


def details_are_json(detector: Detector) -> None:
    """`details` can be written as JSON, without NaN or infinity."""
    details = _detect(detector, make_case(detector)).details
    try:
        json.dumps(dict(details), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"details are not JSON-able: {error}") from None


def a_label_without_rows_is_no_error(detector: Detector) -> None:
    """All rows have one label: the other has none."""
    for label in (0, 1):
        _detect(detector, make_case(detector, labels=np.full(ROWS, label, np.int8)))


def a_label_with_one_row_is_no_error(detector: Detector) -> None:
    """All rows but one have one label."""
    _detect(detector, make_case(detector, labels=(np.arange(ROWS) == 7).astype(np.int8)))


def constant_features_are_no_error(detector: Detector) -> None:
    """All stays have the same values and the same activations; and some values are in no stay at all."""
    view = table_view(ROWS)
    values = np.repeat(np.nan_to_num(view.values[:1], nan=1.0), ROWS, axis=0)
    values[:, -1] = np.nan
    _detect(detector, make_case(detector, view=view.with_values(values), embedding=np.ones((ROWS, WIDTH), np.float32)))


def few_rows_are_no_error(detector: Detector) -> None:
    """Cases of 1, 2, 3 and 10 rows."""
    for rows in FEW:
        _detect(detector, make_case(detector, order=np.arange(rows)))


RULES: Sequence[Callable[[Detector], None]] = (
    one_finite_score_and_one_flag_a_row,
    a_series_is_judged_like_a_table,
    the_same_rng_gives_the_same_answer,
    the_order_of_rows_does_not_matter,
    the_case_is_left_as_it_was,
    details_are_json,
    a_label_without_rows_is_no_error,
    a_label_with_one_row_is_no_error,
    constant_features_are_no_error,
    few_rows_are_no_error,
)


def make_case(
    detector: Detector,
    *,
    view: View | None = None,
    labels: NDArray[np.int8] | None = None,
    embedding: NDArray[np.float32] | None = None,
    order: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> DetectionCase:
    """200 stays with two clusters of activations and ten poisoned stays in a third, granted what is declared.

    `order` takes the given rows of all of it, in that order; `seed` is that of `case.rng`.
    """
    rng = np.random.default_rng(100)
    given = (np.arange(ROWS) % 4 == 0).astype(np.int8) if labels is None else labels
    activations = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    activations[:, 0] += 8 * given
    activations[_truth(), 1] += 8
    rows = np.arange(ROWS) if order is None else order
    shown = (activations if embedding is None else embedding)[rows]
    return DetectionCase(
        view=(table_view(ROWS) if view is None else view).take(rows),
        rng=np.random.default_rng(seed),
        granted=detector.requires,
        _labels=given[rows],
        _embedding=lambda: shown,
        _truth=_truth()[rows] if "truth" in detector.requires else None,
    )


def _truth() -> NDArray[np.bool_]:
    """Ten of the stays with label 1."""
    poisoned: NDArray[np.bool_] = (np.arange(ROWS) % 4 == 0) & (np.arange(ROWS) < 4 * POISONED)
    return poisoned


def _detect(detector: Detector, case: DetectionCase) -> Detection:
    """The answer, its shape checked."""
    found, rows = detector.detect(case), len(case.view)
    scores, flagged = np.asarray(found.scores), np.asarray(found.flagged)
    expect(scores.shape == (rows,), f"scores have shape {scores.shape} for {rows} rows; give one a row")
    expect(flagged.shape == (rows,), f"flags have shape {flagged.shape} for {rows} rows; give one a row")
    expect(flagged.dtype == np.bool_, f"flags are {flagged.dtype}; give booleans")
    expect(bool(np.isfinite(scores.astype(np.float64)).all()), f"scores of {rows} rows are NaN or infinite")
    return Detection(scores.astype(np.float64), flagged, found.details)
