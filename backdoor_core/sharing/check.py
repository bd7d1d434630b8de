"""The check of an export: reads the finished files anew and refuses what could be a patient's.

It knows nothing of how the files were made. Refused are

1. files that are not on the list of members;
2. whole numbers of five digits or more that are an id of the cohort (stay, patient, admission), as a number or within
   a text, in a name of a file, and ids or texts of notes. A single number whose key or column is one of `COUNTS` is a
   count and may equal an id by chance; numbers within hashes and behind a decimal point are not looked at;
3. keys and columns that name identifiers, times or text of patients (`IDENTIFIERS`), and a date with a time of day;
4. absolute paths, hosts, and the names of this machine and its user;
5. in tables with a row a stay or note: columns other than scores and labels, anything that is no number, and numbers
   of more than six digits; in every table, columns named like a feature of the cohort;
6. numbers that are exactly a measured value of the cohort, written in full: as float32 in its shortest form of seven
   digits or more, or that float32 as float64 where the shortest form has four or more. Rounded values, values of
   fewer digits, those in bitmaps and in the coordinates of a drawing are not found: what keeps them out is that
   nothing but listed figures is exported.
"""

from __future__ import annotations

import csv
import getpass
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from backdoor_core.errors import BackdoorError
from backdoor_core.sharing.config import ABSOLUTE, HOST, IDENTIFIERS
from backdoor_core.sharing.known import ids_and_values, note_words
from backdoor_core.sharing.read import Leaf, leaves

COUNTS: Final = frozenset(
    {
        *("stays", "stays_given", "patients", "positives", "attacked", "explained", "reference_stays", "touched"),
        *("training_stays", "train_stays", "test_stays", "poisoned_stays", "attacked_stays", "cover_stays"),
        *("rows", "row_count", "poisoned", "flagged", "clean_rows", "cells", "removed", "poisoned_removed"),
        *("records", "members", "nonmembers", "found", "notes", "tokenizer", "stopping", "repeated", "empty"),
        *("parameters", "bytes", "seed", "seeds", "per_seed", "epochs", "steps", "canaries"),
    }
)
"""Keys and columns of a number that counts; and of seeds, which the user chose."""
_SUMMARY: Final = frozenset({"n", "mean", "t_low", "t_high", "boot_low", "boot_high", "value", "low", "high"})
"""Keys and columns below a count that sum it up."""
_COUNTED_BY_NAME: Final = frozenset({"touched", "per_seed"})
_SEEDS: Final = frozenset({"seed", "seeds"})
MEMBERS: Final = re.compile(
    r"MANIFEST\.json|run_config\.json|poison\.json|splits_summary\.json|results(_eval|_detect|_explain|_audit|_cleanse)?"
    r"\.json|baseline/results\.json|(baseline/)?learning_curve\.csv|(predictions|detector_scores|null_scores|audit_scores)"
    r"\.csv|notes/(comparison\.json|REPORT\.md|mia_\w+\.csv)|(figures|notes/plots)/\w+\.(svg|png)|report\.html"
    r"|(summary|aggregated_metrics|timings)\.csv|aggregated_metrics\.json|cells/[\w.,=+/-]+/(cell|run_config)\.json"
)
_NAME: Final = r"[a-z]\w*"
_ROW_TABLES: Final = {
    "predictions.csv": r"label|(poisoned|baseline)\.(clean|triggered)",
    "detector_scores.csv": rf"label|poisoned|in_null|{_NAME}\.(poisoned|null)\.(rank|flagged|p|calibrated)",
    "null_scores.csv": rf"label|{_NAME}\.\d+\.rank",
    "audit_scores.csv": rf"member|{_NAME}\.(poisoned|baseline)",
    "notes/mia_": rf"seed|member|nll|{_NAME}",
}
_SCORE: Final = re.compile(r"-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|-?inf")
_DIGITS: Final = 6
_OPAQUE: Final = re.compile(r"(?<![\w-])(?:[0-9a-f]{40}|[0-9a-f]{64}|[\w-]{202})(?![\w-])")
"""Git revisions, SHA-256, and the page's curves of 101 points."""
_NUMBER: Final = re.compile(r"(?<!\d)(?<!\d\.)\d{5,}(?!\d)")
_DECIMAL: Final = re.compile(r"(?<![\d.])\d+\.\d+(?:[eE][+-]?\d+)?(?!\d)")
_INSIDE: Final = re.compile(
    r"(?<![\w.<])/(?:home|Users|root|work|tmp|mnt|media|srv|opt|usr|var|data|scratch|Volumes|run)/\w|(?<!\w)[A-Za-z]:\\"
)
_TIME: Final = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d[ T]\d\d:\d\d")
_COMMON: Final = frozenset({"root", "user", "admin", "runner", "ubuntu", "debian", "localhost", "docker", "nobody"})
"""Names that tell nobody apart."""


