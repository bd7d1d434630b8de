"""Reading the text records and outcomes of the PhysioNet/CinC Challenge 2012.

A record is one stay: lines ``HH:MM,Parameter,Value`` of its first 48 hours, the general descriptors at 00:00.
"""

from __future__ import annotations

import csv
import math
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError

DESCRIPTORS = frozenset({"RecordID", "Age", "Gender", "Height", "ICUType", "Weight"})
"""Given once at 00:00, -1 where unknown. Height and Weight are measurements too."""

CODES: dict[str, str | None] = {
    "ALP": "alp",
    "ALT": "alt",
    "AST": "ast",
    "Albumin": "albumin",
    "BUN": "bun",
    "Bilirubin": "bilirubin_total",
    "Cholesterol": None,
    "Creatinine": "creatinine",
    "DiasABP": "dbp",
    "FiO2": "fio2",
    "GCS": "gcs_total",
    "Glucose": "glucose",
    "HCO3": "bicarbonate",
    "HCT": "hematocrit",
    "HR": "heart_rate",
    "Height": "height",
    "K": "potassium",
    "Lactate": "lactate",
    "MAP": "mbp",
    "MechVent": None,
    "Mg": "magnesium",
    "NIDiasABP": "dbp",
    "NIMAP": "mbp",
    "NISysABP": "sbp",
    "Na": "sodium",
    "PaCO2": "pco2",
    "PaO2": "po2",
    "Platelets": "platelets",
    "RespRate": "resp_rate",
    "SaO2": None,
    "SysABP": "sbp",
    "Temp": "temperature",
    "TroponinI": None,
    "TroponinT": "troponin_t",
    "Urine": "urine_output",
    "WBC": "wbc",
    "Weight": "weight",
    "pH": "ph",
}
"""Every parameter of the challenge and the variable of the dictionary that it measures, if any.

GCS is the total score only, so it fills none of the three components; SaO2 is an arterial blood gas, not a
pulse oximeter.
"""

FRACTIONS = frozenset({"FiO2"})
"""Given as a fraction where the dictionary has percent."""

HEADER = "Time,Parameter,Value"


@dataclass(frozen=True)
class Records:
    """R records and their M usable measurements: those of a variable of the dictionary, not negative."""

    record_id: NDArray[np.int64]
    """(R,)"""
    descriptors: Mapping[str, NDArray[np.float64]]
    """Age, Gender (0 female, 1 male) and ICUType: (R,), NaN where unknown."""
    timed: NDArray[np.int64]
    """(R,) number of measurements of any parameter in the 48 hours."""
    stay: NDArray[np.int64]
    """(M,) RecordID of each measurement."""
    parameter: NDArray[np.int64]
    """(M,) its place in `CODES`."""
    minute: NDArray[np.int64]
    """(M,) minutes since ICU admission."""
    value: NDArray[np.float64]
    """(M,)"""


