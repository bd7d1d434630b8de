"""One random stream per subject, cut into named pieces.

A subject's stream depends on the seed and the subject's number alone, so the first subjects of a hospital
are the same however many stays are asked for, and in whatever blocks they are computed. A subject first
draws its whole course and then, per stay, the same number of normals and uniforms. What is ordered for a
subject comes from a second stream, so that the measurements do not depend on whether orders are simulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Generators = Sequence[np.random.Generator]


def open_streams(seed: int, subjects: Iterable[int], *branch: int) -> list[np.random.Generator]:
    """Fresh generators of the given subjects; each `branch` of a subject is a stream of its own."""
    return [
        np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(subject, *branch))))
        for subject in subjects
    ]


@dataclass(frozen=True)
class Pieces:
    """Named pieces of a matrix of draws, one row each stay (or subject)."""

    values: NDArray[np.float32]
    slices: Mapping[str, slice]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """(N, size of the piece) draws."""
        return self.values[:, self.slices[name]]

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """The piece as an array of shape (N, *shape)."""
        return self[name].reshape(len(self.values), *shape)


def slices_of(sizes: Mapping[str, int]) -> tuple[dict[str, slice], int]:
    """Where each piece lies in a row, and the length of the row."""
    result, start = {}, 0
    for name, size in sizes.items():
        result[name] = slice(start, start + size)
        start += size
    return result, start


def draw(
    streams: Generators, rows: Sequence[int], normals: Mapping[str, int], uniforms: Mapping[str, int]
) -> tuple[Pieces, Pieces]:
    """Normal and uniform draws: ``rows[i]`` rows from stream i, in order. Each row is drawn whole before the next."""
    normal_slices, n_normal = slices_of(normals)
    uniform_slices, n_uniform = slices_of(uniforms)
    normal = np.empty((sum(rows), n_normal), np.float32)
    uniform = np.empty((sum(rows), n_uniform), np.float32)
    at = 0
    for stream, count in zip(streams, rows, strict=True):
        for _ in range(count):
            stream.standard_normal(out=normal[at], dtype=np.float32)
            stream.random(out=uniform[at], dtype=np.float32)
            at += 1
    return Pieces(normal, normal_slices), Pieces(uniform, uniform_slices)


def autoregressive(noise: NDArray[np.float32], lag1: float | NDArray[np.float32]) -> NDArray[np.float32]:
    """Stationary AR(1) series of unit variance along axis 1, from independent standard normals (N, T, ...).

    `lag1` is the correlation of neighbors, one number or one per last axis.
    """
    series = np.empty_like(noise)
    fresh = np.sqrt(1 - np.square(np.asarray(lag1, np.float32)))
    series[:, 0] = noise[:, 0]
    for step in range(1, noise.shape[1]):
        series[:, step] = lag1 * series[:, step - 1] + fresh * noise[:, step]
    return series
