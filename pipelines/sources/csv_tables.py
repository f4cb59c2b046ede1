"""A CSV or Parquet file in, a table of text columns under our names out; every fault with its file and line.

Messages name files, lines, columns and what is expected; they never hold a cell.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from tqdm import tqdm

from models.errors import DataError
from pipelines.sources.csv_mapping import HospitalMapping

SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.bz2", ".parquet")
_OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_BLOCK_BYTES = 1 << 24  # a row must fit into a block, and a note may be long
_READ_FAULTS = (pa.ArrowInvalid, UnicodeError, OSError, EOFError, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class Layout:
    """Columns that a table may have.

    Args:
        name: the table: observations, stays, outcomes or notes.
        required: columns that must be there.
        optional: columns that may be there.
        one_of: at least one of these must be there, and more only where `optional` lists them too.
        repeated: columns whose texts repeat, kept as codes.
        open: whether other columns are allowed (static variables of stays).
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True)
class Sheet:
    """One file's table under our column names.

    Args:
        path: the file.
        name: which table it is.
        table: its columns: text, codes of text, or a Parquet file's own types.
        place_of_column: number of every column in the file, from 1.
        mapping: the hospital's mapping.
    """

    path: Path
    name: str
    table: pa.Table
    place_of_column: dict[str, int]
    mapping: HospitalMapping

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, column: str) -> bool:
        """Whether the file has this column."""
        return column in self.table.column_names

    def column(self, name: str) -> Any:
        """The column as one Arrow array."""
        column = self.table.column(name)
        return column.unify_dictionaries().combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def place(self, row: int) -> str:
        """File and line (or Parquet row) of a row, for messages."""
        return f"{self.path.name}, {self.lines([row])[0]}"

    def lines(self, rows: Sequence[int]) -> list[str]:
        """Lines (or Parquet rows) of rows; reads the file once more."""
        if self.path.suffix == ".parquet":
            return [f"row {row + 1}" for row in rows]
        lines = _lines_of_records(self.path, self.mapping, {row + 1 for row in rows})
        return [f"line {lines[row + 1]}" for row in rows]

    def fault(self, what: str, expectation: str, got: str, row: int, remedy: str) -> DataError:
        """The error for a row, in the project's wording."""
        return DataError(f"{what} must be {expectation}, got {got} in {self.place(row)}; {remedy}")


def read_sheet(path: Path, layout: Layout, mapping: HospitalMapping, *, progress: bool) -> Sheet:
    """Reads one file.

    Raises:
        DataError: if the file is missing, empty, malformed or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"{layout.name} must be a file, got none at {path.name}; correct the path")
    parquet = path.suffix == ".parquet"
    theirs = _parquet_header(path) if parquet else _csv_header(path, layout, mapping)
    ours = _our_names(path, theirs, layout, mapping)
    read = _read_parquet if parquet else _read_csv
    try:
        table = read(path, ours, layout, mapping, progress)
    except _READ_FAULTS:
        raise _diagnosis(path, len(theirs), mapping) from None
    renamed = table.rename_columns([ours[name] for name in table.column_names])
    return Sheet(path, layout.name, renamed, {our: theirs.index(name) + 1 for name, our in ours.items()}, mapping)


def _our_names(path: Path, theirs: list[str], layout: Layout, mapping: HospitalMapping) -> dict[str, str]:
    """Our name of every column that is read, by the hospital's name.

    Messages count columns and do not show their names: where a header line is missing or damaged, the names are a
    patient's values.
    """
    renamed = {their: our for our, their in mapping.columns.get(layout.name, {}).items()}
    ours = {name: renamed.get(name, name) for name in theirs if name not in mapping.ignore.columns}
    names = list(ours.values())
    if len(theirs) != len(set(theirs)) or len(names) != len(set(names)):
        repeated = {n for n in [*theirs, *names] if max(theirs.count(n), names.count(n)) > 1}
        twice = _places(theirs, {t for t in theirs if t in repeated or ours.get(t) in repeated})
        raise DataError(
            f"columns of {path.name} must have different names, got one twice ({twice}); rename or ignore one"
        )
    missing = [name for name in layout.required if name not in names]
    if missing or (layout.one_of and not set(names) & set(layout.one_of)):
        wanted = ", ".join(missing) or " or ".join(layout.one_of)
        raise DataError(
            f"{path.name} must begin with a header line that has the column {wanted}, got {len(theirs)} columns "
            f"without it; add it, or name yours in the mapping under [columns.{layout.name}]"
        )
    known = {*layout.required, *layout.optional, *layout.one_of}
    unknown = {their for their, our in ours.items() if our not in known}
    if unknown and not layout.open:
        raise DataError(
            f"{path.name} must have only columns among {', '.join(sorted(known))}, got others "
            f"({_places(theirs, unknown)}); rename them under [columns.{layout.name}] or leave them out under "
            "[ignore] columns = [...]"
        )
    return ours


def _places(theirs: list[str], chosen: set[str]) -> str:
    return "column " + ", ".join(str(i + 1) for i, name in enumerate(theirs) if name in chosen)


def _read_parquet(path: Path, ours: dict[str, str], _: Layout, __: HospitalMapping, ___: bool) -> pa.Table:
    table = pq.read_table(path, columns=list(ours))
    for i, column in enumerate(table.columns):
        kind = column.type
        if pa.types.is_nested(kind):
            raise DataError(f"{ours[table.column_names[i]]} of {path.name} must hold plain cells, got lists; unnest it")
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind):
            table = table.set_column(i, table.column_names[i], column.cast(pa.string()))
    return table


def _read_csv(path: Path, ours: dict[str, str], layout: Layout, mapping: HospitalMapping, progress: bool) -> pa.Table:
    codes = pa.dictionary(pa.int32(), pa.string())
    options = pacsv.ConvertOptions(
        include_columns=list(ours),
        column_types={their: codes if our in layout.repeated else pa.string() for their, our in ours.items()},
        strings_can_be_null=True,
        null_values=[""],
    )
    with _binary(path, progress=progress) as stream:
        return pacsv.read_csv(
            stream,
            read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES, encoding=_arrow_encoding(mapping)),
            parse_options=pacsv.ParseOptions(delimiter=mapping.delimiter, newlines_in_values=True),
            convert_options=options,
        )


def _arrow_encoding(mapping: HospitalMapping) -> str:
    return "utf8" if mapping.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig") else mapping.encoding


@contextmanager
def _binary(path: Path, *, progress: bool) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed; the bar counts the bytes on disk."""
    bar = tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=not progress)
    with bar, path.open("rb") as raw:
        counted: Any = _Counted(raw, bar) if progress else raw
        opener = _OPENERS.get(path.suffix)
        if opener is None:
            yield counted
        else:
            with opener(counted) as plain:
                yield plain


