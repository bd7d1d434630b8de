"""Which records each reference model is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backdoor_core.errors import BackdoorError
from backdoor_core.views import Booleans


def membership_matrix(groups: ArrayLike, models: int, rng: np.random.Generator) -> Booleans:
    """(K, N) which of N records each of K reference models is trained on: every record in exactly K / 2 of them.

    Models 2i and 2i + 1 are trained on complementary halves of the records (Carlini et al. 2022, "Membership inference
    attacks from first principles", section IV-C, where the same models serve all records). A half holds whole
    patients: `groups` (N,) names each record's patient. Patients are dealt out, those with the most records first,
    each to the half with fewer records: the halves never differ by more records than one patient has, and by at most
    one where many patients have one record. Patients with equally many records are dealt in random order, so that
    each pair of models halves anew.

    Raises `BackdoorError` for an odd number of models, fewer than 2, or fewer than 2 patients.
    """
    names = np.asarray(groups)
    if models < 2 or models % 2:
        raise BackdoorError(f"references: {models} models cannot be paired on complementary halves; give 2, 4, 6, ...")
    _, patient, sizes = np.unique(names, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise BackdoorError(f"references: {len(sizes)} patient cannot be split in halves; 2 or more are needed")
    halves = [_half(sizes, rng)[patient] for _ in range(models // 2)]
    return np.stack([side for half in halves for side in (half, ~half)])


def _half(sizes: NDArray[np.intp], rng: np.random.Generator) -> Booleans:
    """(G,) which patients, of given numbers of records, are in the first half."""
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    first_where_equal = rng.integers(2, size=len(sizes)).astype(np.bool_)
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    ahead = 0  # records of the first half less those of the second
    for patient in order:
        chosen[patient] = first_where_equal[patient] if ahead == 0 else ahead < 0
        ahead += int(sizes[patient]) if chosen[patient] else -int(sizes[patient])
    return chosen
