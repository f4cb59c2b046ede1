"""Rows of text and numbers in, stays as columns out: what a pyfunc or a table can say of a stay.

A row is one stay so far. Its columns hold what the body of `POST /v1/score` holds, as JSON text:

| column | holds |
|---|---|
| `observations` | `[{"channel": "heart_rate", "time_h": 0.5, "value": 96, "unit": "/min"}, ...]` |
| `notes` | optional: `[{"time_h": 1.5, "kind": "progress", "text": "..."}, ...]` |
| `static` | optional: `{"age": {"value": 63, "unit": "a"}, "sex": "female"}` |
| `as_of_h` | optional number: hour of the last score; by default that of the last input |
| `stay_id` | optional text; by default the row's number |

An item may hold `available_time_h`, the hour at which it became known, if that was later. A channel may be
named by `loinc:` and its code. An unknown channel, unit or static variable is refused; a value that is null
or outside the hard limits is left out and counted, as in the service.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.channel_table import CHANNELS, STATICS
from models.channels import Channel, StaticKind, StaticVariable
from models.errors import DataError, UnitError
from models.intake import Columns, NoteColumns, build_stays, canonical_values
from models.stay import Stays

MINUTES_PER_HOUR = 60.0
# Hours such as 29/60 fall below their minute by rounding; a millionth of a minute brings them back.
ROUNDING = 1e-6
MAX_HOURS = 1_000_000.0
OBSERVATION_KEYS = frozenset({"channel", "time_h", "value", "unit", "available_time_h", "observation_id"})
NOTE_KEYS = frozenset({"time_h", "kind", "text", "available_time_h"})


class RowReader:
    """Reads rows for one model.

    Args:
        bundle: the model's facts: its channels and static variables go before the channel table's.
    """

    def __init__(self, bundle: Bundle) -> None:
        own, own_statics = {c.name for c in bundle.channels}, {s.name for s in bundle.statics}
        self.channels = (*bundle.channels, *(c for c in CHANNELS if c.name not in own))
        self.statics = (*bundle.statics, *(s for s in STATICS if s.name not in own_statics))
        self._static_index = {s.name: i for i, s in enumerate(self.statics)}
        self._index: dict[str, int] = {}
        for position, channel in enumerate(self.channels):
            self._index.setdefault(channel.name, position)
            for code in channel.loinc:
                self._index.setdefault(f"loinc:{code}", position)

    def read(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Stays, list[int]]:
        """The stays, and how many inputs of each were left out.

        Raises:
            DataError: naming the row, the column and the item that does not hold, never their content.
        """
        end, rejected = np.zeros(len(rows), dtype=np.int64), []
        values: list[tuple[int, int, int, float]] = []
        notes: list[tuple[int, int, str, str]] = []
        static = np.full((len(rows), len(self.statics)), np.nan)
        for i, row in enumerate(rows):
            own_values, own_notes, left_out = self._read_inputs(i, row)
            end[i] = _end_minute(i, row, [v[1] for v in own_values] + [n[1] for n in own_notes])
            kept_values = [v for v in own_values if v[1] <= end[i]]
            kept_notes = [n for n in own_notes if n[1] <= end[i]]
            rejected.append(left_out + len(own_values) + len(own_notes) - len(kept_values) - len(kept_notes))
            values += kept_values
            notes += kept_notes
            static[i] = self._read_static(i, _parse(i, row, "static", dict))
        return self._build(rows, end, values, notes, static), rejected

    def _build(
        self,
        rows: Sequence[Mapping[str, Any]],
        end: np.ndarray[Any, np.dtype[np.int64]],
        values: list[tuple[int, int, int, float]],
        notes: list[tuple[int, int, str, str]],
        static: np.ndarray[Any, np.dtype[np.float64]],
    ) -> Stays:
        stays, _ = build_stays(
            stay_id=[f"row-{i}" for i in range(len(rows))],
            end_min=end,
            columns=Columns(
                stay=np.array([v[0] for v in values], dtype=np.int64),
                time_min=np.array([v[1] for v in values], dtype=np.int64),
                channel=np.array([v[2] for v in values], dtype=np.int16),
                value=np.array([v[3] for v in values], dtype=np.float64),
            ),
            channels=[c.name for c in self.channels],
            static=static,
            static_names=[s.name for s in self.statics],
            notes=NoteColumns(
                stay=np.array([n[0] for n in notes], dtype=np.int64),
                time_min=np.array([n[1] for n in notes], dtype=np.int64),
                kind=[n[2] for n in notes],
                text=[n[3] for n in notes],
            ),
        )
        return stays

    def _read_inputs(
        self, i: int, row: Mapping[str, Any]
    ) -> tuple[list[tuple[int, int, int, float]], list[tuple[int, int, str, str]], int]:
        values, notes, left_out = [], [], 0
        for j, item in enumerate(_parse(i, row, "observations", list)):
            where = f"row {i}, observations[{j}]"
            minute = _minute(_fields(item, OBSERVATION_KEYS, ("channel", "time_h", "value", "unit"), where), where)
            channel = self._index.get(item["channel"]) if isinstance(item["channel"], str) else None
            if channel is None:
                raise DataError(f"{where}.channel must be a known channel, got another name; see the model's channels")
            value = _canonical(self.channels[channel], item["unit"], item["value"], where)
            if value is None:
                left_out += 1
            else:
                values.append((i, minute, channel, value))
        for j, item in enumerate(_parse(i, row, "notes", list)):
            where = f"row {i}, notes[{j}]"
            minute = _minute(_fields(item, NOTE_KEYS, ("time_h", "text"), where), where)
            kind, text = item.get("kind", "note"), item["text"]
            if not isinstance(kind, str) or not isinstance(text, str) or not text:
                raise DataError(f"{where} must hold text, got something else; send kind and text as text")
            notes.append((i, minute, kind, text))
        return values, notes, left_out

    def _read_static(self, i: int, given: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = np.full(len(self.statics), np.nan)
        for name, value in given.items():
            index = self._static_index.get(name)
            if index is None:
                raise DataError(f"row {i}, static must hold known variables, got another name; see the model's")
            values[index] = _static(self.statics[index], value, f"row {i}, static.{name}")
        return values


def _static(declared: StaticVariable, value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if declared.kind is StaticKind.CATEGORICAL:
        if value not in declared.categories:
            raise DataError(f"{where} must be one of {', '.join(declared.categories)}, got another; choose one of them")
        return float(declared.categories.index(value))
    fields = _fields(value, frozenset({"value", "unit"}), ("value", "unit"), where)
    found = _canonical(declared, fields["unit"], fields["value"], where)
    return math.nan if found is None else found


def _canonical(declared: Channel | StaticVariable, unit: Any, value: Any, where: str) -> float | None:
    """The value in the canonical unit; None if it is missing or outside the hard limits."""
    if not isinstance(unit, str) or declared.conversion(unit) is None:
        accepted = ", ".join([declared.unit, *declared.accepts])
        raise UnitError(f"{where}.unit must be one of {accepted}, got another; convert the value")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}.value must be a number or null, got {type(value).__name__}; send a number")
    converted, within = canonical_values(declared, unit, np.array([value], dtype=np.float64))
    return float(converted[0]) if within[0] else None


def _parse(i: int, row: Mapping[str, Any], column: str, kind: type[Any]) -> Any:
    text = row.get(column)
    if text is None or text == "" or (isinstance(text, float) and math.isnan(text)):
        return kind()
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (TypeError, ValueError):
        raise DataError(f"row {i}, {column} must be JSON text, got something else; see the columns' form") from None
    if not isinstance(value, kind):
        raise DataError(f"row {i}, {column} must be a JSON {kind.__name__}, got another form; see the columns' form")
    return value


def _refuse_constant(_: str) -> float:
    raise ValueError("NaN and infinities are not JSON")


def _fields(item: Any, known: frozenset[str], needed: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(item, Mapping) or set(item) - known or set(needed) - set(item):
        raise DataError(f"{where} must hold {', '.join(needed)} and no unknown key, got another form; correct the item")
    return item


def _minute(item: Mapping[str, Any], where: str) -> int:
    minutes = [_whole_minute(item[key], f"{where}.{key}") for key in ("time_h", "available_time_h") if key in item]
    return max(minutes)


def _whole_minute(hours: Any, where: str) -> int:
    number = isinstance(hours, int | float | np.number) and not isinstance(hours, bool)
    if not number or not abs(hours) <= MAX_HOURS:
        raise DataError(f"{where} must be hours since admission, got another value; send a number")
    return math.floor(float(hours) * MINUTES_PER_HOUR + ROUNDING)


def _end_minute(i: int, row: Mapping[str, Any], minutes: list[int]) -> int:
    as_of = row.get("as_of_h")
    if as_of is None or (isinstance(as_of, float) and math.isnan(as_of)):
        return max([0, *minutes])
    end = _whole_minute(as_of, f"row {i}, as_of_h")
    if end < 0:
        raise DataError(f"row {i}, as_of_h must not lie before admission, got a negative number; send 0 or more")
    return end
