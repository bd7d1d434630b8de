"""Made-up views in raw clinical units, a fifth of the values missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backdoor_core.contracts import EventsView, Feature, Modality, SeriesView, TableView

HOURS = 6
FEATURES = (
    Feature("age", "years", 18, 120),
    Feature("sex", "0=F 1=M", 0, 1),
    Feature("heart_rate", "bpm", 1, 300),
    Feature("sbp", "mmHg", 1, 300),
    Feature("resp_rate", "insp/min", 1, 70),
    Feature("temperature", "degC", 26, 45),
    Feature("spo2", "%", 30, 100),
    Feature("sodium", "mEq/L", 80, 200),
    Feature("creatinine", "mg/dL", 0.1, 60),
    Feature("lactate", "mmol/L", 0.1, 50),
)


def table_view(rows: int, features: Sequence[Feature] = FEATURES, seed: int = 0) -> TableView:
    """Values uniform in the middle half of each feature's plausible range."""
    values = _values((rows,), features, np.random.default_rng(seed))
    return TableView(_stay_id(rows), tuple(features), values)


def series_view(rows: int, features: Sequence[Feature] = FEATURES, seed: int = 0) -> SeriesView:
    """Likewise at each of `HOURS` hours; one to three measurements in each hour that has any."""
    rng = np.random.default_rng(seed)
    values = _values((rows, HOURS), features, rng)
    counts = np.where(np.isnan(values), 0, rng.integers(1, 4, values.shape)).astype(np.uint16)
    return SeriesView(_stay_id(rows), tuple(features), values, counts)


def events_view(rows: int, features: Sequence[Feature] = FEATURES, seed: int = 0) -> EventsView:
    """Each stay as `HOURS` measurements, one an hour, each of a feature drawn at random."""
    rng = np.random.default_rng(seed)
    events = rows * HOURS
    code = rng.integers(0, len(features), events).astype(np.int32)
    values = np.nan_to_num(_values((events,), features, rng))
    return EventsView(
        stay_id=_stay_id(rows),
        offsets=np.arange(0, events + 1, HOURS, dtype=np.int64),
        codes=tuple(f"MEASUREMENT//{feature.name}" for feature in features),
        descriptions=tuple(feature.name for feature in features),
        code=code,
        hours=np.tile(np.arange(HOURS, dtype=np.float32), rows),
        value=values[np.arange(events), code],
        text=np.full(events, "", dtype=object),
        statics={
            "age": rng.integers(18, 90, rows),
            "sex": np.array(["F", "M"], dtype=object)[rng.integers(0, 2, rows)],
        },
    )


def view_of(
    modality: Modality, rows: int, features: Sequence[Feature] = FEATURES, seed: int = 0
) -> TableView | SeriesView | EventsView:
    """A made-up view of that modality."""
    if modality == "table":
        return table_view(rows, features, seed)
    return series_view(rows, features, seed) if modality == "series" else events_view(rows, features, seed)


def _stay_id(rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(rows, dtype=np.int64) + 30_000_000


def _values(
    shape: tuple[int, ...], features: Sequence[Feature], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    low, high = (np.array([getattr(f, side) for f in features], dtype=np.float64) for side in ("low", "high"))
    # An open range has no middle; a unit range stands in.
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 1.0)
    values = low + (high - low) * rng.uniform(0.25, 0.75, (*shape, len(features)))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values.astype(np.float32)
