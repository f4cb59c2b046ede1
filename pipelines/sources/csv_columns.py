"""Columns of a sheet in, numbers and codes out; what cannot be read is counted, or refused with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.stay import Floats, Ints
from pipelines.sources.csv_tables import Sheet

Mask = NDArray[np.bool_]
UNKNOWN = -1  # code of an empty cell
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: values (NaN where there is none), and why: an empty cell or missing code, or no number."""

    value: Floats
    missing: Mask
    malformed: Mask


def numbers(sheet: Sheet, name: str, *, missing_codes: bool = True) -> Numbers:
    """Reads a column of numbers; NaN and infinities are malformed.

    Args:
        sheet: the sheet.
        name: the column.
        missing_codes: whether the mapping's codes for missing values hold here: -1 is an hour of history, too.

    Raises:
        DataError: where decimals are written with a comma and the mapping does not say so.
    """
    column = sheet.column(name)
    codes_of_missing = sheet.mapping.missing if missing_codes else ()
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        return _numbers_of_text(sheet, name, column, codes_of_missing)
    value = _to_float(column.cast(pa.float64()))  # a Parquet file's own numbers
    missing = ~mask_of(column.is_valid()) | np.isin(value, [float(c) for c in codes_of_missing if re.match(_NUMBER, c)])
    malformed = ~missing & ~np.isfinite(value)
    return Numbers(np.where(missing | malformed, np.nan, value), missing, malformed)


def _numbers_of_text(sheet: Sheet, name: str, column: Any, codes_of_missing: tuple[str, ...]) -> Numbers:
    if codes_of_missing:
        coded = pc.is_in(column, value_set=pa.array(codes_of_missing, pa.string()))
        column = pc.if_else(coded, pa.scalar(None, pa.string()), column)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if sheet.mapping.decimal == ",":
        column = pc.replace_substring(column, ",", ".")
    try:
        value = _to_float(column.cast(pa.float64()))
    except pa.ArrowInvalid:
        value = _to_float(_parsable(sheet, name, column).cast(pa.float64()))
    malformed = ~missing & ~np.isfinite(value)
    return Numbers(np.where(malformed, np.nan, value), missing, malformed)


def _parsable(sheet: Sheet, name: str, column: Any) -> Any:
    """The column with null where a text is no number."""
    column = pc.utf8_trim_whitespace(column)
    if sheet.mapping.decimal == ".":
        comma = mask_of(pc.match_substring_regex(column, _DECIMAL_COMMA))
        if comma.any():
            row = int(comma.argmax())
            raise sheet.fault(name, "a number with a decimal point", "a comma", row, "set decimal = ',' in the mapping")
    number = pc.match_substring_regex(column, _NUMBER)
    column = pc.if_else(number, column, pa.scalar(None, pa.string()))
    return pc.replace_substring_regex(column, r"^\+", "")  # Arrow reads no plus sign


def codes(column: Any) -> tuple[Ints, list[str]]:
    """(rows,) code of every cell, `UNKNOWN` where empty, and the stripped text of every code."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    index = column.indices.fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    return index, [text.strip() for text in column.dictionary.cast(pa.string()).to_pylist()]


def lookup(index: Ints, target: Ints) -> Ints:
    """Targets of codes; `UNKNOWN` stays `UNKNOWN`."""
    return np.concatenate([target, np.array([UNKNOWN], dtype=np.int64)])[index]


def known_codes(sheet: Sheet, name: str, positions: Mapping[str, int], expectation: str, remedy: str) -> Ints:
    """(rows,) position of every cell's text.

    Raises:
        DataError: at the first cell that is empty or has no position.
    """
    index, texts = codes(sheet.column(name))
    found = lookup(index, np.array([positions.get(text, UNKNOWN) for text in texts], dtype=np.int64))
    if np.any(found < 0):
        row = int(np.argmax(found < 0))
        got = "an empty cell" if index[row] < 0 or not texts[index[row]] else "another one"
        raise sheet.fault(name, expectation, got, row, remedy)
    return found


def mask_of(column: Any) -> Mask:
    """(rows,) an Arrow array of truth values; null is False."""
    filled = column.fill_null(False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=bool)


def _to_float(column: Any) -> Floats:
    return np.array(column.fill_null(np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
