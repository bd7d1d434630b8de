from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Context, Corpus, Note, Options
from backdoor_core.errors import BackdoorError
from backdoor_core.files import is_utf8

_TABLES = (".csv", ".csv.gz", ".parquet")


class TextOptions(Options):
    """Options of a user's own notes."""

    path: str = Field(
        "", description="a CSV file (also .csv.gz), a Parquet file, or a folder of .txt files; from the study's folder"
    )
    text: str = Field("text", description="column that holds the note")
    record: str | None = Field(None, description="column that names the note; null numbers the rows")
    subject: str | None = Field(
        None, description="column of whole numbers that names the patient; null takes every note for a patient's only"
    )


class Text(Corpus):
    """Your own notes: a CSV or Parquet file, or a folder of text files.

    Empty notes and repeated ones are dropped by the bench. Where no column names the patient, notes of one patient
    may come to stand on both sides of the split.
    """

    name = "text"
    Options = TextOptions

    def __init__(self, options: TextOptions, context: Context) -> None:
        super().__init__(options, context)
        self.path = context.root / options.path

    def inputs(self) -> Sequence[Path]:
        """The files. Raises `BackdoorError` where there is none."""
        if not self.options.path:
            raise BackdoorError("corpora.text.path: missing; name a CSV or Parquet file or a folder of .txt files")
        if self.path.is_dir():
            files = sorted(self.path.rglob("*.txt"))
            if not files:
                raise BackdoorError(f"corpora.text.path: {self.options.path} holds no .txt file")
            return files
        if not self.path.is_file():
            raise BackdoorError(f"corpora.text.path: {self.options.path}: no such file or folder")
        if not self.path.name.endswith(_TABLES):
            raise BackdoorError(f"corpora.text.path: {self.options.path} is none of {', '.join(_TABLES)} or a folder")
        return [self.path]

    def records(self, rng: np.random.Generator) -> list[Note]:
        """The notes in the order of the file, or of the names of the files. Raises `BackdoorError` naming a column."""
        files = self.inputs()
        if self.path.is_dir():
            return [Note(_name(file, self.path), number, _read(file)) for number, file in enumerate(files)]
        columns = self._columns()
        texts = [self._written("text", "" if value is None else value) for value in columns[self.options.text]]
        record, subject = self.options.record, self.options.subject
        names = (
            [f"row-{number:06d}" for number in range(len(texts))] if record is None else self._names(columns[record])
        )
        subjects = range(len(texts)) if subject is None else self._subjects(columns[subject])
        return [Note(*row) for row in zip(names, subjects, texts, strict=True)]

    def _columns(self) -> dict[str, list[Any]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = {c for c in (self.options.text, self.options.record, self.options.subject) if c is not None}
        try:
            table = pq.read_table(self.path) if self.path.name.endswith(".parquet") else self._csv()
        except (pa.ArrowInvalid, OSError) as error:
            raise BackdoorError(f"corpora.text.path: {self.options.path}: {str(error).splitlines()[0]}") from None
        if lacking := sorted(wanted - set(table.column_names)):
            raise BackdoorError(
                f"corpora.text: {self.options.path} lacks the column {lacking[0]!r}; it has "
                f"{', '.join(name or '(no name)' for name in table.column_names)}"
            )
        if double := [name for name in sorted(wanted) if table.column_names.count(name) > 1]:
            raise BackdoorError(
                f"corpora.text: {self.options.path}: column {double[0]} is there twice; expected each name once"
            )
        return {name: table.column(name).to_pylist() for name in sorted(wanted)}

    def _csv(self) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        content = pa.input_stream(str(self.path)).read_buffer()
        view = memoryview(content)
        if not is_utf8(view[start : start + 2**20] for start in range(0, len(view), 2**20)):
            raise BackdoorError(f"corpora.text.path: {self.options.path} is not UTF-8; save it as UTF-8")
        # A row must not be longer than a block, which must be below 2 GiB; Arrow's own choice is 1 MiB.
        read = pa_csv.ReadOptions(block_size=min(content.size + 1, 2**30))
        # Notes hold line breaks; what reads as a number or a date, such as the name 001, stays as it is written.
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        as_written = (column for column in (self.options.text, self.options.record) if column is not None)
        convert = pa_csv.ConvertOptions(column_types=dict.fromkeys(as_written, pa.string()))
        return pa_csv.read_csv(pa.BufferReader(content), read, parse, convert)

    def _names(self, values: list[Any]) -> list[str]:
        if None in values or "" in values:
            row = next(row for row, value in enumerate(values) if value in (None, ""))
            raise BackdoorError(
                f"corpora.text.record: column {self.options.record!r} holds nothing in row {row + 1}; every row needs "
                "a name, or leave record out to number them"
            )
        return [self._written("record", value) for value in values]

    def _written(self, option: str, value: Any) -> str:
        if isinstance(value, bytes):
            raise BackdoorError(f"corpora.text.{option}: column {getattr(self.options, option)!r} is binary, not text")
        return str(value)

    def _subjects(self, values: list[Any]) -> list[int]:
        broken = next((row for row, value in enumerate(values) if not isinstance(value, int)), None)
        if broken is not None:
            raise BackdoorError(
                f"corpora.text.subject: column {self.options.subject!r} holds {values[broken]!r} in row {broken + 1}; "
                "every row needs a whole number"
            )
        return values


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _read(file: Path) -> str:
    try:
        # Some editors put a byte order mark in front, which is none of the note.
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BackdoorError(
            f"corpora.text.path: {file.name} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
