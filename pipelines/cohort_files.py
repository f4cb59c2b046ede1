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
TABLES = ("observations", "stays", "outcomes", "notes")
_ABANDONED_S = 86_400


def check_target(folder: Path) -> None:
    """Refuses a place that holds anything but a cohort, so that nothing else is ever overwritten.

    Raises:
        DataError: if there is a file, or a folder with other content.
    """
    if not folder.exists() or (folder / HEADER).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DataError(f"out must be a new folder, an empty one or a cohort, got {folder} with other content; rename")


def write_folder(tables: Mapping[str, pa.Table], header: Mapping[str, Any], folder: Path) -> None:
    """Writes to a hidden sibling and renames it, so that a killed process leaves the old cohort or none.

    Raises:
        DataError: if `folder` holds anything but a cohort, or cannot be written.
    """
    check_target(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
        try:
            _write_files(tables, header, part)
            _replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"out must be a place that can be written, got {error.strerror} at {folder}; free it"
        ) from error


def _write_files(tables: Mapping[str, pa.Table], header: Mapping[str, Any], part: Path) -> None:
    part.chmod(0o755)  # mkdtemp's 0o700 would hide the cohort from the service's other users
    for name, table in tables.items():
        # Columns of indices repeat: a dictionary halves their size. Values hardly do, and it would cost time.
        keys = [c for c in table.column_names if c in {"stay", "time_min", "channel", "outcome", "kind"}]
        pq.write_table(table, part / f"{name}.parquet", compression="zstd", use_dictionary=keys)
    (part / HEADER).write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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


def read_header(folder: Path, *, schema_version: int) -> dict[str, Any]:
    """The header of a cohort.

    Raises:
        DataError: if the folder is no cohort, or one of another schema version.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cohort must be a folder of `sequela prepare`, got {folder} without a readable {HEADER}; prepare one"
        ) from error
    if not isinstance(header, dict) or header.get("schema_version") != schema_version:
        raise DataError(f"schema version of {path} must be {schema_version}, got another one; prepare the cohort again")
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
            f"{path} must be a Parquet file of the cohort, got a missing or damaged one; prepare again"
        ) from error
