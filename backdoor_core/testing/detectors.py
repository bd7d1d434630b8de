"""What must hold for every `Detector`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Checkpoint, Detection, DetectionCase, Detector, Trusted, View
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.check import expect
from backdoor_core.testing.views import series_view, view_of
from backdoor_core.views import as_grid

ROWS, WIDTH, POISONED, TRUSTED = 200, 12, 10, 50
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
    shown = ("inputs", "embedding", "gradient", "logits")
    _detect(detector, case)
    pairs = [
        (as_grid(case.view).values, as_grid(fresh.view).values),
        (case._labels, fresh._labels),
        *((case._kept[name], fresh._victim.__getattribute__(name)(fresh.view)) for name in shown if name in case._kept),
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
    view = as_grid(_made_view(detector))
    values = np.repeat(np.nan_to_num(view.values[:1], nan=1.0), ROWS, axis=0)
    values[..., -1] = np.nan
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


def rules_of(detector: Detector) -> list[Callable[[Detector], None]]:
    """The rules that hold for the modalities it declares: those of a series where "series" is among them.

    Raises `BackdoorError` for a detector that declares neither tables nor series.
    """
    if not detector.modalities & {"table", "series"}:
        declared = ", ".join(sorted(detector.modalities)) or "none"
        raise BackdoorError(
            f"detector {detector.name}: its modalities are {declared}, but the conformance checks have cases of tables "
            "and series only; leave it out of detector_checks"
        )
    return [rule for rule in RULES if rule is not a_series_is_judged_like_a_table or "series" in detector.modalities]


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

    They are a table, or a series for a detector that declares no tables, unless `view` is given. `order` takes the
    given rows of all of it, in that order; `seed` is that of `case.rng`.
    """
    rng = np.random.default_rng(100)
    given = (np.arange(ROWS) % 4 == 0).astype(np.int8) if labels is None else labels
    activations = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    activations[:, 0] += 8 * given
    activations[_truth(), 1] += 8
    rows = np.arange(ROWS) if order is None else order
    whole = _made_view(detector) if view is None else view
    shown = whole.take(rows)
    victim = MadeVictim(whole, activations if embedding is None else embedding, shown)
    return DetectionCase(
        view=shown,
        rng=np.random.default_rng(seed),
        granted=detector.requires,
        _labels=given[rows],
        _victim=victim,
        _truth=_truth()[rows] if "truth" in detector.requires else None,
        _trusted=_trusted(whole) if "trusted" in detector.requires else None,
    )


class MadeVictim:
    """A made-up victim: the given activations for the stays of a view, and a linear model of standardized values."""

    def __init__(self, whole: View, activations: NDArray[np.float32], shown: View) -> None:
        self.whole, self.shown = as_grid(whole), shown
        # Behind them those of the trusted stays.
        others = np.random.default_rng(102).normal(size=(TRUSTED, activations.shape[1]))
        others[:, 0] += 8 * _trusted_labels()
        self.activations = np.concatenate([activations, others.astype(np.float32)])
        values = self.whole.values.reshape(-1, len(self.whole.features))
        measured = np.isfinite(values)
        count = np.maximum(measured.sum(axis=0), 1)
        self.center = np.where(measured, values, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(measured, values - self.center, 0) ** 2).sum(axis=0) / count)
        self.scale = np.where(spread > 0, spread, 1)
        self.weights = np.random.default_rng(101).normal(size=len(self.whole.features))

    def inputs(self, view: View) -> NDArray[np.float32]:
        """Standardized values, 0 where missing, and behind them 1.0 where missing."""
        values = as_grid(view).values
        absent = np.isnan(values)
        scaled = np.where(absent, 0, (values - self.center) / self.scale)
        inputs: NDArray[np.float32] = np.concatenate([scaled, absent], axis=-1).astype(np.float32)
        return inputs

    def embedding(self, view: View) -> NDArray[np.float32]:
        """The given activations, by stay."""
        shown: NDArray[np.float32] = self.activations[view.stay_id - self.whole.stay_id[0]]
        return shown

    def logits(self, view: View) -> NDArray[np.float64]:
        """Linear in the standardized values, and in the first activation."""
        scaled = self.inputs(view)[..., : len(self.weights)].astype(np.float64)
        linear = scaled.reshape(len(view), -1, len(self.weights)).mean(axis=1) @ self.weights
        logits: NDArray[np.float64] = linear + self.embedding(view)[:, 0] - 4
        return logits

    def gradient(self, view: View) -> NDArray[np.float32]:
        """The weights, for every stay alike but for a factor of its own."""
        inputs = self.inputs(view)
        weights = np.concatenate([self.weights, np.zeros_like(self.weights)])
        factor = 1 + np.abs(np.tanh(self.logits(view))).reshape(-1, *[1] * (inputs.ndim - 1))
        gradient: NDArray[np.float32] = (np.broadcast_to(weights, inputs.shape) * factor).astype(np.float32)
        return gradient

    def checkpoints(self, view: View) -> list[Checkpoint]:
        """Three states, each nearer to the last."""
        return [
            Checkpoint(epoch, 1e-3, self.logits(view) * share, self.embedding(view) * np.float32(share))
            for epoch, share in ((1, 0.25), (2, 0.5), (4, 1.0))
        ]

    def retrained(self, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The same logits, as if the rows that were left out taught nothing."""
        return self.logits(self.shown)


def _made_view(detector: Detector) -> View:
    return view_of("table" if "table" in detector.modalities else "series", ROWS)


def _trusted(whole: View) -> Trusted:
    """Fifty stays that are not among the rows of a case."""
    clean = view_of(whole.modality, ROWS + TRUSTED, as_grid(whole).features, seed=7)
    return Trusted(clean.take(np.arange(ROWS, ROWS + TRUSTED)), _trusted_labels())


def _trusted_labels() -> NDArray[np.int8]:
    labels: NDArray[np.int8] = (np.arange(TRUSTED) % 4 == 0).astype(np.int8)
    return labels


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
