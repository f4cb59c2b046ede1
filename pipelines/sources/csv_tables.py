"""A CSV or Parquet file in, a table of text columns under our names out; every fault with its file and line.

Messages name files, lines, columns and what is expected; they never hold a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from models.errors import DataError
from pipelines.sources.csv_mapping import HospitalMapping
from pipelines.sources.csv_records import READ_FAULTS, csv_header, diagnosis, has_rows, lines_of_records, text_stream

SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.bz2", ".parquet")
_BLOCK_BYTES = 1 << 24  # a row must fit into a block, and a note may be long


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
        lines = lines_of_records(self.path, self.mapping, {row + 1 for row in rows})
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
    theirs = (
        _parquet_header(path)
        if parquet
        else csv_header(path, mapping, expected=", ".join([*layout.required, *layout.one_of]))
    )
    ours = _our_names(path, theirs, layout, mapping)
    read = _read_parquet if parquet else _read_csv
    try:
        table = read(path, ours, layout, mapping, progress)
    except READ_FAULTS:
        if parquet:
            raise _no_parquet(path) from None
        raise diagnosis(path, len(theirs), mapping) from None
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
    try:
        return _through_arrow(path, mapping, options, progress=progress)
    except pa.ArrowInvalid:
        if has_rows(path, mapping):
            raise
        # Arrow does not take a header without a line end for a table, and nothing is wrong with one.
        return pa.schema([(their, options.column_types[their]) for their in ours]).empty_table()


def _through_arrow(path: Path, mapping: HospitalMapping, options: pacsv.ConvertOptions, *, progress: bool) -> pa.Table:
    with text_stream(path, mapping, progress=progress) as (stream, show_progress):
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter=mapping.delimiter, newlines_in_values=True),
            convert_options=options,
        )
        batches = []
        for batch in reader:
            batches.append(batch)
            show_progress()
    return pa.Table.from_batches(batches, schema=reader.schema)


def _parquet_header(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        raise _no_parquet(path) from None


def _no_parquet(path: Path) -> DataError:
    return DataError(f"{path.name} must be a whole Parquet file, got other content; write it again")
