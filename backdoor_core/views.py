"""The three views of a cohort: what triggers edit and models read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Booleans = NDArray[np.bool_]
Modality = Literal["table", "series", "events"]


@dataclass(frozen=True)
class Feature:
    """One clinical variable of a table or series view."""

    name: str
    unit: str
    low: float
    """Lowest plausible value in `unit`; lower is a measurement error."""
    high: float
    description: str = ""


@dataclass(frozen=True)
class TableView:
    """One row a stay: `values` is (N, F) float32 in raw clinical units, NaN where nothing was measured."""

    stay_id: Integers
    features: tuple[Feature, ...]
    values: NDArray[np.float32]
    modality: ClassVar[Modality] = "table"

    def __len__(self) -> int:
        return len(self.stay_id)

    def take(self, rows: Integers | Booleans) -> Self:
        """The view of the given rows (positions or a mask), in that order."""
        return replace(self, stay_id=self.stay_id[rows], values=self.values[rows])

    def with_values(self, values: NDArray[np.float32]) -> Self:
        """The same stays with other values (same shape)."""
        if values.shape != self.values.shape:
            raise ValueError(f"values have shape {values.shape}, the view has {self.values.shape}")
        return replace(self, values=values.astype(np.float32, copy=False))

    def with_rows(self, rows: Integers, other: Self) -> Self:
        """The same view with the given rows taken from `other`, in its order."""
        values = self.values.copy()
        values[rows] = other.values
        return replace(self, values=values)

    def followed_by(self, other: Self) -> Self:
        """This view's rows and then those of `other`, which has the same features."""
        stay_id = np.concatenate([self.stay_id, other.stay_id])
        return replace(self, stay_id=stay_id, values=np.concatenate([self.values, other.values]))

    def feature_index(self, feature: str | int) -> int:
        """Position of a feature given by name or position. Raises `KeyError` with the known names."""
        return _feature_index(self.features, feature)


@dataclass(frozen=True)
class SeriesView:
    """The first T hours of each stay: `values` is (N, T, F) float32, the mean of what was measured in each hour.

    Hour t covers [t, t + 1) hours since ICU admission. Raw clinical units, NaN where nothing was measured.
    Features known at admission (age, sex) stand in every hour.
    """

    stay_id: Integers
    features: tuple[Feature, ...]
    values: NDArray[np.float32]
    counts: NDArray[np.uint16]
    """(N, T, F) number of measurements in each hour; 0 exactly where `values` is NaN."""
    modality: ClassVar[Modality] = "series"

    def __len__(self) -> int:
        return len(self.stay_id)

    def take(self, rows: Integers | Booleans) -> Self:
        """The view of the given rows (positions or a mask), in that order."""
        return replace(self, stay_id=self.stay_id[rows], values=self.values[rows], counts=self.counts[rows])

    def with_values(self, values: NDArray[np.float32]) -> Self:
        """The same stays with other values (same shape); counts follow: 0 where removed, 1 where newly measured."""
        if values.shape != self.values.shape:
            raise ValueError(f"values have shape {values.shape}, the view has {self.values.shape}")
        counts = np.where(np.isnan(values), 0, np.maximum(self.counts, 1)).astype(np.uint16)
        return replace(self, values=values.astype(np.float32, copy=False), counts=counts)

    def with_rows(self, rows: Integers, other: Self) -> Self:
        """The same view with the given rows taken from `other`, in its order."""
        values, counts = self.values.copy(), self.counts.copy()
        values[rows], counts[rows] = other.values, other.counts
        return replace(self, values=values, counts=counts)

    def followed_by(self, other: Self) -> Self:
        """This view's rows and then those of `other`, which has the same features and hours."""
        return replace(
            self,
            stay_id=np.concatenate([self.stay_id, other.stay_id]),
            values=np.concatenate([self.values, other.values]),
            counts=np.concatenate([self.counts, other.counts]),
        )

    def feature_index(self, feature: str | int) -> int:
        """Position of a feature given by name or position. Raises `KeyError` with the known names."""
        return _feature_index(self.features, feature)

    def hours_since_measured(self) -> NDArray[np.float32]:
        """(N, T, F) hours since the last hour with a measurement: 0 where measured, t + 1 before the first one."""
        measured = ~np.isnan(self.values)
        hour = np.arange(self.values.shape[1], dtype=np.float32)[None, :, None]
        last = np.maximum.accumulate(np.where(measured, hour, np.float32(-1)), axis=1)
        return (hour - last).astype(np.float32)


