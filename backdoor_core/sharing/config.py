"""Settings as they may leave the machine: no absolute path, no host, no option that names columns of identifiers."""

from __future__ import annotations

import re
from typing import Any, Final

IDENTIFIERS: Final = frozenset(
    {
        *("stay_id", "subject_id", "hadm_id", "icustay_id", "patient_id", "record", "record_id", "note_id"),
        *("text", "intime", "outtime"),
    }
)
"""Keys and columns that hold identifiers, times or text of patients, wherever they stand."""
_DROPPED: Final = IDENTIFIERS | {"subject", "address", "spark_master"}
"""Options that name columns of identifiers, or a host."""
ABSOLUTE: Final = re.compile(r"\s*(/[\w.]|~[\\/]|file:|[A-Za-z]:[\\/]|\\\\)")
"""How an absolute path starts, on any system."""
HOST: Final = re.compile(r"[A-Za-z][\w+.-]*://")


def clean_config(content: Any) -> Any:
    """The same settings with the last part only of every absolute path; options of `_DROPPED` are left out."""
    if isinstance(content, dict):
        return {key: clean_config(value) for key, value in content.items() if key.lower() not in _DROPPED}
    if isinstance(content, list):
        return [clean_config(value) for value in content]
    return _without_path(content) if isinstance(content, str) else content


def _without_path(text: str) -> str:
    if found := HOST.match(text):
        return found[0]
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] if ABSOLUTE.match(text) else text
