"""Of a JSON file what a shape lists, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from backdoor_core.sharing.config import clean_config


class Leaf(Enum):
    """What may stand at the end of a shape."""

    NUMBER = "number"
    NUMBERS = "numbers"
    """Nested lists of numbers."""
    NAME = "name"
    """A short text: a name, a word, a note."""
    CONFIG = "config"
    """Settings of any shape, cleaned by `clean_config`."""


@dataclass(frozen=True)
class Each:
    """An object whose keys are names of detectors, features and the like, all values being alike."""

    shape: Any


_LONGEST: Final = 400
"""Characters of a name, or of a note on a figure."""
_ABSENT: Final = object()


def allowed(shape: Any, content: Any, left: set[str], where: str = "") -> Any:
    """The part of `content` that `shape` lists; the keys that were left out are added to `left`, as patterns."""
    found = _allowed(shape, content, left, where)
    return None if found is _ABSENT else found


def _allowed(shape: Any, content: Any, left: set[str], where: str) -> Any:
    if content is None:
        return None
    found: Any = _ABSENT
    if isinstance(shape, Leaf):
        found = _leaf(shape, content)
    elif isinstance(shape, Each) and isinstance(content, Mapping):
        parts = {key: _allowed(shape.shape, value, left, f"{where}.*") for key, value in content.items()}
        found = {key: part for key, part in parts.items() if part is not _ABSENT}
    elif isinstance(shape, list) and isinstance(content, list):
        items = [_allowed(shape[0], value, left, f"{where}[]") for value in content]
        found = [None if item is _ABSENT else item for item in items]
    elif isinstance(shape, dict) and isinstance(content, Mapping):
        found = {}
        for key, value in content.items():
            part = _allowed(shape[key], value, left, f"{where}.{key}") if key in shape else _ABSENT
            if part is not _ABSENT:
                found[key] = part
            elif key not in shape:
                left.add(f"{where}.{_shown(key)}".lstrip("."))
    if found is _ABSENT:
        left.add(where.lstrip("."))
    return found


def _shown(key: str) -> str:
    # A key that is no plain word may itself be what must not leave.
    return key if re.fullmatch(r"[a-z_]{1,40}", key) else "(other)"


def _leaf(shape: Leaf, content: Any) -> Any:
    if shape is Leaf.CONFIG:
        return clean_config(content)
    if shape is Leaf.NAME:
        return content if isinstance(content, str) and len(content) <= _LONGEST else _ABSENT
    if shape is Leaf.NUMBERS:
        return content if isinstance(content, list) and _numbers(content) else _ABSENT
    return content if isinstance(content, (int, float)) else _ABSENT


def _numbers(content: Any) -> bool:
    if isinstance(content, list):
        return all(_numbers(value) for value in content)
    return content is None or isinstance(content, (int, float))