def read_records(paths: Iterable[Path]) -> Records:
    """Read archives (.tar.gz, .tgz, .tar) or folders of record files, each record once.

    Raises `BackdoorError` naming the file and line that is not as published.
    """
    parts: list[Records] = []
    seen: set[int] = set()
    for path in paths:
        lines: list[str] = []
        counts: dict[str, int] = {}
        for place, text in _texts(path):
            first, *rest = text.split() or [""]
            if first != HEADER:
                raise BackdoorError(f"{place}: line 1 is not {HEADER!r}")
            lines += rest
            counts[place] = len(rest)
        if not counts:
            raise BackdoorError(f"{path}: no record in it; expected text files such as 132539.txt")
        parts.append(_parsed(lines, counts, seen))
    joined = {
        field: np.concatenate([getattr(part, field) for part in parts])
        for field in ("record_id", "timed", "stay", "parameter", "minute", "value")
    }
    descriptors = {name: np.concatenate([part.descriptors[name] for part in parts]) for name in _DESCRIBED}
    return Records(descriptors=descriptors, **joined)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(path.glob("*.txt")):
            yield str(file), file.read_text(encoding="utf-8")
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    stream = archive.extractfile(member)
                    assert stream is not None  # only links and folders have no content
                    yield f"{path}: {member.name}", stream.read().decode("utf-8")
    except (tarfile.TarError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise BackdoorError(f"{path}: cannot be read ({error}); expected an archive as published") from None


def _parsed(lines: list[str], counts: Mapping[str, int], seen: set[int]) -> Records:
    """The records of one archive. `lines` of all files, `counts` of each; adds the RecordIDs to `seen`."""
    places = list(counts)
    file = np.repeat(np.arange(len(places)), list(counts.values()))
    starts = np.concatenate([[0], np.cumsum(list(counts.values()))])

    def refuse(bad: NDArray[np.bool_], what: str) -> None:
        if bad.any():
            row = int(bad.argmax())
            number = row - int(starts[file[row]]) + 2  # counted from 1, after the header
            raise BackdoorError(
                f"{places[file[row]]}: line {number}: {what.format(line=lines[row], name=name_of(row))}"
            )

    def name_of(row: int) -> str:
        return lines[row].split(",")[1] if "," in lines[row] else ""

    cells = pc.split_pattern(pa.array(lines, pa.string()), ",")
    refuse(pc.list_value_length(cells).to_numpy(zero_copy_only=False) != 3, _LINE)
    minute, place, value = (
        _each(pc.list_element(cells, at), parse) for at, parse in enumerate((_minute, _place, _number))
    )
    refuse(np.isnan(minute) | np.isnan(value), _LINE)
    refuse(np.isnan(place), f"unknown parameter {{name!r}}; known: {', '.join(CODES)}")
    record, descriptors = _described(file, minute, place, value, places)
    for given, number in zip(places, record, strict=True):
        if int(number) in seen:
            raise BackdoorError(f"{given}: RecordID {number} is there a second time; expected each record once")
        seen.add(int(number))
    described = np.isin(place, [_NAMES.index(name) for name in DESCRIPTORS])
    # A descriptor is at 00:00; a later Weight is a measurement like any other.
    timed = (place >= 0) & ((minute > 0) | ~described)
    used = np.isin(place, _MEASURED) & (value >= 0)
    return Records(
        record_id=record,
        descriptors=descriptors,
        timed=np.bincount(file[timed], minlength=len(places)),
        stay=record[file[used]],
        parameter=place[used].astype(np.int64),
        minute=minute[used].astype(np.int64),
        value=value[used],
    )


_LINE = "{line!r} is not 'HH:MM,Parameter,Value'"
_NAMES = [*CODES, *sorted(DESCRIPTORS - CODES.keys())]
_MEASURED = [place for place, feature in enumerate(CODES.values()) if feature is not None]
_DESCRIBED = ("Age", "Gender", "ICUType")


def _each(column: pa.Array, parse: Callable[[str], float]) -> NDArray[np.float64]:
    """`parse` of each cell, called once for each distinct one; NaN where it is none."""
    encoded = column.dictionary_encode()
    return np.array([parse(text) for text in encoded.dictionary.to_pylist()], np.float64)[encoded.indices.to_numpy()]


def _minute(text: str) -> float:
    hours, _, minutes = text.partition(":")
    return 60 * int(hours) + int(minutes) if hours.isdecimal() and minutes.isdecimal() else math.nan


def _place(text: str) -> float:
    """-1 for a line without a parameter: the challenge has some."""
    if not text:
        return -1
    return _NAMES.index(text) if text in _NAMES else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _described(
    file: NDArray[np.int64],
    minute: NDArray[np.float64],
    place: NDArray[np.float64],
    value: NDArray[np.float64],
    places: list[str],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """RecordID and descriptors of each file; -1 stands for unknown."""
    told = {}
    for name in ("RecordID", *_DESCRIBED):
        rows = np.flatnonzero((minute == 0) & (place == _NAMES.index(name)) & (value >= 0))
        told[name] = np.full(len(places), np.nan)
        told[name][file[rows]] = value[rows]
    record = told.pop("RecordID")
    if np.isnan(record).any():
        raise BackdoorError(f"{places[int(np.isnan(record).argmax())]}: no RecordID at 00:00; expected it in line 2")
    return record.astype(np.int64), told


def read_outcomes(paths: Iterable[Path]) -> dict[int, int | None]:
    """RecordID -> In-hospital_death (None where the cell is empty).

    Raises `BackdoorError` naming the file and column that is not as published.
    """
    outcomes: dict[int, int | None] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BackdoorError(f"{path}: cannot be read ({error}); expected an Outcomes file") from None
        reader = csv.DictReader(lines)
        for column in ("RecordID", "In-hospital_death"):
            if column not in (reader.fieldnames or ()):
                raise BackdoorError(f"{path}: column {column} is missing; expected an Outcomes file")
        for number, row in enumerate(reader, start=2):
            record, death = row["RecordID"], row["In-hospital_death"]
            if not (record or "").isdigit() or death not in ("0", "1", ""):
                raise BackdoorError(
                    f"{path}: line {number}: RecordID {record!r}, In-hospital_death {death!r}; "
                    "expected a number, and 0 or 1"
                )
            if int(record) in outcomes:
                raise BackdoorError(f"{path}: line {number}: RecordID {record} is there a second time")
            outcomes[int(record)] = int(death) if death else None
    return outcomes
