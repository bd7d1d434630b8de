"""What must hold for every `Trigger`, on every modality it declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from backdoor_core.contracts import EventsView, Feature, Fitted, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.check import expect
from backdoor_core.testing.views import view_of

ROWS = 40
Features = Sequence[Feature]


def the_view_is_left_as_it_was(trigger: Trigger, features: Features) -> None:
    """Neither `fit` nor `apply` writes into the view, nor does a write into the answer reach it."""
    for modality, view in _views(trigger, features):
        before = view_of(modality, ROWS, features)
        after = _apply(trigger, view, _fit(trigger, view))
        expect(_equal(view, before), f"the trigger writes into the {modality} view it is given")
        for name, one, other in _arrays(after, view):
            shared = not _same(one, other) and np.shares_memory(one, other)
            expect(not shared, f"{name} of the triggered {modality} view shares memory with the view it was made from")


def the_answer_is_a_view_of_the_same_stays(trigger: Trigger, features: Features) -> None:
    """The same kind of view, stays, features and shape; values float32, and counts 0 exactly where values are NaN.

    Of events: the same codes in the same places (new ones only behind them), each stay's events in order of time.
    """
    for modality, view in _views(trigger, features):
        after = _apply(trigger, view, _fit(trigger, view))
        expect(type(after) is type(view), f"apply turns a {type(view).__name__} into a {type(after).__name__}")
        expect(bool(np.array_equal(after.stay_id, view.stay_id)), "apply changes stay_id")
        if isinstance(view, EventsView):
            _is_whole(after)
            expect(after.codes[: len(view.codes)] == view.codes, "apply changes the codes; add new ones at the end")
            continue
        expect(after.features == view.features, "apply changes the features")
        expect(after.values.shape == view.values.shape, f"apply changes the shape to {after.values.shape}")
        expect(after.values.dtype == np.float32, f"values become {after.values.dtype}; keep float32")
        expect(not np.isinf(after.values).any(), "values become infinite")
        if modality == "series":
            expect(after.counts.dtype == np.uint16, f"counts become {after.counts.dtype}; keep uint16")
            agree = np.array_equal(after.counts == 0, np.isnan(after.values))
            expect(agree, "counts should be 0 exactly where values are NaN: use view.with_values")


def missing_values_are_no_error(trigger: Trigger, features: Features) -> None:
    """A trigger fitted to a usual view is applied to one without any value at all, or without any event."""
    for modality, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        if isinstance(view, EventsView):
            after = _apply(trigger, view.keep(np.zeros(len(view.code), dtype=np.bool_)), fitted)
            expect(len(after) == ROWS, f"{ROWS} stays without events become {len(after)}")
            _is_whole(after)
            continue
        nothing = view.with_values(np.full_like(view.values, np.nan))
        after = _apply(trigger, nothing, fitted)
        shape = after.values.shape
        expect(shape == view.values.shape, f"a {modality} view without any value becomes one of shape {shape}")


def features_that_nobody_has_are_no_error(trigger: Trigger, features: Features) -> None:
    """Each feature (of events: code) in turn is measured in no stay. `fit` may refuse it with a `BackdoorError`."""
    for modality, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        for lost in range(len(features)):
            without = _without(view, lost)
            after = _apply(trigger, without, fitted)
            stays = np.array_equal(after.stay_id, view.stay_id)
            expect(stays, f"a {modality} view without {features[lost].name} becomes one of other stays")
            _fit_or_refuse(trigger, without)


def an_empty_view_is_no_error(trigger: Trigger, features: Features) -> None:
    """A trigger fitted to a usual view is applied to one without stays."""
    for modality, view in _views(trigger, features):
        after = _apply(trigger, view_of(modality, 0, features), _fit(trigger, view))
        expect(len(after) == 0, f"a {modality} view without stays becomes one of {len(after)}")


def a_view_of_one_stay_is_no_error(trigger: Trigger, features: Features) -> None:
    """A trigger is applied to one stay, and fitted to one unless it refuses with a `BackdoorError`."""
    for modality, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        for row in range(0, ROWS, 7):
            alone = view.take(np.array([row]))
            after = _apply(trigger, alone, fitted)
            expect(bool(np.array_equal(after.stay_id, alone.stay_id)), f"one stay of a {modality} view becomes others")
            _fit_or_refuse(trigger, alone)


def the_same_rng_gives_the_same_answer(trigger: Trigger, features: Features) -> None:
    """Random numbers come from the generator that is passed, in `fit` and in `apply`."""
    for _, view in _views(trigger, features):
        first, again = _fit(trigger, view), _fit(trigger, view)
        expect(first == again, "the same view and random numbers give another fit")
        same = _equal(_apply(trigger, view, first), _apply(trigger, view, first))
        expect(same, "the same view, fit and random numbers give another triggered view")


def the_fit_is_json(trigger: Trigger, features: Features) -> None:
    """What `fit` gives, written as JSON and read again, makes the same triggered view."""
    for _, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        try:
            read = json.loads(json.dumps(dict(fitted), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"fit gives what is not JSON-able: {error}") from None
        same = _equal(_apply(trigger, view, fitted), _apply(trigger, view, read))
        expect(same, "a fit that was written as JSON and read again makes another triggered view")


def a_stay_does_not_depend_on_the_others(trigger: Trigger, features: Features) -> None:
    """A stay is triggered the same alone and among others, unless the trigger draws random numbers.

    Random is a trigger whose answers differ between two seeds.
    """
    for _, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        together = _apply(trigger, view, fitted)
        if not _equal(together, _apply(trigger, view, fitted, seed=1)):
            continue
        for rows in (np.arange(ROWS)[::-3], np.array([1])):
            alone = _apply(trigger, view.take(rows), fitted)
            expect(_equal(alone, together.take(rows)), "a stay is triggered differently among other stays")


def twice_is_once_where_that_is_declared(trigger: Trigger, features: Features) -> None:
    """A trigger that is `idempotent` changes nothing more in a triggered stay, whatever the random numbers."""
    if not trigger.idempotent:
        return
    for modality, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        once = _apply(trigger, view, fitted)
        same = _equal(_apply(trigger, once, fitted, seed=1), once)
        expect(same, f"a triggered {modality} view is changed again; set idempotent = False")


RULES: Sequence[Callable[[Trigger, Features], None]] = (
    the_view_is_left_as_it_was,
    the_answer_is_a_view_of_the_same_stays,
    missing_values_are_no_error,
    features_that_nobody_has_are_no_error,
    an_empty_view_is_no_error,
    a_view_of_one_stay_is_no_error,
    the_same_rng_gives_the_same_answer,
    the_fit_is_json,
    a_stay_does_not_depend_on_the_others,
    twice_is_once_where_that_is_declared,
)


def _views(trigger: Trigger, features: Features) -> Iterator[tuple[Any, Any]]:
    """Each declared modality with a fresh view. `Any`: what a trigger takes is what is checked."""
    for modality in sorted(trigger.modalities):
        yield modality, view_of(modality, ROWS, features)


def _fit(trigger: Trigger, view: Any, seed: int = 0) -> Fitted:
    return trigger.fit(view, np.random.default_rng(seed))


def _fit_or_refuse(trigger: Trigger, view: Any) -> None:
    try:
        _fit(trigger, view)
    except BackdoorError as error:
        expect("\n" not in str(error), f"what `fit` tells the user has more than one line: {error}")


def _apply(trigger: Trigger, view: Any, fitted: Fitted, seed: int = 0) -> Any:
    return trigger.apply(view, fitted, np.random.default_rng(seed))


def _without(view: Any, lost: int) -> Any:
    """The view with a feature measured nowhere, or without the events of a code."""
    if isinstance(view, EventsView):
        return view.keep(view.code != lost)
    values = view.values.copy()
    values[..., lost] = np.nan
    return view.with_values(values)


def _is_whole(view: EventsView) -> None:
    """Raise `AssertionError` where a view of events is not as `EventsView` says."""
    events = view.offsets[-1] if len(view.offsets) else -1
    limits = len(view.offsets) == len(view) + 1 and view.offsets[0] == 0 and bool((np.diff(view.offsets) >= 0).all())
    expect(limits, "offsets should begin with 0, never fall and have one entry more than there are stays")
    for name, dtype in (("code", np.int32), ("hours", np.float32), ("value", np.float32), ("text", None)):
        column = getattr(view, name)
        expect(len(column) == events, f"{name} has {len(column)} entries, the last offset is {events}")
        expect(dtype is None or column.dtype == dtype, f"{name} becomes {column.dtype}; keep {np.dtype(dtype)}")
    expect(view.offsets.dtype == np.int64, f"offsets become {view.offsets.dtype}; keep int64")
    expect(len(view.codes) == len(view.descriptions), "there should be one description for each code")
    expect(bool(((view.code >= 0) & (view.code < len(view.codes))).all()), "code should be a position in codes")
    expect(bool(np.isfinite(view.hours).all()), "hours become NaN or infinite")
    expect(not np.isinf(view.value).any(), "value becomes infinite")
    ordered = _equal(view.in_order(), view)
    expect(ordered, "the events of a stay are not in order of time any more: use view.in_order()")


def _arrays(found: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    for field in fields(found):
        one, other = getattr(found, field.name), getattr(expected, field.name, None)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            yield field.name, one, other


def _same(one: Any, other: Any) -> bool:
    """Whether two arrays have the same type and entries; NaN equals NaN."""
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _equal(found: Any, expected: Any) -> bool:
    """Whether two views have the same fields; NaN equals NaN."""
    if type(found) is not type(expected):
        return False
    names = {name for name, _, _ in _arrays(found, expected)}
    plain = [field.name for field in fields(found) if field.name not in names]
    return all(_same(one, other) for _, one, other in _arrays(found, expected)) and all(
        _alike(getattr(found, name), getattr(expected, name)) for name in plain
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether two fields that are no arrays are equal: plain values, or columns by name."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)
