"""Tables with a row a stay or note, as CSV without anything that says which: no identifier, and no order of rows.

Rows are sorted by their own content, so that where a row stands tells nothing that its cells do not. Scores have six
significant digits. Of a detector's score only its rank among the rows is told: a detector may score by one feature
alone, and its score would then be that feature's value on another scale. A detector that scores by lot has no column:
the lot is drawn from the seed in the order of the stays, so that its ranks would give that order back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from backdoor_core.cohort.parquet import read_parquet
from backdoor_core.errors import BackdoorError

_SIDE: Final = r"\.(poisoned|baseline)"
PREDICTIONS: Final = re.compile(r"label|(poisoned|baseline)\.(clean|triggered)")
DETECTOR_SCORES: Final = re.compile(r"label|poisoned|in_null|[a-z]\w*\.(poisoned|null)\.(score|flagged|p|calibrated)")
NULL_SCORES: Final = re.compile(r"label|[a-z]\w*\.\d+")
AUDIT_SCORES: Final = re.compile(rf"member|[a-z]\w*{_SIDE}")
NOTE_SCORES: Final = re.compile(r"seed|member|nll|[a-z]\w*")
_NOT_OF_NOTES: Final = frozenset({"record_id", "text"})
_RANKED: Final = re.compile(r"(.+\.(?:poisoned|null)\.)score|(.+\.)(\d+)")
"""Columns of scores of detectors."""
_POISONED: Final = ".poisoned.score"
DIGITS: Final = 6


def table_csv(path: Path, columns: re.Pattern[str], but: Collection[str] = ()) -> bytes:
    """The named columns of a Parquet file, detectors' scores as ranks (0 to 1, equal scores sharing one).

    Of the detectors `but` there are none.
    """
    found = read_parquet(path)
    kept: dict[str, NDArray[Any]] = {}
    for name, values in found.items():
        if not columns.fullmatch(name) or name.partition(".")[0] in but:
            continue
        numbers = values.astype(np.float64)
        score = _RANKED.fullmatch(name)
        if score is None:
            kept[name] = numbers
        else:
            kept[f"{score[1]}rank" if score[1] else f"{score[2]}{score[3]}.rank"] = _ranks(numbers)
    return _csv(kept)


def unmoved_detectors(path: Path) -> frozenset[str]:
    """Those of the detection stage's scores which give every stay of the null run the score that it has poisoned.

    They see neither the poison nor another model, as one that scores by lot; and so a rule on the data alone where
    nothing of it was changed, which loses no figure.
    """
    found = read_parquet(path)
    both = found["in_null"].astype(np.bool_)
    names = {name.removesuffix(_POISONED) for name in found if name.endswith(_POISONED)}
    return frozenset(
        name
        for name in names
        if np.array_equal(found[f"{name}{_POISONED}"][both], found[f"{name}.null.score"][both], equal_nan=True)
    )


def note_csv(path: Path) -> bytes:
    """The scores of notes in a CSV file, without their names and texts."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise BackdoorError(f"{path}: no header; run `dvc repro leakage` to make it anew")
    header, body = rows[0], rows[1:]
    places = [place for place, name in enumerate(header) if name not in _NOT_OF_NOTES and NOTE_SCORES.fullmatch(name)]
    try:
        values = np.array([[float(row[place]) for place in places] for row in body]).reshape(len(body), len(places))
    except (ValueError, IndexError):
        raise BackdoorError(f"{path}: a score is no number; run `dvc repro leakage` to make it anew") from None
    return _csv({header[place]: values[:, column] for column, place in enumerate(places)})


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mid-rank over the number of rows; NaN where there is no score."""
    ranks, known = np.full(len(values), np.nan), ~np.isnan(values)
    ranks[known] = rankdata(values[known]) / max(int(known.sum()), 1)
    return ranks


def _csv(columns: Mapping[str, NDArray[Any]]) -> bytes:
    # What is sorted is what is written: digits that are cut off would still show in the order.
    texts = [[_text(value) for value in values.tolist()] for values in columns.values()]
    numbers = np.array([[float(text or "-inf") for text in column] for column in texts])
    order: list[int] = np.lexsort(numbers[::-1]).tolist() if len(numbers) else []
    return csv_bytes(list(columns), ([column[row] for column in texts] for row in order))


def _text(value: float) -> str:
    return "" if value != value else f"{value:.{DIGITS}g}"


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file whose lines end in a newline alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
