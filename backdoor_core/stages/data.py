"""What every stage after `splits` loads: the clean parts of the cohort."""

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.cohort.splits import Splits, load_splits
from backdoor_core.cohort.storage import Cohort, Rows, load_cohort
from backdoor_core.files import json_text, read_json
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Study

_Found = TypeVar("_Found")

_LATELY = 2**27
"""Bytes of a worker: a thousand resamples of 7,000 stays at nine rates of the poison."""


@dataclass(frozen=True)
class Parts:
    """The cohort in the view of the study's model, by part."""

    cohort: Cohort
    splits: Splits
    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Shared:
    """What the runs of a sweep have in common that differ in trigger and poison alone; a stage by itself loads it.

    Such runs have the same cohort, split, seed, clean twin and clean retrains.
    """

    parts: Parts
    workers: int | None = None
    """Processes that fit models; by default as many as `learning.many` sees fit."""
    found: dict[Hashable, Any] = field(default_factory=dict)

    lately: dict[Hashable, NDArray[Any]] = field(default_factory=dict)
    """Large arrays, the last few of them."""

    folder: Path | None = None
    """Where workers of this machine put what all of them need, as JSON."""

    def once(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        """What `find` returns, found once for each key; the key must tell all that it depends on beside the above."""
        if key not in self.found:
            self.found[key] = find()
        return cast(_Found, self.found[key])

    def once_lately(self, key: Hashable, find: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The same of a large array: the last one stays in memory, and of those before it what `_LATELY` holds."""
        found = self.lately.pop(key) if key in self.lately else find()
        self.lately[key] = found
        while len(self.lately) > 1 and sum(array.nbytes for array in self.lately.values()) > _LATELY:
            del self.lately[next(iter(self.lately))]
        return found

    def once_for_all(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        """The same of JSON, found once by all workers: it is read where another has written it."""

        def read_or_find() -> _Found:
            if self.folder is None:
                return find()
            path = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.json"
            if path.is_file():
                return cast(_Found, read_json(path))
            found = find()
            self.folder.mkdir(parents=True, exist_ok=True)
            # Under a name of its own: another worker may be about to write the same.
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(json_text(found), encoding="utf-8")
            temporary.replace(path)
            return found

        return self.once(key, read_or_find)


def load_shared(study: Study) -> Shared:
    """For a stage that runs by itself."""
    return Shared(load_parts(study))


def load_parts(study: Study) -> Parts:
    """The clean parts."""
    cohort = load_cohort(study.paths.cohort)
    splits = load_splits(study.paths.splits, cohort)
    view = cohort.view(study.model().modality)
    parts = [Rows(view.take(rows), cohort.label[rows]) for rows in (splits.train, splits.validation, splits.test)]
    return Parts(cohort, splits, *parts)


def test_weights(study: Study, parts: Parts) -> NDArray[Any]:
    """(replicates, N) the same resamples of the test part's patients for every figure of every stage."""
    rng = seeds.generator(study.params.seed, "bootstrap", 0)
    patients = parts.cohort.subject_id[parts.splits.test]
    return cluster_bootstrap_weights(patients, study.params.evaluate.replicates, rng, strata=parts.test.label)
