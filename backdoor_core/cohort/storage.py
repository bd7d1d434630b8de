"""A cohort on disk and in memory.

``data/cohort`` holds ``stays.parquet`` (ids, label, subgroup columns), one file per view and ``card.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backdoor_core.contracts import CohortCard, CohortSource, Feature, Inclusion, Integers, Modality, TableView, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, replacing, replacing_directory, write_json


@dataclass(frozen=True)
class Cohort:
    """The included stays. Every array and every view has the same N stays in the same order."""

    stay_id: Integers
    subject_id: Integers
    label: NDArray[np.int8]
    subgroups: Mapping[str, NDArray[Any]]
    views: Mapping[Modality, View]
    card: Mapping[str, Any]

    def view(self, modality: Modality) -> View:
        """One view. Raises `BackdoorError` where the cohort lacks it."""
        if modality not in self.views:
            raise BackdoorError(f"the cohort has no {modality} view; it has {', '.join(sorted(self.views))}")
        return self.views[modality]


@dataclass(frozen=True)
class Rows:
    """Some stays as a model is given them: a view and its (N,) labels."""

    view: View
    label: NDArray[np.int8]


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as one Parquet file, whole or not at all; equal columns give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(pa.table(dict(columns)), temporary, compression="zstd")


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """All columns of a Parquet file as numpy arrays. Raises `BackdoorError` where it is missing or damaged."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise BackdoorError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def view_columns(view: View) -> dict[str, NDArray[Any]]:
    """A table view as columns: stay_id and one column per feature."""
    return {"stay_id": view.stay_id, **{f.name: view.values[:, j] for j, f in enumerate(view.features)}}


def view_from_columns(columns: Mapping[str, NDArray[Any]], features: tuple[Feature, ...], where: str) -> TableView:
    """The inverse of `view_columns`. Raises `BackdoorError` naming a feature whose column is missing."""
    lacking = [f.name for f in features if f.name not in columns]
    if lacking:
        raise BackdoorError(f"{where}: lacks the column {', '.join(lacking)}")
    values = np.column_stack([columns[f.name] for f in features]).astype(np.float32, copy=False)
    return TableView(stay_id=columns["stay_id"], features=features, values=values)


def build_cohort(source: CohortSource, inclusion: Inclusion, rng: np.random.Generator, out: Path) -> None:
    """Have `source` build the cohort, check what it wrote, add the counts, and put it in place as a whole."""
    with replacing_directory(out) as temporary:
        card = source.build(temporary, inclusion, rng)
        cohort = _checked(temporary, card.features, card.source)
        write_json(temporary / "card.json", card_json(card, cohort, inclusion))


def card_json(card: CohortCard, cohort: Cohort, inclusion: Inclusion) -> dict[str, Any]:
    """The card with the counts that the core made itself."""
    values = cohort.view("table").values
    missing = np.isnan(values).mean(axis=0)
    return {
        "source": card.source,
        "description": card.description,
        "inclusion": inclusion.model_dump(mode="json"),
        "stays": len(cohort.stay_id),
        "patients": len(np.unique(cohort.subject_id)),
        "deaths": int(cohort.label.sum()),
        "prevalence": float(cohort.label.mean()),
        "attrition": [asdict(step) for step in card.attrition],
        "features": [
            {**asdict(feature), "missing": round(float(share), 6)}
            for feature, share in zip(card.features, missing, strict=True)
        ],
        "notes": list(card.notes),
    }


def load_cohort(directory: Path) -> Cohort:
    """Read the cohort that the stage `cohort` wrote."""
    card = read_json(directory / "card.json")
    features = tuple(Feature(**{k: v for k, v in f.items() if k != "missing"}) for f in card["features"])
    return _checked(directory, features, card["source"], card)


def _checked(
    directory: Path, features: tuple[Feature, ...], source: str, card: Mapping[str, Any] | None = None
) -> Cohort:
    stays = read_parquet(directory / "stays.parquet")
    table = view_from_columns(read_parquet(directory / "table.parquet"), features, "table.parquet")
    stay_id, label = stays["stay_id"], stays["label"]
    if len(stay_id) == 0:
        raise BackdoorError(f"cohort {source}: no stay is left after the inclusion rules")
    if len(np.unique(stay_id)) != len(stay_id):
        raise BackdoorError(f"cohort {source}: stays.parquet holds a stay_id twice")
    if label.dtype.kind not in "iu" or not np.isin(label, (0, 1)).all():
        raise BackdoorError(f"cohort {source}: the column label of stays.parquet must hold 0 and 1 only")
    if not np.array_equal(stay_id, table.stay_id):
        raise BackdoorError(f"cohort {source}: table.parquet and stays.parquet hold different stays or orders")
    if np.isinf(table.values).any():
        raise BackdoorError(f"cohort {source}: table.parquet holds an infinite value")
    subgroups = {name: column for name, column in stays.items() if name not in {"stay_id", "subject_id", "label"}}
    return Cohort(
        stay_id=stay_id,
        subject_id=stays["subject_id"],
        label=label.astype(np.int8),
        subgroups=subgroups,
        views={"table": table},
        card=card or {},
    )
