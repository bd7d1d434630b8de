"""What a member of an export holds, leaf by leaf, whatever its format: what the check looks at."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, Final, NamedTuple

from backdoor_core.errors import BackdoorError

_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"gAMA", b"sRGB", b"sBIT"})
"""Chunks of a PNG that say nothing in words."""
_TELLING: Final = re.compile(r"id|class|title|data-.+|aria-.+")
"""Attributes of a drawing that are no coordinates, colors or shapes."""


class Leaf(NamedTuple):
    """A value with the keys or columns that lead to it."""

    keys: tuple[str, ...]
    value: Any
    """Text, a number, or a list of numbers."""
    key: bool = False
    """Whether it is itself a key or the name of a column."""

    @property
    def where(self) -> str:
        """For people."""
        return ".".join(self.keys) or "its text"


def leaves(name: str, content: bytes) -> Iterator[Leaf]:
    """The leaves of a JSON, CSV, SVG, HTML, PNG or plain text file.

    Of an SVG text, comments, and attributes that name or describe, not its coordinates; of a PNG what it says beside
    the picture. Of an HTML page data, text, comments and attributes; its scripts and styles are the program's own.
    """
    if name.endswith(".png"):
        yield from (Leaf((), said) for said in _said_by_png(name, content))
        return
    text = content.decode("utf-8")
    if name.endswith(".json"):
        yield from _of_json((), json.loads(text))
    elif name.endswith(".csv"):
        yield from _of_csv(text)
    elif name.endswith(".svg"):
        root = ET.fromstring(text)
        yield from (Leaf((), comment) for comment in re.findall(r"<!--(.*?)-->", text, re.DOTALL))
        yield from (Leaf((), part) for part in root.itertext() if part.strip())
        attributes = (pair for node in root.iter() for pair in node.attrib.items())
        yield from (Leaf((), value) for key, value in attributes if _TELLING.fullmatch(key))
    elif name.endswith(".html"):
        page = _Page()
        page.feed(text)
        page.close()
        yield from page.found
    else:
        yield from (Leaf((), line) for line in text.splitlines())


def _said_by_png(name: str, content: bytes) -> Iterator[str]:
    """Plain texts of a PNG (PNG specification, 5.3 and 11.3.3). Raises `BackdoorError` for parts of another kind."""
    place, kind = 8, b""
    while place + 8 <= len(content) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind == b"tEXt":
            yield content[place + 8 : place + 8 + length].replace(b"\0", b" ").decode("latin-1")
        elif kind not in _PICTURE:
            part = kind.decode("latin-1")
            raise BackdoorError(f"export: {name}: holds a part {part!r} that is not looked at; nothing was written")
        place += length + 12
    if place != len(content):
        raise BackdoorError(f"export: {name}: holds more than its picture; nothing was written")


def _of_json(keys: tuple[str, ...], content: Any) -> Iterator[Leaf]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield Leaf((*keys, key), key, key=True)
            yield from _of_json((*keys, key), value)
    elif isinstance(content, list):
        numbers = [value for value in content if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if numbers:
            yield Leaf(keys, numbers)
        for value in content:
            if isinstance(value, (str, dict, list)):
                yield from _of_json(keys, value)
    elif content is not None and not isinstance(content, bool):
        yield Leaf(keys, content)


def _of_csv(text: str) -> Iterator[Leaf]:
    rows = csv.reader(io.StringIO(text))
    header = next(rows, [])
    yield from (Leaf((column,), column, key=True) for column in header)
    for row in rows:
        if len(row) != len(header):
            # A cell without a column is looked at as well.
            yield Leaf((), ",".join(row))
            continue
        # In a long table the row's own words say what its numbers count.
        words = tuple(cell for cell in row if cell.isidentifier())
        yield from (Leaf((*words, column), _number(cell)) for column, cell in zip(header, row, strict=True) if cell)


def _number(cell: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Leaf] = []
        self.within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("type")
        self.within = "data" if tag == "script" and kind == "application/json" else tag
        for key, value in attrs:
            self.found.append(Leaf((), key))
            if value and not value.startswith("data:"):
                self.found.append(Leaf((), value))

    def handle_comment(self, data: str) -> None:
        self.found.append(Leaf((), data))

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "data":
            self.found.extend(_of_json((), json.loads(data)))
        elif self.within not in ("script", "style") and data.strip():
            self.found.append(Leaf((), data))
