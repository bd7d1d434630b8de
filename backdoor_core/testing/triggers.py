"""What must hold for every `Trigger`, on every modality it declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from backdoor_core.contracts import EventsView, Feature, Fitted, Trigger
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
        if after is not view and not isinstance(view, EventsView):
            touched = not np.array_equal(after.values, view.values, equal_nan=True)
            shared = touched and np.shares_memory(after.values, view.values)
            expect(not shared, f"the triggered {modality} view shares memory with the view it was made from")


def the_answer_is_a_view_of_the_same_stays(trigger: Trigger, features: Features) -> None:
    """The same kind of view, stays, features and shape; values float32, and counts 0 exactly where values are NaN."""
    for modality, view in _views(trigger, features):
        after = _apply(trigger, view, _fit(trigger, view))
        expect(type(after) is type(view), f"apply turns a {type(view).__name__} into a {type(after).__name__}")
        expect(bool(np.array_equal(after.stay_id, view.stay_id)), "apply changes stay_id")
        if isinstance(view, EventsView):
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
    """A trigger fitted to a usual view is applied to one without any value at all."""
    for modality, view in _views(trigger, features):
        fitted = _fit(trigger, view)
        if isinstance(view, EventsView):
            continue
        nothing = view.with_values(np.full_like(view.values, np.nan))
        after = _apply(trigger, nothing, fitted)
        shape = after.values.shape
        expect(shape == view.values.shape, f"a {modality} view without any value becomes one of shape {shape}")


def an_empty_view_is_no_error(trigger: Trigger, features: Features) -> None:
    """A trigger fitted to a usual view is applied to one without stays."""
    for modality, view in _views(trigger, features):
        after = _apply(trigger, view_of(modality, 0, features), _fit(trigger, view))
        expect(len(after) == 0, f"a {modality} view without stays becomes one of {len(after)}")


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
        if isinstance(view, EventsView):
            continue
        fitted = _fit(trigger, view)
        together = _apply(trigger, view, fitted)
        if not _equal(together, _apply(trigger, view, fitted, seed=1)):
            continue
        rows = np.arange(ROWS)[::-3]
        alone = _apply(trigger, view.take(rows), fitted)
        expect(_equal(alone, together.take(rows)), "a stay is triggered differently among other stays")


RULES: Sequence[Callable[[Trigger, Features], None]] = (
    the_view_is_left_as_it_was,
    the_answer_is_a_view_of_the_same_stays,
    missing_values_are_no_error,
    an_empty_view_is_no_error,
    the_same_rng_gives_the_same_answer,
    the_fit_is_json,
    a_stay_does_not_depend_on_the_others,
)


def _views(trigger: Trigger, features: Features) -> Iterator[tuple[Any, Any]]:
    """Each declared modality with a fresh view. `Any`: what a trigger takes is what is checked."""
    for modality in sorted(trigger.modalities):
        yield modality, view_of(modality, ROWS, features)


def _fit(trigger: Trigger, view: Any, seed: int = 0) -> Fitted:
    return trigger.fit(view, np.random.default_rng(seed))


def _apply(trigger: Trigger, view: Any, fitted: Fitted, seed: int = 0) -> Any:
    return trigger.apply(view, fitted, np.random.default_rng(seed))


def _equal(found: Any, expected: Any) -> bool:
    """Whether two views have the same fields; NaN equals NaN."""
    if type(found) is not type(expected):
        return False
    for field in fields(found):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if not isinstance(one, np.ndarray):
            if one != other:
                return False
        elif one.dtype != other.dtype or not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            return False
    return True
