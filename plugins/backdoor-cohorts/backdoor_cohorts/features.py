"""The feature dictionary: which charted items make a variable, in which unit, and within which range.

`features.csv` holds 46 variables; 30 of them are `core30`. Item ids follow mimic-code
(Johnson et al. 2018, https://github.com/MIT-LCP/mimic-code), cross-checked with ricu, MIMIC-Extract and
mimic3-benchmarks. Left out on purpose, though some of those take them: alarm limits (220046, 220047 and
226253 "SpO2 Desat Limit"), the ventilator's set rate (224688), skin temperature (224027) and tube-feeding
residual (227510), which is not urine.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Literal, cast

from backdoor_core.contracts import Feature

Table = Literal["chartevents", "labevents", "outputevents"]
Conversion = Literal["as_is", "fahrenheit", "pound", "inch", "percent", "gcs_verbal", "irrigant"]
Aggregate = Literal["value", "mean", "min", "max", "sum", "first"]
Statistic = Literal["value", "mean", "min", "max", "sum", "first", "last", "count"]
FeatureSet = Literal["core30", "rich"]
EVENT_TABLES: tuple[Table, ...] = ("chartevents", "labevents", "outputevents")
RICH: tuple[Statistic, ...] = ("mean", "min", "max", "last", "count")
MOST_COUNTED = 1_000_000
"""More measurements of one variable than any window can hold."""

_PHRASE: dict[Statistic, str] = {
    "value": "",
    "mean": ", mean over the window",
    "min": ", lowest in the window",
    "max": ", highest in the window",
    "sum": ", sum over the window",
    "first": ", first in the window",
    "last": ", last in the window",
    "count": ", number of measurements in the window",
}


@dataclass(frozen=True)
class Entry:
    """One row of `features.csv`."""

    feature: str
    label: str
    group: str
    table: str
    itemids: tuple[int, ...]
    unit: str
    low: float
    """Plausible range of the value in the table view."""
    high: float
    record_low: float
    """Plausible range of one measurement in `unit`; differs from the above only for sums."""
    record_high: float
    aggregate: Aggregate
    core30: bool
    conversions: dict[int, Conversion]
    preferred: frozenset[int]
    """Items that go before the others where the first value is taken."""

    def feature_of(self) -> Feature:
        """The contract's description of this variable."""
        return Feature(self.feature, self.unit, self.low, self.high, self.label + _PHRASE[self.aggregate])


@dataclass(frozen=True)
class Column:
    """One column of the table view: a statistic of a variable."""

    feature: Feature
    variable: str
    statistic: Statistic


@dataclass(frozen=True)
class Item:
    """How one charted item becomes a measurement of a feature."""

    source: str
    """Table that charts the item."""
    itemid: int
    feature: str
    conversion: Conversion
    preference: int
    """0 goes before 1 where the first value is taken."""
    low: float
    """Plausible range of one measurement, after conversion."""
    high: float


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(";") if part)


def _entry(row: dict[str, str]) -> Entry:
    pairs = (part.split(":") for part in row["conversions"].split(";") if part)
    return Entry(
        feature=row["feature"],
        label=row["label"],
        group=row["group"],
        table=row["table"],
        itemids=_numbers(row["itemids"]),
        unit=row["unit"],
        low=float(row["valid_low"]),
        high=float(row["valid_high"]),
        record_low=float(row["record_low"]),
        record_high=float(row["record_high"]),
        aggregate=cast(Aggregate, row["agg_24h"]),
        core30=row["core30"] == "1",
        conversions={int(item): cast(Conversion, kind) for item, kind in pairs},
        preferred=frozenset(_numbers(row["preferred"])),
    )


def read_dictionary() -> tuple[Entry, ...]:
    """All rows of `features.csv`, in file order."""
    text = files("backdoor_cohorts").joinpath("features.csv").read_text(encoding="utf-8")
    return tuple(_entry(row) for row in csv.DictReader(text.splitlines()))


DICTIONARY: tuple[Entry, ...] = read_dictionary()
CORE30: tuple[Feature, ...] = tuple(entry.feature_of() for entry in DICTIONARY if entry.core30)
"""The features of the table view for a window of 24 hours, in column order."""


SUMMED = frozenset(entry.feature for entry in DICTIONARY if entry.aggregate == "sum")
"""Variables whose measurements add up to a net amount."""


def variables(features: FeatureSet, window_hours: int) -> tuple[Feature, ...]:
    """The variables of a feature set, each as its core30 statistic would describe it, in dictionary order.

    The highest plausible sum grows with the hours of the window beyond 24.
    """
    factor = max(1.0, window_hours / 24)
    chosen = (entry.feature_of() for entry in DICTIONARY if entry.core30 or features == "rich")
    return tuple(replace(f, high=f.high * factor) if f.name in SUMMED else f for f in chosen)


def core30(window_hours: int) -> tuple[Feature, ...]:
    """`CORE30` for another window."""
    return variables("core30", window_hours)


def table_columns(features: FeatureSet, window_hours: int) -> tuple[Column, ...]:
    """The columns of the table view, in order.

    `core30`: one for each variable, named like it. `rich`: ``<variable>.<statistic>`` for each of `RICH` (and the
    sum of what is summed), age and sex as they are. Ranges are those of the variable; a count starts at 0.
    """
    entries = {entry.feature: entry for entry in DICTIONARY}
    columns = []
    for variable in variables(features, window_hours):
        entry = entries[variable.name]
        if features == "core30" or entry.aggregate == "value":
            columns.append(Column(variable, variable.name, entry.aggregate))
            continue
        statistics = (*RICH, "sum") if entry.aggregate == "sum" else RICH
        columns.extend(_rich_column(entry, variable, statistic) for statistic in statistics)
    return tuple(columns)


def _rich_column(entry: Entry, variable: Feature, statistic: Statistic) -> Column:
    counted = statistic == "count"
    feature = Feature(
        name=f"{entry.feature}.{statistic}",
        unit="measurements" if counted else entry.unit,
        low=0.0 if counted else variable.low,
        high=float(MOST_COUNTED) if counted else variable.high,
        description=entry.label + _PHRASE[statistic],
    )
    return Column(feature, entry.feature, statistic)


def series_features(features: FeatureSet) -> tuple[Feature, ...]:
    """The features of the series view: the mean of an hour, or its sum for what is summed."""
    entries = {entry.feature: entry for entry in DICTIONARY}
    phrases = {"value": "", "sum": ", sum of the hour"}
    return tuple(
        replace(f, description=entries[f.name].label + phrases.get(entries[f.name].aggregate, ", mean of the hour"))
        for f in variables(features, 24)
    )


def item_map(features: Iterable[str] | None = None) -> tuple[Item, ...]:
    """The MIMIC-IV items of the named features (core30 unless told), in dictionary order.

    Raises `KeyError` for a name that is not in the dictionary.
    """
    entries = {entry.feature: entry for entry in DICTIONARY}
    names = [entry.feature for entry in DICTIONARY if entry.core30] if features is None else list(features)
    return tuple(
        Item(
            source=entry.table,
            itemid=itemid,
            feature=entry.feature,
            conversion=entry.conversions.get(itemid, "as_is"),
            preference=0 if itemid in entry.preferred or not entry.preferred else 1,
            low=entry.record_low,
            high=entry.record_high,
        )
        for entry in (entries[name] for name in names)
        for itemid in entry.itemids
    )
