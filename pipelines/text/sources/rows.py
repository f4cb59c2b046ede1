"""A published table of texts in, its columns as plain texts and a group for every text out."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from models.errors import DataError
from pipelines.sources.csv_mapping import HospitalMapping, Ignored
from pipelines.sources.csv_tables import SUFFIXES, Layout, Sheet, read_sheet


def texts_of(
    path: Path, name: str, *, required: Sequence[str], optional: Sequence[str] = (), ignored: Sequence[str] = ()
) -> dict[str, list[str]]:
    """The columns of a CSV file (plain, gz, xz, bz2) or Parquet file; an empty cell is an empty text.

    Raises:
        DataError: if the file is missing, malformed or lacks a column.
    """
    layout = Layout(name=name, required=tuple(required), optional=tuple(optional))
    sheet = read_sheet(path, layout, HospitalMapping(ignore=Ignored(columns=tuple(ignored))), progress=False)
    return {column: cells(sheet, column) for column in (*required, *optional) if sheet.has(column)}


def cells(sheet: Sheet, column: str) -> list[str]:
    """A column's cells as texts; an empty one is an empty text."""
    return [cell or "" for cell in sheet.column(column).cast(pa.string()).to_pylist()]


def group_of(text: str) -> str:
    """A name for all texts that differ in spaces, width or case alone; tells nothing of the text."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def only_file(paths: Sequence[Path], pattern: str) -> Path:
    """The one file of a source: given itself, or the only one in the folder with this stem.

    Raises:
        DataError: if there is no such file, or several.
    """
    if len(paths) == 1 and paths[0].is_file():
        return paths[0]
    if absent := [path for path in paths if not path.exists()]:
        raise DataError(f"path must be a file or folder, got none at {absent[0].name}; correct the path")
    folders = [path for path in paths if path.is_dir()]
    found = [p for folder in folders for p in sorted(folder.glob(f"{pattern}*")) if p.name.endswith(SUFFIXES)]
    if len(paths) != 1 or len(found) != 1:
        raise DataError(
            f"path must be one file {pattern}.csv (plain, gz, xz or bz2) or a folder with it, "
            f"got {len(found) or len(paths)}; name one"
        )
    return found[0]
