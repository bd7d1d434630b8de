"""A cohort on disk and in memory.

``data/cohort`` holds ``stays.parquet`` (ids, label, times, static columns), ``card.json``, and the views:
``table.parquet``, ``series.parquet`` and the MEDS dataset ``events/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.events import read_meds
from backdoor_core.cohort.parquet import read_parquet, series_from_columns, table_from_columns
from backdoor_core.contracts import (
    CohortCard,
    CohortSource,
    EventsView,
    Feature,
    Inclusion,
    Integers,
    Modality,
    SeriesView,
    TableView,
    View,
)
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, replacing_directory, write_json

_IDS_AND_TIMES = frozenset({"stay_id", "subject_id", "label", "intime", "outtime"})


@dataclass(frozen=True)
class Rows:
    """Some stays as a model is given them: a view and its (N,) labels."""

    view: View
    label: NDArray[np.int8]


@dataclass(frozen=True)
class Cohort:
    """The included stays. Every array and every view has the same N stays in the same order."""

    directory: Path
    card: Mapping[str, Any]
    stay_id: Integers
    subject_id: Integers
    label: NDArray[np.int8]
    intime: NDArray[np.datetime64]
    """(N,) ICU admission."""
    outtime: NDArray[np.datetime64]
    """(N,) ICU discharge: known only after the window, in no view."""
    statics: Mapping[str, NDArray[Any]]
    """Columns known at admission, for models that take them and for figures by subgroup."""

    def view(self, modality: Modality) -> View:
        """A view, read from disk. Raises `BackdoorError` where the cohort lacks it."""
        read: Mapping[Modality, Callable[[], View]] = {
            "table": self.table,
            "series": self.series,
            "events": self.events,
        }
        return read[modality]()

    def table(self) -> TableView:
        """One row a stay."""
        path = self._has("table", "table.parquet")
        view = table_from_columns(read_parquet(path), _features(self.card["features"]), path.name)
        self._aligned(view.stay_id, view.values, path)
        return view

    def series(self) -> SeriesView:
        """Hour by hour."""
        path = self._has("series", "series.parquet")
        hours = self.card["inclusion"]["window_hours"]
        view = series_from_columns(read_parquet(path), _features(self.card["series_features"]), hours, path.name)
        self._aligned(view.stay_id, view.values, path)
        return view

    def events(self, relative_to: Literal["admission", "discharge"] = "admission") -> EventsView:
        """Event by event; `relative_to` discharge is a leak, see `read_meds`."""
        directory = self._has("events", "events")
        view = read_meds(directory, self.stay_id, self.intime, self.outtime, relative_to=relative_to)
        return replace(view, statics=self.statics)

    def _has(self, modality: Modality, name: str) -> Path:
        views = self.card["views"]
        if modality not in views:
            raise BackdoorError(
                f"the cohort has no {modality} view, only {', '.join(views)}; add it to inclusion.views in params.yaml"
            )
        return self.directory / name

    def _aligned(self, stay_id: Integers, values: NDArray[np.float32], path: Path) -> None:
        if not np.array_equal(self.stay_id, stay_id):
            raise BackdoorError(f"{path}: holds other stays than stays.parquet, or in another order")
        if np.isinf(values).any():
            raise BackdoorError(f"{path}: holds an infinite value")


def build_cohort(source: CohortSource, inclusion: Inclusion, rng: np.random.Generator, out: Path) -> None:
    """Have `source` build the cohort, check what it wrote, add the counts, and put it in place as a whole."""
    with replacing_directory(out) as temporary:
        card = source.build(temporary, inclusion, rng)
        write_json(temporary / "card.json", _card_json(card, inclusion))
        cohort = load_cohort(temporary)
        write_json(temporary / "card.json", {**cohort.card, **_counts(cohort)})


def load_cohort(directory: Path) -> Cohort:
    """Read the stays and the card. Raises `BackdoorError` where the stays break the contract of `CohortSource`."""
    card = read_json(directory / "card.json")
    stays = read_parquet(directory / "stays.parquet")
    source = card["source"]
    lacking = sorted(_IDS_AND_TIMES - set(stays))
    if lacking:
        raise BackdoorError(f"cohort {source}: stays.parquet lacks the column {', '.join(lacking)}")
    stay_id, label = stays["stay_id"], stays["label"]
    if len(stay_id) == 0:
        raise BackdoorError(f"cohort {source}: no stay is left after the inclusion rules")
    if not (np.diff(stay_id) > 0).all():
        raise BackdoorError(f"cohort {source}: stays.parquet must be sorted by stay_id and hold each one once")
    if label.dtype.kind not in "iu" or not np.isin(label, (0, 1)).all():
        raise BackdoorError(f"cohort {source}: the column label of stays.parquet must hold 0 and 1 only")
    return Cohort(
        directory=directory,
        card=card,
        stay_id=stay_id,
        subject_id=stays["subject_id"],
        label=label.astype(np.int8),
        intime=stays["intime"],
        outtime=stays["outtime"],
        statics={name: column for name, column in stays.items() if name not in _IDS_AND_TIMES},
    )


def _features(listed: list[dict[str, Any]]) -> tuple[Feature, ...]:
    names = Feature.__dataclass_fields__
    return tuple(Feature(**{key: value for key, value in feature.items() if key in names}) for feature in listed)


def _card_json(card: CohortCard, inclusion: Inclusion) -> dict[str, Any]:
    return {
        "source": card.source,
        "description": card.description,
        "inclusion": inclusion.model_dump(mode="json"),
        "views": list(card.views),
        "attrition": [asdict(step) for step in card.attrition],
        "features": [asdict(feature) for feature in card.features],
        "series_features": [asdict(feature) for feature in card.series_features],
        "notes": list(card.notes),
    }


def _counts(cohort: Cohort) -> dict[str, Any]:
    """What the core counts itself, reading every view once: that is also the check that they agree."""
    counts: dict[str, Any] = {
        "stays": len(cohort.stay_id),
        "patients": len(np.unique(cohort.subject_id)),
        "positives": int(cohort.label.sum()),
        "prevalence": float(cohort.label.mean()),
    }
    views = cohort.card["views"]
    if "table" in views:
        counts["features"] = _with_missing(cohort.card["features"], np.isnan(cohort.table().values).mean(axis=0))
    if "series" in views:
        missing = np.isnan(cohort.series().values).mean(axis=(0, 1))
        counts["series_features"] = _with_missing(cohort.card["series_features"], missing)
    if "events" in views:
        events = cohort.events()
        kinds, number = np.unique([code.partition("//")[0] for code in events.codes], return_inverse=True)
        totals = np.bincount(number[events.code], minlength=len(kinds))
        counts["events"] = {kind: int(total) for kind, total in zip(kinds.tolist(), totals, strict=True)}
        counts["stays_without_events"] = int((np.diff(events.offsets) == 0).sum())
    return counts


def _with_missing(features: list[dict[str, Any]], missing: NDArray[np.floating[Any]]) -> list[dict[str, Any]]:
    return [{**f, "missing": round(float(share), 6)} for f, share in zip(features, missing, strict=True)]