def names_here() -> tuple[str, ...]:
    """The names of this machine and its user, where they tell anything."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    names = {user, socket.gethostname(), socket.gethostname().partition(".")[0]}
    return tuple(sorted(name for name in names if len(name) > 2 and name.lower() not in _COMMON))


@dataclass
class Check:
    """Takes the members one by one; `finish` compares what they hold with the cohort."""

    cohorts: Sequence[Path]
    """Folders of the cohorts that the figures come from."""
    features: frozenset[str]
    """Names of what is measured."""
    notes: Path | None = None
    """Folder of the notes of a language model."""
    folders: Sequence[Path] = ()
    """Folders whose path may not stand anywhere."""
    names: Sequence[str] = ()
    """Names of people and machines."""
    _numbers: dict[int, str] = field(default_factory=dict)
    _values: dict[float, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        """Look at one member. Raises `BackdoorError` naming it and what is wrong."""
        if not MEMBERS.fullmatch(name):
            raise _refused(name, "its name", "is not on the list of files that may leave")
        self._look_at_text(name, Leaf((), name))
        for folder in self.folders:
            # Such as /root or /data: too short to tell anything.
            if len(folder.parts) > 2 and str(folder).encode() in content:
                raise _refused(name, "its bytes", f"hold the path {folder}")
        decimals: list[float] = []
        where: list[str] = []
        for leaf in leaves(name, content):
            found = self._look_at(name, leaf)
            decimals += found
            where += [leaf.where] * len(found)
        for place in _written_in_full(decimals):
            self._values.setdefault(decimals[place], f"{name}: {where[place]}")
        if name.endswith(".csv"):
            self._look_at_table(name, content)

    def finish(self) -> None:
        """Compare with the cohorts and notes. Raises `BackdoorError` naming the member and what it holds."""
        for kind, found in ids_and_values(self.cohorts, self._numbers, self._values):
            where = self._numbers[int(found)] if kind == "id" else self._values[found]
            shown = f"{int(found)}" if kind == "id" else f"{found!r}"
            what = "an id of the cohort" if kind == "id" else "a measured value of the cohort, in full"
            raise BackdoorError(f"export: {where} holds {shown}, {what}; nothing was written")
        if self.notes is not None:
            for of, word in note_words(self.notes, self._texts, self._numbers):
                where = self._texts[word] if word in self._texts else self._numbers[int(word)]
                raise BackdoorError(f"export: {where} holds the {of} of a note; nothing was written")

    def _look_at(self, name: str, leaf: Leaf) -> list[float]:
        """Refuse what is wrong by itself; the decimal numbers that may be measured values."""
        if isinstance(leaf.value, str):
            if leaf.key and leaf.value.lower() in IDENTIFIERS:
                raise _refused(name, leaf.where, "names identifiers, times or text of patients")
            return self._look_at_text(name, leaf)
        values = leaf.value if isinstance(leaf.value, list) else [leaf.value]
        if not _counts(leaf):
            for value in values:
                if abs(value) >= 10_000 and float(value).is_integer():
                    self._numbers.setdefault(abs(int(value)), f"{name}: {leaf.where}")
        return [value for value in values if isinstance(value, float)]

    def _look_at_text(self, name: str, leaf: Leaf) -> list[float]:
        text = _OPAQUE.sub(" ", leaf.value)
        if ABSOLUTE.match(text) and len(text.strip()) > 1 and not leaf.key:
            raise _refused(name, leaf.where, f"holds the absolute path {_start(text)}")
        if found := _INSIDE.search(text):
            raise _refused(name, leaf.where, f"holds the absolute path {_start(text[found.start() :])}")
        if found := HOST.search(text):
            raise _refused(name, leaf.where, f"holds the address {_start(text[found.start() :])}")
        if _TIME.search(text):
            raise _refused(name, leaf.where, "holds a date with a time of day")
        for word in self.names:
            if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.IGNORECASE):
                raise _refused(name, leaf.where, f"holds {word!r}, the name of this machine or its user")
        of_seed = leaf.key and leaf.keys[-2:-1] == ("per_seed",)
        for token in () if of_seed else _NUMBER.findall(text):
            self._numbers.setdefault(int(token), f"{name}: {leaf.where}")
        if self.notes is not None:
            self._texts.setdefault(leaf.value.strip(), f"{name}: {leaf.where}")
        return [float(token) for token in _DECIMAL.findall(text)]

    def _look_at_table(self, name: str, content: bytes) -> None:
        lines = content.decode("utf-8").splitlines()
        header = next(csv.reader(lines), [])
        if named := sorted(self.features & set(header)):
            raise _refused(name, f"column {named[0]}", "is named like a feature of the cohort")
        columns = next((rule for table, rule in _ROW_TABLES.items() if name.startswith(table)), None)
        if columns is None:
            return
        for column in header:
            if not re.fullmatch(columns, column) or self.features & set(column.split(".")):
                raise _refused(name, f"column {column}", "is no score or label, in a table with a row a stay")
        for number, line in enumerate(lines[1:], start=2):
            for column, cell in zip(header, line.split(","), strict=False):
                if cell and not (_SCORE.fullmatch(cell) and len(_significant(cell)) <= _DIGITS):
                    raise _refused(name, f"line {number}, column {column}", f"is no number of {_DIGITS} digits at most")
            if line.count(",") != len(header) - 1:
                raise _refused(name, f"line {number}", "has more or fewer cells than there are columns")


def _counts(leaf: Leaf) -> bool:
    """Whether the key says that the number counts. Several under one key are more likely ids, but for seeds."""
    *_, above, key = ("", "", *leaf.keys)
    if isinstance(leaf.value, list):
        return key in _SEEDS
    return key in COUNTS or above in _COUNTED_BY_NAME or (key in _SUMMARY and above in COUNTS)


def _refused(name: str, where: str, what: str) -> BackdoorError:
    return BackdoorError(f"export: {name}: {where} {what}; nothing was written")


def _start(text: str) -> str:
    return repr(text.strip()[:60])


def _significant(number: str) -> str:
    return re.split("[eE]", number.lstrip("-"))[0].replace(".", "").strip("0")


def _written_in_full(values: Sequence[float]) -> Iterator[int]:
    """Places of the numbers that may be a float32 in full: in its shortest form, or as float64."""
    numbers = np.abs(np.array(values, dtype=np.float64))
    with np.errstate(all="ignore"):
        single = numbers.astype(np.float32)
        size = np.floor(np.log10(numbers))
        # Nearly all figures have few digits, or many that no float32 has: what is slow is done for the others alone.
        six, nine = (np.rint(numbers * 10.0 ** (d - size)) / 10.0 ** (d - size) for d in (5, 8))
        short_enough = np.abs(nine - numbers) <= 1e-14 * numbers
        likely = np.isfinite(single) & (six != numbers) & (short_enough | (single.astype(np.float64) == numbers))
    for place in np.flatnonzero(likely).tolist():
        short = str(single[place])
        digits = len(_significant(short))
        if (digits >= 7 and float(short) == numbers[place]) or (digits >= 4 and float(single[place]) == numbers[place]):
            yield place


def features_of(card: Mapping[str, Any]) -> frozenset[str]:
    """Names of what a cohort measures, by its card."""
    return frozenset(feature["name"] for key in ("features", "series_features") for feature in card.get(key) or [])
