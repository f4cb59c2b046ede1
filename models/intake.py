"""Raw values in, `Stays` out: unit conversion, hard limits, sorting and the removal of duplicates.

Every source and the service come through here, so that a value means the same in training and serving.
Nothing is guessed: an unknown unit is refused, a value outside hard limits is rejected and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.channels import Channel, Conversion, StaticVariable
from models.errors import DataError, UnitError
from models.stay import Floats, Ints, Stays

Mask = NDArray[np.bool_]


class Rejection(StrEnum):
    """Why a value did not enter a stay."""

    NOT_A_NUMBER = "not_a_number"
    OUTSIDE_HARD_LIMITS = "outside_hard_limits"
    MISSING_CODE = "missing_code"
    DUPLICATE = "duplicate"
    AFTER_END = "after_end"
    EMPTY_NAME = "empty_name"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_STAY = "unknown_stay"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Columns:
    """Observations in any order, in canonical units.

    Args:
        stay: (m,) index of the stay, at least 0.
        time_min: (m,) minutes since admission at which the value was available.
        channel: (m,) index of the channel.
        value: (m,) finite.
    """

    stay: Ints
    time_min: Ints
    channel: NDArray[np.int16]
    value: Floats


@dataclass(frozen=True)
class NoteColumns:
    """Notes in any order: index of the stay, charted minute, kind and text of each."""

    stay: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    time_min: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    kind: Sequence[str] = ()
    text: Sequence[str] = ()


def canonical_values(declared: Channel | StaticVariable, unit: str, values: Floats) -> tuple[Floats, Mask]:
    """Converts values and says which of them lie within hard limits.

    Args:
        declared: the channel or numeric static variable.
        unit: UCUM unit of the values.
        values: any shape; NaN and infinities are outside the limits.

    Raises:
        UnitError: if the channel does not accept the unit.

    Example:
        >>> from models.channel_table import channel_by_name
        >>> value, within = canonical_values(channel_by_name("fio2"), "1", np.array([0.5, 40.0]))
        >>> value.tolist(), within.tolist()
        ([50.0, 4000.0], [True, False])
    """
    conversion = _conversion(declared, unit)
    # A number too great for its conversion becomes infinite, and so lies outside the limits.
    with np.errstate(over="ignore"):
        converted = np.asarray(values, dtype=np.float64) * conversion.factor + conversion.offset
    low, high = declared.hard
    return converted, (converted >= low) & (converted <= high)


def canonical_columns(
    channels: Sequence[Channel], units: Sequence[str], channel: NDArray[np.int16], values: Floats
) -> tuple[Floats, Mask]:
    """`canonical_values` of many channels at once.

    Args:
        channels: the channels.
        units: UCUM unit of each channel's values.
        channel: (m,) index into `channels`.
        values: (m,) in the units given.

    Raises:
        UnitError: if a channel does not accept its unit.
    """
    conversions = [_conversion(declared, unit) for declared, unit in zip(channels, units, strict=True)]
    factor, offset = (np.array([getattr(c, part) for c in conversions]) for part in ("factor", "offset"))
    low, high = (np.array([declared.hard[side] for declared in channels], dtype=np.float64) for side in (0, 1))
    with np.errstate(over="ignore"):
        converted = values * factor[channel] + offset[channel]
    return converted, (converted >= low[channel]) & (converted <= high[channel])


def _conversion(declared: Channel | StaticVariable, unit: str) -> Conversion:
    conversion = declared.conversion(unit)
    if conversion is None:
        accepted = ", ".join([declared.unit, *declared.accepts])
        raise UnitError(
            f"unit of {declared.name} must be one of {accepted}, got another unit; convert it or declare its unit"
        )
    return conversion


def outside_soft_limits(channels: Sequence[Channel], channel: NDArray[np.int16], value: Floats) -> Mask:
    """(m,) which values lie within hard but outside soft limits: kept, and flagged."""
    low = np.array([c.soft[0] if c.soft else -np.inf for c in channels] or [-np.inf])
    high = np.array([c.soft[1] if c.soft else np.inf for c in channels] or [np.inf])
    return (value < low[channel]) | (value > high[channel])


def build_stays(
    *,
    stay_id: Sequence[str],
    end_min: Ints,
    columns: Columns,
    channels: Sequence[str],
    static: Floats,
    static_names: Sequence[str],
    notes: NoteColumns | None = None,
) -> tuple[Stays, Counter[Rejection]]:
    """Sorts rows and notes of any order into stays; drops late ones and exact duplicates, and counts them.

    Args:
        stay_id: n unique identifiers, which `columns.stay` and `notes.stay` index.
        end_min: (n,) last minute of each stay.
        columns: observations.
        channels: names, which `columns.channel` indexes.
        static: (n, s), NaN where missing.
        static_names: s names.
        notes: notes, if there are any.

    Raises:
        DataError: if identifiers repeat, an index points nowhere or a value is not finite.
    """
    _check_columns(columns, stay_id=stay_id, channels=len(channels))
    end = np.asarray(end_min, dtype=np.int64)
    rejected: Counter[Rejection] = Counter()
    kept, offsets = _sorted_rows(columns, end, rejected)
    stays = Stays(
        stay_id=tuple(stay_id),
        end_min=end,
        offsets=offsets,
        time_min=kept.time_min.astype(np.int64, copy=False),
        channel=kept.channel.astype(np.int16, copy=False),
        value=kept.value,
        channels=tuple(channels),
        static=np.asarray(static, dtype=np.float64),
        static_names=tuple(static_names),
    )
    return _with_notes(stays, notes or NoteColumns(), rejected), +rejected


def _check_columns(columns: Columns, *, stay_id: Sequence[str], channels: int) -> None:
    if len(set(stay_id)) != len(stay_id):
        raise DataError("stay_id must be unique, got one twice; give every stay once")
    lengths = {len(columns.stay), len(columns.time_min), len(columns.channel), len(columns.value)}
    if len(lengths) > 1:
        raise DataError(f"columns must be of one length, got lengths {sorted(lengths)}; give columns that fit")
    for name, index, count in (("stay", columns.stay, len(stay_id)), ("channel", columns.channel, channels)):
        if len(index) and (index.min() < 0 or index.max() >= count):
            raise DataError(f"{name} must index {count} entries, got an index beyond them; give indices from 0")
    if not np.isfinite(columns.value).all():
        raise DataError("value must be finite, got NaN or infinity; reject such values before")


def _sorted_rows(columns: Columns, end: Ints, rejected: Counter[Rejection]) -> tuple[Columns, Ints]:
    late = columns.time_min > end[columns.stay] if len(columns.stay) else np.zeros(0, dtype=bool)
    if late.any():
        rejected[Rejection.AFTER_END] += int(late.sum())
        columns = _take(columns, np.flatnonzero(~late))
    columns = _take(columns, _sort_order(columns))
    # Minus zero equals zero but has other bits: without this, equal facts could give unequal fingerprints.
    columns = replace(columns, value=columns.value + 0.0)
    repeated = np.zeros(len(columns.stay), dtype=bool)
    repeated[1:] = columns.value[1:] == columns.value[:-1]
    for column in (columns.time_min, columns.stay, columns.channel):
        repeated[1:] &= column[1:] == column[:-1]
    if repeated.any():
        rejected[Rejection.DUPLICATE] += int(repeated.sum())
        columns = _take(columns, np.flatnonzero(~repeated))
    return columns, np.searchsorted(columns.stay, np.arange(len(end) + 1)).astype(np.int64)


def _take(columns: Columns, rows: Ints | slice) -> Columns:
    return Columns(columns.stay[rows], columns.time_min[rows], columns.channel[rows], columns.value[rows])


def _sort_order(columns: Columns) -> Ints | slice:
    """Order by (stay, time, channel, value).

    The first three are packed into one integer, and rows that are in order already (most files are) cost one
    comparison: sorting two million rows by four keys would take longer than reading them.
    """
    key = _packed_key(columns)
    if key is None:
        return np.lexsort((columns.value, columns.channel, columns.time_min, columns.stay))
    if np.all(key[1:] >= key[:-1]):
        ties = key[1:] == key[:-1]
        if not np.any(ties & (columns.value[1:] < columns.value[:-1])):
            return slice(None)
    order = np.argsort(key, kind="stable")
    key, value = key[order], columns.value[order]
    ties = key[1:] == key[:-1]
    tied = np.flatnonzero(np.r_[ties, False] | np.r_[False, ties]) if len(key) else np.zeros(0, dtype=np.int64)
    order[tied] = order[tied][np.lexsort((value[tied], key[tied]))]
    return order


def _packed_key(columns: Columns) -> Ints | None:
    """(stay, time, channel) as one integer; None where 63 bits do not hold it."""
    if not len(columns.stay):
        return np.zeros(0, dtype=np.int64)
    first = int(columns.time_min.min())
    times = int(columns.time_min.max()) - first + 1
    channels = int(columns.channel.max()) + 1
    if (int(columns.stay.max()) + 1) * times * channels >= 2**63:
        return None
    return (columns.stay.astype(np.int64) * times + (columns.time_min - first)) * channels + columns.channel


def _with_notes(stays: Stays, notes: NoteColumns, rejected: Counter[Rejection]) -> Stays:
    """The stays with their notes, sorted by (stay, time, kind, text)."""
    order, offsets = _sorted_notes(notes, stays.end_min, rejected)
    return replace(
        stays,
        note_offsets=offsets,
        note_time_min=np.array([notes.time_min[i] for i in order], dtype=np.int64),
        note_kind=tuple(notes.kind[i] for i in order),
        note_text=tuple(notes.text[i] for i in order),
    )


def _sorted_notes(notes: NoteColumns, end: Ints, rejected: Counter[Rejection]) -> tuple[list[int], Ints]:
    """Order of the kept notes by (stay, time, kind, text), and their offsets."""
    if {len(notes.stay), len(notes.time_min), len(notes.kind)} != {len(notes.text)}:
        raise DataError("note columns must be of one length, got several lengths; give columns that fit")
    if len(notes.stay) and (notes.stay.min() < 0 or notes.stay.max() >= len(end)):
        raise DataError(f"stay of a note must index {len(end)} entries, got an index beyond them; give indices from 0")
    late = notes.time_min > end[notes.stay] if len(notes.stay) else np.zeros(0, dtype=bool)
    keys: dict[tuple[int, int, str, str], int] = {}
    for i in np.flatnonzero(~late).tolist():
        keys.setdefault((int(notes.stay[i]), int(notes.time_min[i]), notes.kind[i], notes.text[i]), i)
    rejected[Rejection.AFTER_END] += int(late.sum())
    rejected[Rejection.DUPLICATE] += len(late) - int(late.sum()) - len(keys)
    ordered = sorted(keys)
    stay = np.array([k[0] for k in ordered], dtype=np.int64)
    return [keys[k] for k in ordered], np.searchsorted(stay, np.arange(len(end) + 1)).astype(np.int64)
