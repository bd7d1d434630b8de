"""From pydantic's report of what is wrong to one line that tells the user where and what would be right."""

import difflib
import re
import reprlib
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

SHOWN = 3
"""More errors than this in one line hide each other."""

_MESSAGES = {
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "string_type": "should be text",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
}
_NO_MAPPING = ("model_type", "model_attributes_type")
"""Another value where a mapping with certain keys should be."""
_PATTERNS = {
    r"^(auto|cpu|mps|cuda(:\d+)?)$": "should be auto, cpu, mps, cuda or cuda:<number>",
    r"^(cpu|cuda(:\d+)?)$": "should be cpu, cuda or cuda:<number>",
}
"""What text should be, by the pattern that it does not fit."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def option_names(model: type[BaseModel]) -> list[str]:
    """The names that a user may write for the fields of a model, in the order of the model."""
    return [field.alias or name for name, field in model.model_fields.items()]


def one_line(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """The errors of one validation in one line, at most three of them.

    `where` is the file, alone ("params.yaml") or with the place of the model in it
    ("params.yaml: triggers.rare_value"); `model` is the model whose validation failed, for the names it has.
    """
    problems: dict[str, list[ErrorDetails]] = {}
    options: dict[str, list[str]] = {}
    found_errors = error.errors(include_url=False)
    for details in found_errors:
        if details["type"] == "too_short" and any(_is_within(other["loc"], details["loc"]) for other in found_errors):
            # What was refused is not counted: the list may be long enough.
            continue
        path, owner, leaf = _place(model, _written(details))
        problems.setdefault(path, []).append(details)
        known = leaf if details["type"] in _NO_MAPPING else owner
        options.setdefault(path, []).extend(option_names(known) if known and path else [])
    lines = [_join(where, path, _describe(found, options[path])) for path, found in problems.items()]
    file = where.partition(": ")[0] + ": "
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join(lines[:1] + [line.removeprefix(file) for line in lines[1:SHOWN]] + more)


def _is_within(place: tuple[int | str, ...], container: tuple[int | str, ...]) -> bool:
    return len(place) > len(container) and place[: len(container)] == container


def _written(details: ErrorDetails) -> tuple[int | str, ...]:
    """Where the error is; of a key that is no text, the mapping that has it."""
    if details["type"] == "invalid_key":
        return details["loc"][:-1]
    return details["loc"][:-2] if details["loc"][-1:] == ("[key]",) else details["loc"]


def _join(where: str, path: str, text: str) -> str:
    if not path:
        return f"{where}: {text}"
    return f"{where}.{path}: {text}" if ": " in where else f"{where}: {path}: {text}"


def _describe(found: Sequence[ErrorDetails], options: Sequence[str]) -> str:
    """What is wrong at one place. The members of a union fail one by one, so there may be several errors."""
    details = found[0]
    if details["type"] == "extra_forbidden":
        hint = did_you_mean(str(details["loc"][-1]), options)
        return f"unknown option{hint or '.'} Options: {', '.join(options) or 'none'}"
    if details["type"] == "missing":
        return "missing, and it has no default"
    if details["type"] == "invalid_key" or details["loc"][-1:] == ("[key]",):
        return f"the key {reprlib.repr(details['input'])} should be text; put it in quotes"
    first, *rest = dict.fromkeys(_message(each) for each in found)
    expected = " or ".join([first, *(message.removeprefix("should be ") for message in rest)])
    # The author of a validator chose the words, and they say what was wrong with the value.
    by_validator = details["type"] in ("value_error", "assertion_error")
    said = expected if by_validator else f"{expected}, not {reprlib.repr(details['input'])}"
    return f"{said}. Options: {', '.join(options)}" if details["type"] in _NO_MAPPING and options else said


def _message(details: ErrorDetails) -> str:
    given = details.get("ctx", {})
    if details["type"] == "too_short":
        least = given["min_length"]
        return "should have at least one entry" if least == 1 else f"should have at least {least} entries"
    if details["type"] == "string_pattern_mismatch" and given["pattern"] in _PATTERNS:
        return _PATTERNS[given["pattern"]]
    message = _MESSAGES.get(details["type"]) or re.sub("^(Input|String) should", "should", details["msg"])
    return " ".join(message.removeprefix("Value error, ").removeprefix("Assertion failed, ").split())


def _place(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[str, type[BaseModel] | None, type[BaseModel] | None]:
    """The path as written by the user, the model that owns its last part, and the model that should stand there.

    pydantic puts the member of a union that it tried into the location ("feature", "int"); the user wrote no
    such thing, so the annotations tell which parts are names and which are tags.
    """
    path, owner = "", None
    current: Any = model
    for part in loc:
        current = _plain(current)
        if _is_union(current):
            current = _member(current, str(part))
        elif isinstance(current, type) and issubclass(current, BaseModel):
            owner = current
            path = f"{path}.{part}" if path else str(part)
            current = _field_annotation(current, str(part))
        else:
            owner = None
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
            current = _element(current, part)
    leaf = _plain(current)
    return path.removeprefix("."), owner, leaf if isinstance(leaf, type) and issubclass(leaf, BaseModel) else None


def _plain(annotation: Any) -> Any:
    """The annotation without `Annotated` and without `| None`, which pydantic does not tag."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif _is_union(annotation) and type(None) in get_args(annotation):
            annotation = Union[tuple(a for a in get_args(annotation) if a is not type(None))]  # noqa: UP007
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _member(union: Any, tag: str) -> Any:
    members = [_plain(member) for member in get_args(union)]
    return next((m for m in members if getattr(m, "__name__", None) == tag or str(m) == tag), None)


def _field_annotation(model: type[BaseModel], part: str) -> Any:
    for name, field in model.model_fields.items():
        if part in (field.alias, name):
            return field.annotation
    return None


def _element(container: Any, part: int | str) -> Any:
    arguments = [a for a in get_args(container) if a is not Ellipsis]
    if not arguments:
        return None
    if get_origin(container) is tuple and isinstance(part, int) and part < len(arguments):
        return arguments[part]
    return arguments[-1]