class _Counted:
    """A file that tells a progress bar how much of it was read."""

    def __init__(self, raw: IO[bytes], bar: Any) -> None:
        self._raw, self._bar = raw, bar

    def read(self, size: int = -1) -> bytes:
        """Reads and counts."""
        data = self._raw.read(size)
        self._bar.update(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


@contextmanager
def _records(path: Path, mapping: HospitalMapping) -> Iterator[Any]:
    """Python's slower reader, which knows lines; for the header and for faults alone."""
    csv.field_size_limit(2**31 - 1)  # a note may be longer than the default allows
    opener = _OPENERS.get(path.suffix, open)
    encoding = "utf-8-sig" if _arrow_encoding(mapping) == "utf8" else mapping.encoding
    with opener(path, "rt", encoding=encoding, newline="") as text:
        yield csv.reader(text, delimiter=mapping.delimiter)


def _csv_header(path: Path, layout: Layout, mapping: HospitalMapping) -> list[str]:
    try:
        with _records(path, mapping) as reader:
            header: list[str] | None = next((row for row in reader if row), None)
    except (*_READ_FAULTS, csv.Error):
        raise _diagnosis(path, 0, mapping) from None
    if header is None:
        names = ", ".join([*layout.required, *layout.one_of])
        raise DataError(f"{path.name} must begin with a header line such as {names}, got an empty file; write the file")
    return header


def _parquet_header(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        raise DataError(f"{path.name} must be a Parquet file, got other content; write it again") from None


def _lines_of_records(path: Path, mapping: HospitalMapping, records: set[int]) -> dict[int, int]:
    """Lines at which records begin; record 0 is the header. Blank lines are no records."""
    lines: dict[int, int] = {}
    record = before = 0
    with _records(path, mapping) as reader:
        for row in reader:
            if row and record in records:
                lines[record] = before + 1
                if len(lines) == len(records):
                    break
            record += bool(row)
            before = reader.line_num
    return lines


def _diagnosis(path: Path, columns: int, mapping: HospitalMapping) -> DataError:
    """Reads the file again, slowly, and says where it is malformed."""
    line = 0
    try:
        with _records(path, mapping) as reader:
            for row in reader:
                if row and columns and len(row) != columns:
                    return DataError(
                        f"{path.name} must have {columns} columns in every line, got {len(row)} in line {line + 1}; "
                        "quote cells that hold the delimiter or a line break"
                    )
                line = reader.line_num
    except UnicodeError:
        return DataError(
            f"{path.name} must be text in {mapping.encoding}, got other bytes in line {_undecodable(path, mapping)}; "
            'name its encoding in the mapping: encoding = "cp932"'
        )
    except (OSError, EOFError, lzma.LZMAError, zlib.error):
        return DataError(f"{path.name} must be a whole compressed file, got damaged content; copy it again")
    except csv.Error:
        return DataError(f"{path.name} must be a CSV file, got a malformed line after line {line}; write it again")
    return DataError(f"{path.name} must be a CSV file that Arrow reads, got a malformed one; write it again")


def _undecodable(path: Path, mapping: HospitalMapping) -> int:
    """First line whose bytes are not text in the encoding; 0 where every line alone is."""
    with _binary(path, progress=False) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                raw.decode(mapping.encoding)
            except UnicodeError:
                return number
    return 0
