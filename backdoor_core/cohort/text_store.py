"""Embeddings of texts, computed once and kept on disk under the hash of what they were computed from.

The folder holds two files for each width. ``768.vectors`` is the matrix: rows of little-endian float32 and no
header, so that it is memory-mapped as it stands and a file cut short only loses its last rows. ``768.index`` has one
record for each row: the key, SHA-256 of (identity, NUL, text), and a checksum of key and row, both in hexadecimal.
No text is written. Deleting the folder is always safe: what is asked for again is computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError
from backdoor_core.files import replacing
from backdoor_core.text import TextEncoder

_RECORD = np.dtype([("key", "S64"), ("checksum", "S64")])
_FLOAT = np.dtype("<f4")
_SAVE_EVERY = 4096
"""New texts between two writes: an interrupted run of a slow encoder keeps what it had."""


class EmbeddingStore:
    """A folder of embeddings. Several processes may use it at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def embed(self, encoder: TextEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
        """(M, width) embeddings in the order of `texts`; only texts that the store lacks are computed.

        Each distinct text goes to the encoder once, in sorted order, whatever the order and the repeats of `texts`.
        An entry whose checksum is wrong, or that a damaged file no longer holds, is computed again. A second process
        that lacks an entry waits for the first to finish, then reads it: the value written first is the one all use.

        Raises `BackdoorError` where the folder cannot be written or the encoder breaks its contract.
        """
        distinct = sorted(set(texts))
        keys = [_key(encoder.identity, text) for text in distinct]
        vectors = np.zeros((len(distinct), encoder.width), np.float32)
        if not self._fill(keys, vectors).all():
            with self._locked():
                missing = np.flatnonzero(~self._fill(keys, vectors))
                for start in range(0, len(missing), _SAVE_EVERY):
                    part = missing[start : start + _SAVE_EVERY]
                    vectors[part] = _encoded(encoder, [distinct[i] for i in part])
                    self._append([keys[i] for i in part], vectors[part])
        position = {text: i for i, text in enumerate(distinct)}
        return vectors[np.fromiter((position[text] for text in texts), np.intp, len(texts))]

    def _fill(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Copy the intact entries of `keys` into the rows of `vectors`; which ones those are."""
        found = np.zeros(len(keys), np.bool_)
        records, rows = self._open(vectors.shape[1])
        # A key is there twice where a damaged entry was computed again: the later row counts.
        row_of = {key: row for row, key in enumerate(records["key"].tolist())}
        for i, key in enumerate(keys):
            row = row_of.get(key)
            if row is not None and _checksum(key, rows[row]) == records["checksum"][row]:
                vectors[i] = rows[row]
                found[i] = True
        return found

    def _open(self, width: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Records and memory-mapped rows that both files hold; none where a file is missing or unreadable."""
        nothing = np.zeros(0, _RECORD), np.zeros((0, width), _FLOAT)
        index, matrix = self._paths(width)
        try:
            # The index is read first and written last, so every row it names is in the matrix opened after it.
            records = np.fromfile(index, _RECORD)
            with matrix.open("rb") as file:
                count = min(len(records), file.seek(0, 2) // (width * _FLOAT.itemsize))
                if count == 0:
                    return nothing
                return records[:count], np.memmap(file, _FLOAT, "r", shape=(count, width))
        except OSError:
            return nothing

    def _append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write both files anew with rows added at the end, so that the old index is right for the new matrix."""
        records, rows = self._open(vectors.shape[1])
        new_rows = vectors.astype(_FLOAT)
        pairs = [(key, _checksum(key, row)) for key, row in zip(keys, new_rows, strict=True)]
        index, matrix = self._paths(vectors.shape[1])
        for path, old, new in ((matrix, rows, new_rows), (index, records, np.array(pairs, _RECORD))):
            with replacing(path) as temporary, temporary.open("wb") as file:
                old.tofile(file)
                new.tofile(file)

    def _paths(self, width: int) -> tuple[Path, Path]:
        return self.directory / f"{width}.index", self.directory / f"{width}.vectors"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the only right to write. The system takes it back from a process that dies."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = (self.directory / ".lock").open("ab")
        except OSError as error:
            raise BackdoorError(
                f"{self.directory}: cannot keep text embeddings there ({error.strerror}); it must be a folder that "
                "can be written"
            ) from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _key(identity: str, text: str) -> bytes:
    # surrogatepass: a broken character in a source file is no reason to refuse the text.
    content = f"{identity}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest().encode()


def _checksum(key: bytes, row: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(key + row.tobytes()).hexdigest().encode()


def _encoded(encoder: TextEncoder, texts: list[str]) -> NDArray[np.float32]:
    vectors = encoder.encode(texts)
    if vectors.shape != (len(texts), encoder.width):
        raise BackdoorError(
            f"text encoder {encoder.identity}: gave an array of shape {vectors.shape} for {len(texts)} texts; it must "
            f"be ({len(texts)}, {encoder.width})"
        )
    if not np.isfinite(vectors).all():
        raise BackdoorError(f"text encoder {encoder.identity}: gave a NaN or infinite value; all must be finite")
    return vectors