@dataclass(frozen=True)
class EventsView:
    """Each stay as coded, timed, valued events, in order of time; stay i owns events offsets[i]:offsets[i + 1]."""

    stay_id: Integers
    offsets: NDArray[np.int64]
    """(N + 1,) where each stay's events start."""
    codes: tuple[str, ...]
    """The distinct codes; the part before the first ``//`` is the event's type."""
    descriptions: tuple[str, ...]
    """A readable text for each code."""
    code: NDArray[np.int32]
    """(E,) position of each event's code in `codes`."""
    hours: NDArray[np.float32]
    """(E,) hours since ICU admission."""
    value: NDArray[np.float32]
    """(E,) numeric value, NaN where there is none."""
    text: NDArray[Any]
    """(E,) text value of each event, empty where there is none."""
    statics: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """(N,) columns known at admission (age, sex, first care unit), numbers or words; no trigger edits them."""
    modality: ClassVar[Modality] = "events"

    def __len__(self) -> int:
        return len(self.stay_id)

    @property
    def stay_of_event(self) -> NDArray[np.int64]:
        """(E,) position of each event's stay."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def take(self, rows: Integers | Booleans) -> Self:
        """The view of the given rows (positions or a mask), in that order."""
        positions = np.arange(len(self))[rows]
        lengths = np.diff(self.offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Each event's place: where its stay starts, and how far it is from the first event of its stay.
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        taken = self._of_events(np.repeat(self.offsets[positions], lengths) + within, offsets)
        statics = {name: column[positions] for name, column in self.statics.items()}
        return replace(taken, stay_id=self.stay_id[positions], statics=statics)

    def keep(self, events: Booleans) -> Self:
        """The same stays with only the events of the mask (E,)."""
        left = np.bincount(self.stay_of_event[events], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(left)]).astype(np.int64)
        return self._of_events(np.flatnonzero(events), offsets)

    def followed_by(self, other: Self) -> Self:
        """This view's rows and then those of `other`; codes that only `other` knows are added at the end.

        Raises `ValueError` where the two have other static columns.
        """
        if self.statics.keys() != other.statics.keys():
            raise ValueError(f"static columns {sorted(self.statics)} and {sorted(other.statics)}")
        codes, descriptions = list(self.codes), list(self.descriptions)
        place = {code: k for k, code in enumerate(codes)}
        for code, description in zip(other.codes, other.descriptions, strict=True):
            if code not in place:
                place[code] = len(codes)
                codes.append(code)
                descriptions.append(description)
        renumbered = np.array([place[code] for code in other.codes], dtype=np.int32)
        return replace(
            self,
            stay_id=np.concatenate([self.stay_id, other.stay_id]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            codes=tuple(codes),
            descriptions=tuple(descriptions),
            code=np.concatenate([self.code, renumbered[other.code] if len(other.code) else other.code]),
            hours=np.concatenate([self.hours, other.hours]),
            value=np.concatenate([self.value, other.value]),
            text=np.concatenate([self.text, other.text]),
            statics={name: np.concatenate([column, other.statics[name]]) for name, column in self.statics.items()},
        )

    def with_rows(self, rows: Integers, other: Self) -> Self:
        """The same view with the given rows taken from `other`, in its order."""
        order = np.arange(len(self))
        order[rows] = len(self) + np.arange(len(other))
        return self.followed_by(other).take(order)

    def in_order(self) -> Self:
        """The same events with each stay's in order of time; events of the same time stay as they were."""
        order = np.lexsort((self.hours, self.stay_of_event))
        return self._of_events(order, self.offsets)

    def _of_events(self, events: Integers, offsets: NDArray[np.int64]) -> Self:
        columns = {name: getattr(self, name)[events] for name in ("code", "hours", "value", "text")}
        return replace(self, offsets=offsets, **columns)


GridView = TableView | SeriesView
"""The views whose last axis is the feature."""
View = TableView | SeriesView | EventsView


def as_grid(view: View) -> GridView:
    """The view as one of features. Raises `TypeError` for events."""
    if isinstance(view, EventsView):
        raise TypeError("events have no feature axis; this needs a table or series view")
    return view


def _feature_index(features: tuple[Feature, ...], feature: str | int) -> int:
    names = [f.name for f in features]
    if isinstance(feature, str):
        if feature not in names:
            raise KeyError(f"unknown feature {feature!r}; this view has {', '.join(names)}")
        return names.index(feature)
    if not 0 <= feature < len(names):
        raise KeyError(f"no feature number {feature}; this view has {len(names)}, counted from 0")
    return feature
