"""Train, validation and test parts: by patient, stratified by outcome, the same whatever the row order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.storage import Cohort
from backdoor_core.contracts import Integers
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.params import SplitParams

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """Row positions of each part in the cohort, ascending."""

    train: Integers
    validation: Integers
    test: Integers


def split_by_patient(
    stay_id: Integers, subject_id: Integers, label: NDArray[np.int8], shares: SplitParams, rng: np.random.Generator
) -> dict[Part, list[int]]:
    """Stay ids of each part. All stays of a patient fall into one part.

    Patients are stratified by whether any of their stays ends in death and whether they have more than one
    stay, so that prevalence and stays per patient agree between parts. The draw depends on the set of
    patients only, not on the order of rows. Raises `BackdoorError` where a part would lack an outcome.
    """
    subjects, of_row, stays = np.unique(subject_id, return_inverse=True, return_counts=True)
    died = np.zeros(len(subjects), dtype=np.int64)
    np.maximum.at(died, of_row, label)
    stratum = died * 2 + (stays > 1)
    part_of_subject = np.empty(len(subjects), dtype=np.int64)
    for value in np.unique(stratum):
        members = rng.permutation(np.flatnonzero(stratum == value))
        cuts = np.rint(np.cumsum([shares.train, shares.validation]) * len(members)).astype(int)
        for number, group in enumerate(np.split(members, cuts)):
            part_of_subject[group] = number
    part_of_row = part_of_subject[of_row]
    parts: dict[Part, list[int]] = {}
    for number, part in enumerate(PARTS):
        rows = part_of_row == number
        if len(np.unique(label[rows])) < 2:
            raise BackdoorError(
                f"splits: the {part} part would hold {int(rows.sum())} stays and not both outcomes; "
                f"use a larger cohort, or a larger splits.{part} in params.yaml"
            )
        parts[part] = sorted(int(stay) for stay in stay_id[rows])
    return parts


def splits_json(parts: Mapping[Part, list[int]], cohort: Cohort) -> dict[str, Any]:
    """What `data/splits.json` holds: counts and prevalence per part, then the stay ids."""
    summary: dict[str, Any] = {}
    for part in PARTS:
        rows = np.isin(cohort.stay_id, parts[part])
        summary[part] = {
            "stays": int(rows.sum()),
            "patients": len(np.unique(cohort.subject_id[rows])),
            "positives": int(cohort.label[rows].sum()),
            "prevalence": round(float(cohort.label[rows].mean()), 6),
        }
    return {"summary": summary, "stay_id": {part: parts[part] for part in PARTS}}


def load_splits(path: Path, cohort: Cohort) -> Splits:
    """Read the splits and assert that they cover the cohort once and share no patient.

    Raises `BackdoorError` where they do not, as every figure would be wrong, and where the file lacks a part.
    """
    content = read_json(path)
    parts = content.get("stay_id") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(parts.get(part), list) for part in PARTS):
        raise BackdoorError(
            f"{path}: expected the stays of {', '.join(PARTS)} below stay_id; delete it and run `dvc repro`"
        )
    rows = {part: np.flatnonzero(np.isin(cohort.stay_id, parts[part])) for part in PARTS}
    if sum(len(r) for r in rows.values()) != len(cohort.stay_id) or any(len(rows[p]) != len(parts[p]) for p in PARTS):
        raise BackdoorError(f"{path}: the parts do not cover the cohort's stays exactly once; run `dvc repro`")
    patients = {part: set(cohort.subject_id[rows[part]].tolist()) for part in PARTS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if shared := patients[one] & patients[other]:  # type: ignore[index]
            raise BackdoorError(f"{path}: {len(shared)} patients stand in both {one} and {other}; run `dvc repro`")
    return Splits(**rows)
