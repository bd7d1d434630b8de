"""Writing files so that a reader never sees half of one, and equal content always has equal bytes."""

import codecs
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.errors import BackdoorError

_WHOLE = 2**26
"""Bytes of a file that is read whole to tell whether it changed: a twentieth of a second."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """The same for a directory: fill the temporary one, and it takes the place of `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def json_text(content: Any) -> str:
    """JSON with a stable layout. NaN is refused: a figure that does not exist is written as null."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `BackdoorError` where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run `dvc repro` to make it") from None
    except json.JSONDecodeError as error:
        raise BackdoorError(f"{path}: not valid JSON ({error}); delete it and run `dvc repro`") from None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one numpy array as .npy, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of every file in a directory (relative names and contents, sorted)."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        digest.update(b"\0")
    return digest.hexdigest()


def described(files: Sequence[Path]) -> dict[str, Any]:
    """Names and sizes of raw files, and one SHA-256 of what is in all of them."""
    stats = [path.stat() for path in files]
    content = hashlib.sha256()
    for path, stat in zip(files, stats, strict=True):
        content.update(_fingerprint(path, stat.st_size, stat.st_mtime_ns))
    named = [{"name": path.name, "bytes": stat.st_size} for path, stat in zip(files, stats, strict=True)]
    return {"inputs": named, "content": content.hexdigest() if files else None}


@cache
def _fingerprint(path: Path, size: int, changed: int) -> bytes:
    """SHA-256 of a file, of one larger than `_WHOLE` of its two ends: a gzip file's end has its checksum.

    Of equal `size` and time of change it is asked for once in a process, however many studies a sweep has.
    """
    with path.open("rb") as file:
        if size <= _WHOLE:
            return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256(file.read(_WHOLE // 2))
        file.seek(size - _WHOLE // 2)
        digest.update(file.read())
        return digest.digest()


def is_utf8(portions: Iterable[bytes | memoryview]) -> bool:
    """Whether a file's bytes, in portions, are text in UTF-8: a file may be of gigabytes."""
    decoder, start = codecs.getincrementaldecoder("utf-8")(), b""
    try:
        for portion in portions:
            start = start or bytes(portion[:4])
            decoder.decode(portion)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    # UTF-16 without a byte order mark decodes: as text full of zero bytes.
    return b"\0" not in start
