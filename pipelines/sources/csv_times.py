"""Columns of times in, whole minutes since admission out; what is no time is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import DataError
from models.stay import Ints
from pipelines.sources.csv_columns import Mask, mask_of, numbers
from pipelines.sources.csv_mapping import Ambiguity
from pipelines.sources.csv_tables import Sheet

MICROSECONDS_PER_MINUTE = 60_000_000
# Hours such as 29/60 fall below their minute by rounding; the service uses the same millionth of a minute.
ROUNDING_MIN = 1e-6
_OFFSET = r"\d\d:\d\d.*(Z|z|[+-]\d\d:?\d\d)$"
_LOCAL = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?$"
_INSTANT = pa.timestamp("us", "UTC")
_NAIVE = pa.timestamp("us")


@dataclass(frozen=True)
class Clock:
    """The stays' time lines.

    Args:
        admission_us: (stays,) admission in microseconds since 1970, UTC; None where the stays file has none.
    """

    admission_us: Ints | None

    def minutes(self, sheet: Sheet, name: str, stay: Ints, *, required: bool) -> tuple[Ints, Mask]:
        """Whole minutes since admission, rounded down, from the column `name` or `name_h`; and which are known.

        Raises:
            DataError: at the first cell that is no time, or is empty though required.
        """
        hours = f"{name}_h"
        if sheet.has(name) and sheet.has(hours):
            raise DataError(f"{sheet.path.name} must have {name} or {hours}, got both; ignore one of them")
        if sheet.has(hours):
            minute, known = _minutes_of_hours(sheet, hours)
        elif sheet.has(name):
            minute, known = self._since_admission(sheet, name, stay)
        else:
            return np.zeros(len(sheet), dtype=np.int64), np.zeros(len(sheet), dtype=bool)
        if required and not known.all():
            column = hours if sheet.has(hours) else name
            raise sheet.fault(column, "given", "an empty cell", int(np.argmin(known)), "write the time or drop the row")
        return minute, known

    def _since_admission(self, sheet: Sheet, name: str, stay: Ints) -> tuple[Ints, Mask]:
        if self.admission_us is None:
            raise DataError(
                f"{name} of {sheet.path.name} must have admissions to count from, got a stays file without the column "
                f"admission; add it, or give {name}_h (hours since admission)"
            )
        instant, known = instants(sheet, name)
        return np.where(known, (instant - self.admission_us[stay]) // MICROSECONDS_PER_MINUTE, 0), known


def _minutes_of_hours(sheet: Sheet, name: str) -> tuple[Ints, Mask]:
    hours = numbers(sheet, name, missing_codes=False)
    wrong = hours.malformed | (np.abs(hours.value) > 1e9)
    if wrong.any():
        row = int(wrong.argmax())
        raise sheet.fault(name, "a number of hours since admission", "something else", row, "correct the cell")
    minute = np.floor(np.where(hours.missing, 0.0, hours.value) * 60.0 + ROUNDING_MIN)
    return minute.astype(np.int64), ~hours.missing


def instants(sheet: Sheet, name: str) -> tuple[Ints, Mask]:
    """(rows,) microseconds since 1970, UTC, 0 where unknown, and which cells are known.

    Raises:
        DataError: at the first cell that is no time, or has no offset while the mapping names no zone.
    """
    column = sheet.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        instant = column.cast(_INSTANT) if column.type.tz else _localised(sheet, name, column)
    else:
        instant = _parsed(sheet, name, column.cast(pa.string()))
    return instant.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), known


def _parsed(sheet: Sheet, name: str, column: Any) -> Any:
    try:
        return column.cast(_INSTANT)  # every cell with an offset: the usual and quick case
    except pa.ArrowInvalid:
        pass
    # Seven and more decimals of a second are common in exports, and Arrow reads six.
    column = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), r"(\.\d{6})\d+", r"\1")
    offset = pc.match_substring_regex(column, _OFFSET)
    nothing = pa.scalar(None, pa.string())
    aware = _cast(sheet, name, pc.if_else(offset, column, nothing), lambda cells: cells.cast(_INSTANT))
    local = pc.if_else(offset, nothing, column)
    if not local.is_valid().to_numpy(zero_copy_only=False).any():
        return aware
    return pc.coalesce(aware, _localised(sheet, name, _local_times(sheet, name, local)))


def _local_times(sheet: Sheet, name: str, column: Any) -> Any:
    """Times on the wall clock, by the mapping's pattern or ISO 8601."""
    _check_zone(sheet, name, column)
    pattern = sheet.mapping.time_format
    if pattern:
        return _cast(sheet, name, column, lambda cells: pc.strptime(cells, pattern, "us"))
    shaped = mask_of(pc.match_substring_regex(column, _LOCAL)) | mask_of(column.is_null())
    if not shaped.all():
        raise _no_time(sheet, name, int(np.argmin(shaped)))
    return _cast(sheet, name, column, lambda cells: cells.cast(_NAIVE))


def _localised(sheet: Sheet, name: str, column: Any) -> Any:
    _check_zone(sheet, name, column)
    zone, rule = sheet.mapping.timezone, sheet.mapping.ambiguous_time
    ambiguous = {Ambiguity.REFUSE: "raise", Ambiguity.EARLIER: "earliest", Ambiguity.LATER: "latest"}[rule]

    def localise(cells: Any) -> Any:
        return pc.assume_timezone(cells, zone, ambiguous=ambiguous, nonexistent="raise").cast(_INSTANT)

    row = _first_failing(column, localise)
    if row is None:
        return localise(column)
    raise sheet.fault(
        name,
        f"a local time that occurred once in {zone}",
        "one that summer time skipped or repeated",
        row,
        "write its offset, or set ambiguous_time = 'earlier' or 'later' in the mapping",
    )


def _check_zone(sheet: Sheet, name: str, column: Any) -> None:
    if sheet.mapping.timezone:
        return
    row = int(np.argmax(mask_of(column.is_valid())))
    raise sheet.fault(
        name,
        "RFC 3339 with an offset, such as 2024-05-01T08:30:00+09:00",
        "a time without one",
        row,
        "write the offset, or name the zone in the mapping: timezone = 'Asia/Tokyo'",
    )


def _cast(sheet: Sheet, name: str, column: Any, convert: Callable[[Any], Any]) -> Any:
    row = _first_failing(column, convert)
    if row is not None:
        raise _no_time(sheet, name, row)
    return convert(column)


def _no_time(sheet: Sheet, name: str, row: int) -> DataError:
    return sheet.fault(
        name,
        "a time such as 2024-05-01T08:30:00+09:00",
        "something else",
        row,
        "correct the cell, or give the pattern of local times in the mapping: time_format = '%Y/%m/%d %H:%M'",
    )


def _first_failing(column: Any, convert: Callable[[Any], Any]) -> int | None:
    """First row that `convert` refuses, by halving; None if it takes all."""

    def fails(start: int, stop: int) -> bool:
        try:
            convert(column.slice(start, stop - start))
        except (pa.ArrowInvalid, ValueError):
            return True
        return False

    start, stop = 0, len(column)
    if not fails(start, stop):
        return None
    while stop - start > 1:
        middle = (start + stop) // 2
        start, stop = (start, middle) if fails(start, middle) else (middle, stop)
    return start
