"""Reading the text records and outcomes of the PhysioNet/CinC Challenge 2012.

A record is one stay: lines ``HH:MM,Parameter,Value`` of its first 48 hours, the general descriptors at 00:00.
"""

from __future__ import annotations

import csv
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from backdoor_core.errors import BackdoorError

DESCRIPTORS = frozenset({"RecordID", "Age", "Gender", "Height", "ICUType", "Weight"})
"""Given once at 00:00, -1 where unknown. Weight is a measurement too."""

CODES: dict[str, str | None] = {
    "ALP": None,
    "ALT": None,
    "AST": None,
    "Albumin": None,
    "BUN": "bun",
    "Bilirubin": "bilirubin_total",
    "Cholesterol": None,
    "Creatinine": "creatinine",
    "DiasABP": "dbp",
    "FiO2": None,
    "GCS": None,
    "Glucose": "glucose",
    "HCO3": "bicarbonate",
    "HCT": None,
    "HR": "heart_rate",
    "K": "potassium",
    "Lactate": "lactate",
    "MAP": "mbp",
    "MechVent": None,
    "Mg": None,
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
    "TroponinT": None,
    "Urine": "urine_output",
    "WBC": "wbc",
    "Weight": "weight",
    "pH": "ph",
}
"""Every parameter of the challenge and the core30 feature that it measures, if any.

GCS is the total score only, so it fills none of the three components; SaO2 is an arterial blood gas, not a
pulse oximeter.
"""

MEASURED = frozenset(name for name, feature in CODES.items() if feature is not None)


@dataclass
class Records:
    """All records, measurements in parallel columns."""

    descriptors: dict[int, dict[str, float]] = field(default_factory=dict)
    """RecordID -> Age, Gender, Height, ICUType, Weight, where known."""
    timed: dict[int, int] = field(default_factory=dict)
    """RecordID -> number of measurements of any parameter in the 48 hours."""
    record_id: list[int] = field(default_factory=list)
    parameter: list[str] = field(default_factory=list)
    minute: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)


def read_records(paths: Iterable[Path]) -> Records:
    """Read archives (.tar.gz, .tgz, .tar) or folders of record files, each record once.

    Raises `BackdoorError` naming the file and line that is not as published.
    """
    records = Records()
    for path in paths:
        before = len(records.descriptors)
        for place, text in _texts(path):
            _add(records, place, text)
        if len(records.descriptors) == before:
            raise BackdoorError(f"{path}: no record in it; expected text files such as 132539.txt")
    return records


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


def _add(records: Records, place: str, text: str) -> None:
    lines = text.split()
    if not lines or lines[0] != "Time,Parameter,Value":
        raise BackdoorError(f"{place}: line 1 is not 'Time,Parameter,Value'")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            time, name, value = line.split(",")
            rows.append((_minute(time), name, float(value) if name else 0.0))
        except ValueError:
            raise BackdoorError(f"{place}: line {number}: {line!r} is not 'HH:MM,Parameter,Value'") from None
        if name and name not in CODES and name not in DESCRIPTORS:
            raise BackdoorError(f"{place}: line {number}: unknown parameter {name!r}; known: {', '.join(CODES)}")
    # A descriptor is at 00:00; a later Weight is a measurement like any other.
    descriptors = {name: value for minute, name, value in rows if minute == 0 and name in DESCRIPTORS and value >= 0}
    if "RecordID" not in descriptors:
        raise BackdoorError(f"{place}: no RecordID at 00:00; expected it in line 2")
    record = int(descriptors.pop("RecordID"))
    if record in records.descriptors:
        raise BackdoorError(f"{place}: RecordID {record} is there a second time; expected each record once")
    records.descriptors[record] = descriptors
    records.timed[record] = sum(1 for minute, name, _ in rows if name and (minute > 0 or name not in DESCRIPTORS))
    usable = [row for row in rows if row[1] in MEASURED and row[2] >= 0]
    records.record_id.extend([record] * len(usable))
    records.minute.extend([row[0] for row in usable])
    records.parameter.extend([row[1] for row in usable])
    records.value.extend([row[2] for row in usable])


@cache
def _minute(time: str) -> int:
    hours, minutes = time.split(":")
    return 60 * int(hours) + int(minutes)


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
