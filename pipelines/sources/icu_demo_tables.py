"""A folder of the eICU demo in, its tables out as columns; plain and compressed CSV alike."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from models.errors import DataError
from models.stay import Floats

_OPENERS = {".csv.xz": lzma.open, ".csv.gz": gzip.open, ".csv.bz2": bz2.open, ".csv": open}
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error, pa.ArrowInvalid)


def find_folder(folder: Path, name: str) -> Path:
    """The folder itself, or the one of this name within.

    Raises:
        DataError: if there is neither.
    """
    for candidate in (folder / name, folder):
        if candidate.is_dir() and (candidate != folder or folder.name == name):
            return candidate
    raise DataError(f"{folder} must hold a folder {name}, got none; name the folder of the ICU demo")


def read_table(folder: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """These columns of a table, all as text; empty cells are null.

    Raises:
        DataError: if the table is missing or damaged, or lacks a column.
    """
    path = next((p for suffix in _OPENERS if (p := folder / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise DataError(f"{folder} must hold the table {name} as CSV, got none; fetch the folder again")
    opener = _OPENERS["".join(path.suffixes)]
    try:
        with opener(path, "rb") as stream:  # type: ignore[operator]
            table = pa_csv.read_csv(
                pa.BufferReader(stream.read()),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=list(columns),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
    except KeyError as error:
        raise DataError(
            f"{path.name} must have the columns {', '.join(columns)}, got a header without one of them; "
            "fetch the file again"
        ) from error
    except _DAMAGED as error:
        raise DataError(f"{path.name} must be a whole CSV file, got a damaged one; fetch it again") from error
    return table


def numbers(table: pa.Table, column: str) -> Floats:
    """(rows,) a column's numbers; NaN where there is none."""
    text = pc.utf8_trim_whitespace(table[column])
    number = pc.match_substring_regex(text, r"^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$")
    found = pc.cast(pc.if_else(number, text, pa.scalar(None, pa.string())), pa.float64())
    return np.array(pc.fill_null(found, float("nan")).to_pylist(), dtype=np.float64)


def texts(table: pa.Table, column: str) -> list[str]:
    """(rows) a column's texts, without space around them; empty where there is none."""
    return [str(text).strip() if text is not None else "" for text in table[column].to_pylist()]
