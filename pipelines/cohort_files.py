"""A cohort's tables and header in, a folder of Parquet files out, all or nothing; and back."""

from __future__ import annotations

import glob
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import DataError

HEADER = "cohort.json"
# A corpus of documents is such a folder too, told from a cohort by its header's name.
CORPUS_HEADER = "corpus.json"
TABLES = ("observations", "stays", "outcomes", "notes")
_ABANDONED_S = 86_400


def is_corpus(folder: Path) -> bool:
    """Whether the folder holds a corpus of documents."""
    return (folder / CORPUS_HEADER).is_file()


def check_target(folder: Path, *, header_name: str = HEADER) -> None:
    """Refuses a place that holds anything but a cohort (or corpus), so that nothing else is ever overwritten.

    Raises:
        DataError: if there is a file, or a folder with other content.
    """
    if not folder.exists() or (folder / header_name).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        kind = Path(header_name).stem
        raise DataError(f"out must be a new folder, an empty one or a {kind}, got {folder} with other content; rename")


def write_folder(
    tables: Mapping[str, pa.Table], header: Mapping[str, Any], folder: Path, *, header_name: str = HEADER
) -> None:
    """Writes to a hidden sibling and renames it, so that a killed process leaves the old cohort or none.

    Raises:
        DataError: if `folder` holds anything but a cohort, or cannot be written.
    """
    check_target(folder, header_name=header_name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
        try:
            _write_files(tables, part)
            text = json.dumps(header, indent=1, ensure_ascii=False)
            (part / header_name).write_text(text + "\n", encoding="utf-8")
            _replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"out must be a place that can be written, got {error.strerror} at {folder}; free it"
        ) from error


def _write_files(tables: Mapping[str, pa.Table], part: Path) -> None:
    part.chmod(0o755)  # mkdtemp's 0o700 would hide the cohort from the service's other users
    for name, table in tables.items():
        # Columns of indices repeat: a dictionary halves their size. Values hardly do, and it would cost time.
        keys = [c for c in table.column_names if c in {"stay", "time_min", "channel", "outcome", "kind"}]
        pq.write_table(table, part / f"{name}.parquet", compression="zstd", use_dictionary=keys)


def _remove_abandoned(folder: Path) -> None:
    """Removes what processes that were killed a day ago or earlier left behind."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.part-*"):
        if left.stat().st_mtime < time.time() - _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _replace(part: Path, folder: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
    folder.rename(old / folder.name)
    try:
        part.rename(folder)
    except OSError:
        (old / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def read_header(folder: Path, *, schema_version: int, header_name: str = HEADER) -> dict[str, Any]:
    """The header of a cohort (or corpus).

    Raises:
        DataError: if the folder is no cohort, or one of another schema version.
    """
    path, kind = folder / header_name, Path(header_name).stem
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{kind} must be a folder of `sequela prepare`, got {folder} without a readable {header_name}; prepare one"
        ) from error
    if not isinstance(header, dict) or header.get("schema_version") != schema_version:
        raise DataError(f"schema version of {path} must be {schema_version}, got another one; prepare the {kind} again")
    return header


def read_table(folder: Path, name: str) -> pa.Table:
    """One table of a cohort.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = folder / f"{name}.parquet"
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} must be a Parquet file of `sequela prepare`, got a missing or damaged one; prepare again"
        ) from error
