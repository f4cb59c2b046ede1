"""Delimited text files with one header in, all their rows as one Arrow table out, in one pass.

Thousands of small files cost what their bytes cost: the bodies are joined and parsed together, and row counts
tell which rows are whose. Where something does not parse, the file and line are looked for afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from models.errors import DataError
from models.stay import Ints
from pipelines.sources.ahead import one_ahead
from pipelines.sources.files import TextFile

_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Format:
    """What the files look like.

    Args:
        header: names of the columns; each file's first line.
        delimiter: one character.
        types: Arrow type of every column.
        null_values: texts that stand for a missing number.
        name_column: position of a column whose empty entries make a row void; None if there is none.
    """

    header: tuple[str, ...]
    delimiter: str
    types: dict[str, pa.DataType]
    null_values: tuple[str, ...] = ()
    name_column: int | None = None

    @property
    def first_line(self) -> bytes:
        """The header as it stands in a file."""
        return self.delimiter.join(self.header).encode("ascii")

    def parse(self, body: bytes) -> pa.Table:
        """The rows of a body without header."""
        return pa_csv.read_csv(
            pa.BufferReader(body),
            read_options=pa_csv.ReadOptions(column_names=list(self.header)),
            parse_options=pa_csv.ParseOptions(delimiter=self.delimiter, quote_char=False, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(column_types=self.types, null_values=list(self.null_values)),
        )


@dataclass(frozen=True)
class Rows:
    """Rows of some files.

    Args:
        table: one row a line, files end to end.
        files: the files.
        offsets: (files + 1,) rows of file i.
        format: how they were read.
        nameless: rows that were left out because their name is empty.
        whole: whether every line behind the header is a row; else blank and nameless lines were left out.
    """

    table: pa.Table
    files: Sequence[TextFile]
    offsets: Ints
    format: Format
    nameless: int
    whole: bool

    def file_of_row(self) -> Ints:
        """(rows,) index of the file of every row."""
        return np.repeat(np.arange(len(self.files), dtype=np.int64), np.diff(self.offsets))

    def fault(self, row: int, expected: str) -> DataError:
        """The error that says in which file and line a row is not as expected."""
        file = int(np.searchsorted(self.offsets, row, side="right")) - 1
        position = int(row - self.offsets[file])
        lines = enumerate(self.files[file].data.split(b"\n")[1:], start=2)
        number, _ = next(islice(lines if self.whole else _lines(self.files[file], self.format), position, None))
        return line_error(self.files[file].name, number, expected)


def line_error(name: str, number: int, expected: str) -> DataError:
    """The error that names a file, a line and what was expected there."""
    return DataError(f"{name}, line {number} must be {expected}, got something else; correct the line")


def read_rows(files: Iterable[TextFile], formats: Sequence[Format]) -> Iterator[Rows]:
    """Rows of the files in batches of some megabytes, so that memory stays modest.

    Args:
        files: files of one format each.
        formats: the formats that are known, told apart by their headers.

    Raises:
        DataError: if a file has another header or a line that does not parse; it names file and line.
    """
    for batch, known in one_ahead(_batches(files, formats)):
        yield _parse(batch, known)


def _batches(files: Iterable[TextFile], formats: Sequence[Format]) -> Iterator[tuple[list[TextFile], Format]]:
    """Files of one format together, some megabytes at a time."""
    batch: dict[int, list[TextFile]] = {}
    size = 0
    for file in files:
        batch.setdefault(_format_of(file, formats), []).append(file)
        size += len(file.data)
        if size >= _BATCH_BYTES:
            yield from ((group, formats[i]) for i, group in batch.items())
            batch, size = {}, 0
    yield from ((group, formats[i]) for i, group in batch.items())


def _format_of(file: TextFile, formats: Sequence[Format]) -> int:
    header = file.data.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    for i, known in enumerate(formats):
        if header == known.first_line:
            return i
    raise line_error(file.name, 1, f"the header {formats[0].first_line.decode('ascii')}")


def _parse(files: Sequence[TextFile], known: Format) -> Rows:
    head = known.first_line + b"\n"
    if all(file.data.startswith(head) and file.data.endswith(b"\n") for file in files):
        # Regular files are parsed as they are; looking at every line first would take longer than parsing them.
        counts = [file.data.count(b"\n") - 1 for file in files]
        table = _table(b"".join([memoryview(file.data)[len(head) :] for file in files]), known)
        if table is not None and table.num_rows == sum(counts):
            return Rows(table, files, _offsets(counts), known, nameless=0, whole=True)
    kept = [[text for _, text in _lines(file, known)] for file in files]
    nameless = sum(1 for file in files for line in file.data.split(b"\n")[1:] if _is_nameless(line, known))
    table = _table(b"".join(line + b"\n" for lines in kept for line in lines), known)
    if table is None or table.num_rows != sum(map(len, kept)):
        raise _find_fault(files, known)
    return Rows(table, files, _offsets([len(lines) for lines in kept]), known, nameless=nameless, whole=False)


def _table(body: bytes, known: Format) -> pa.Table | None:
    """The rows of a body; None if a line does not parse."""
    try:
        return known.parse(body) if body else _empty(known)
    except pa.ArrowException:
        return None


def _offsets(counts: Sequence[int]) -> Ints:
    return np.cumsum([0, *counts], dtype=np.int64)


def _empty(known: Format) -> pa.Table:
    return pa.schema([(name, known.types[name]) for name in known.header]).empty_table()


def _lines(file: TextFile, known: Format) -> Iterator[tuple[int, bytes]]:
    """Number and text of every line that is a row."""
    for number, line in enumerate(file.data.split(b"\n")[1:], start=2):
        if line.strip() and not _is_nameless(line, known):
            yield number, line.rstrip(b"\r")


def _is_nameless(line: bytes, known: Format) -> bool:
    if known.name_column is None:
        return False
    fields = line.split(known.delimiter.encode("ascii"))
    return len(fields) > known.name_column and not fields[known.name_column].strip()


def _find_fault(files: Sequence[TextFile], known: Format) -> DataError:
    """The first line that the parser refuses; the parser itself decides, so that both agree."""
    for file in files:
        lines = list(_lines(file, known))
        table = _table(b"".join(text + b"\n" for _, text in lines), known)
        if table is None or table.num_rows != len(lines):
            for number, text in lines:
                if expected := _expectation(text, known):
                    return line_error(file.name, number, expected)
    return DataError(f"{files[0].name} and the files behind it must be text tables, got some other content; check them")


def _expectation(line: bytes, known: Format) -> str:
    """What a line that does not parse should have been; empty for one that does."""
    fields = line.split(known.delimiter.encode("ascii"))
    if len(fields) != len(known.header):
        return f"{len(known.header)} fields separated by {known.delimiter!r} (here {len(fields)})"
    if _table(line + b"\n", known) is not None:
        return ""
    for name, field in zip(known.header, fields, strict=True):
        if pa.types.is_floating(known.types[name]) and not _is_number(field):
            return f"a row whose {name} is a number"
    return f"a row of {known.first_line.decode('ascii')} in UTF-8"


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
