"""A sheet of observations in, columns in canonical units out; unknown names and units are refused with their lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.channels import Channel
from models.errors import DataError, UnitError
from models.intake import Columns, Rejection, canonical_values
from models.stay import Floats, Ints
from pipelines.prepare_report import Tally
from pipelines.sources.csv_columns import UNKNOWN, Mask, Numbers, codes, known_codes, lookup, numbers
from pipelines.sources.csv_mapping import HospitalMapping
from pipelines.sources.csv_tables import Layout, Sheet
from pipelines.sources.csv_times import Clock

LAYOUT = Layout(
    name="observations",
    required=("stay_id", "channel", "value"),
    optional=("unit", "patient_id", "available_time", "available_time_h", "observation_id"),
    one_of=("time", "time_h"),
    repeated=("stay_id", "patient_id", "channel", "unit"),
)
_IGNORED = -2
_SHOWN = 10  # names in one message
_LONGEST_NAME = 40
_VALUE_LIKE = re.compile(r"[\d\s.,:;+\-/TZ]*")


@dataclass(frozen=True)
class StayIndex:
    """Where stays are and whose: positions by identifier, and the patient of every stay."""

    position: dict[str, int]
    patient_id: tuple[str, ...]

    def of_rows(self, sheet: Sheet) -> Ints:
        """(rows,) position of every row's stay.

        Raises:
            DataError: at the first row of an unknown stay, or of another patient than the stay's.
        """
        remedy = "add the stay to the stays file or drop the row"
        stay = known_codes(sheet, "stay_id", self.position, "a stay of the stays file", remedy)
        if sheet.has("patient_id"):
            self._check_patients(sheet, stay)
        return stay

    def _check_patients(self, sheet: Sheet, stay: Ints) -> None:
        number = {name: i for i, name in enumerate(dict.fromkeys(self.patient_id))}
        index, texts = codes(sheet.column("patient_id"))
        given = lookup(index, np.array([number.get(text, _IGNORED) for text in texts], dtype=np.int64))
        own = np.array([number[name] for name in self.patient_id], dtype=np.int64)
        wrong = (given != own[stay]) & (given != UNKNOWN)
        if wrong.any():
            row = int(wrong.argmax())
            remedy = "correct one of the two files"
            raise sheet.fault("patient_id", "the patient of the stay in the stays file", "another one", row, remedy)


@dataclass(frozen=True)
class Observations:
    """What a sheet of observations holds: its columns, and the declarations they index."""

    columns: Columns
    channels: tuple[Channel, ...]


def read_observations(sheet: Sheet, stays: StayIndex, clock: Clock, tally: Tally) -> Observations:
    """Reads a sheet.

    Raises:
        DataError: for an unknown stay, channel or unit, a time that is none, or an observation_id with two meanings.
    """
    declared = tuple(sheet.mapping.channel_declarations().values())
    stay = stays.of_rows(sheet)
    channel = _channels(sheet, declared, tally)
    unit, units = _units(sheet)
    time_min, _ = clock.minutes(sheet, "time", stay, required=True)
    available_min = available_minutes(sheet, clock, stay, time_min)
    value = numbers(sheet, "value")
    kept = channel >= 0
    kept &= _first_of_its_id(sheet, stay, (time_min, available_min, channel, unit, value), tally)
    kept &= ~_count_unreadable(value, kept, channel, declared, tally)
    rows = np.flatnonzero(kept)
    groups = channel[rows] * (len(units) + 1) + unit[rows] + 1
    canonical = np.empty(len(rows))
    within = np.empty(len(rows), dtype=bool)
    resolved = _conversions(sheet, declared, units, rows, groups)
    for index, unit_name, group in resolved:
        canonical[group], within[group] = canonical_values(declared[index], unit_name, value.value[rows[group]])
        outside = int(np.sum(~within[group]))
        tally.reject(Rejection.OUTSIDE_HARD_LIMITS, outside, declared[index].name)
    rows = rows[within]
    return _compact(
        Columns(stay[rows], available_min[rows], channel[rows].astype(np.int16), canonical[within]), declared
    )


def _compact(columns: Columns, declared: tuple[Channel, ...]) -> Observations:
    """Keeps the declarations that occur."""
    used = np.unique(columns.channel)
    place = np.zeros(len(declared), dtype=np.int16)
    place[used] = np.arange(len(used), dtype=np.int16)
    dense = Columns(columns.stay, columns.time_min, place[columns.channel], columns.value)
    return Observations(dense, tuple(declared[i] for i in used))


def _channels(sheet: Sheet, declared: tuple[Channel, ...], tally: Tally) -> Ints:
    """(rows,) index of the channel; below 0 where the name is empty or to be ignored."""
    index, texts = codes(sheet.column("channel"))
    mapping = sheet.mapping
    named = {code: i for i, channel in enumerate(declared) for code in (channel.name, *channel.loinc)}
    positions = {text: named[target] for text, target in mapping.channels.items()}
    ignored = dict.fromkeys(mapping.ignore.channels, _IGNORED)
    known = {"": UNKNOWN, **named, **positions, **ignored}
    seen = _first_rows(index)
    unknown = [code for code in seen if code >= 0 and texts[code] not in known]
    if unknown:
        names = _listed(sheet, [(_shown(texts[code]), seen[code]) for code in unknown])
        raise DataError(
            f"channel must be a name that is declared or mapped, got {names}; map it under [channels], declare it "
            "under [declare.<name>], or leave it out under [ignore] channels = [...]"
        )
    channel = lookup(index, np.array([known.get(text, UNKNOWN) for text in texts], dtype=np.int64))
    tally.reject(Rejection.EMPTY_NAME, int(np.sum(channel == UNKNOWN)))
    _count_ignored(index, texts, ignored, tally)
    return channel


def _count_ignored(index: Ints, texts: list[str], ignored: dict[str, int], tally: Tally) -> None:
    for code, text in enumerate(texts):
        if text in ignored:
            tally.reject(Rejection.IGNORED, int(np.sum(index == code)), text)


def _units(sheet: Sheet) -> tuple[Ints, list[str]]:
    """(rows,) code of the unit's text, and the texts."""
    if not sheet.has("unit"):
        return np.full(len(sheet), UNKNOWN, dtype=np.int64), []
    index, texts = codes(sheet.column("unit"))
    blank = np.array([UNKNOWN if not text else code for code, text in enumerate(texts)], dtype=np.int64)
    return lookup(index, blank), texts


def available_minutes(sheet: Sheet, clock: Clock, stay: Ints, time_min: Ints) -> Ints:
    """(rows,) minute from which a value may be used: its time, or the later `available_time`."""
    available, known = clock.minutes(sheet, "available_time", stay, required=False)
    early = known & (available < time_min)
    if early.any():
        row = int(early.argmax())
        raise sheet.fault("available_time", "at or after time", "an earlier one", row, "correct one of the two times")
    return np.where(known, available, time_min)


def _count_unreadable(value: Numbers, kept: Mask, channel: Ints, declared: tuple[Channel, ...], tally: Tally) -> Mask:
    """Which values are empty or no numbers; counted by channel where they would be kept."""
    for reason, mask in ((Rejection.MISSING_CODE, value.missing), (Rejection.NOT_A_NUMBER, value.malformed)):
        count = np.bincount(channel[mask & kept], minlength=len(declared))
        for i in np.flatnonzero(count):
            tally.reject(reason, int(count[i]), declared[i].name)
    return value.missing | value.malformed


def _conversions(
    sheet: Sheet, declared: tuple[Channel, ...], units: list[str], rows: Ints, groups: Ints
) -> list[tuple[int, str, Ints]]:
    """Channel, UCUM unit and positions in `rows` of every pair of channel and unit.

    Raises:
        UnitError: if a channel does not accept a unit; all such pairs are named at once.
    """
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(present) else []
    found, refused = [], []
    for group, part in zip(present.tolist(), parts, strict=True):
        index, unit = divmod(group, len(units) + 1)
        text = units[unit - 1] if unit else ""
        name = _ucum(sheet.mapping, declared[index], text)
        if name is None:
            refused.append((f"{_shown(text)} of {declared[index].name}", part))
        else:
            found.append((index, name, part))
    if refused:
        raise UnitError(_unit_message(sheet, [(shown, int(rows[part].min())) for shown, part in refused]))
    return found


def _ucum(mapping: HospitalMapping, channel: Channel, text: str) -> str | None:
    """The UCUM unit that a text means for a channel; None if it means none that the channel accepts."""
    name = mapping.units.get(text, text) if text else mapping.channel_units.get(channel.name, "")
    return name if channel.conversion(name) is not None else None


def _unit_message(sheet: Sheet, refused: list[tuple[str, int]]) -> str:
    return (
        f"unit must be one that the channel accepts, got {_listed(sheet, refused)}; write the UCUM unit of a spelling "
        "under [units], a missing unit under [channel_units], or a new conversion in a channel of your own under "
        "[declare.<name>]"
    )


def _listed(sheet: Sheet, named: Sequence[tuple[str, int]]) -> str:
    """Names with the places of their first rows."""
    first = sorted(named, key=lambda item: item[1])[:_SHOWN]
    lines = sheet.lines([row for _, row in first])
    shown = [f"{name} ({line})" for (name, _), line in zip(first, lines, strict=True)]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(shown) + more + f" in {sheet.path.name}"


def _shown(name: str) -> str:
    """A hospital's name for a message; what may be a value, a time or a text in the wrong column is not shown."""
    if not name:
        return "none"
    return repr(name) if len(name) <= _LONGEST_NAME and not _VALUE_LIKE.fullmatch(name) else "a number, time or text"


def _first_rows(index: Ints) -> dict[int, int]:
    present, first = np.unique(index, return_index=True)
    return dict(zip(present.tolist(), first.tolist(), strict=True))


def _first_of_its_id(
    sheet: Sheet, stay: Ints, facts: tuple[Ints, Ints, Ints, Ints, Numbers], tally: Tally
) -> NDArray[np.bool_]:
    """Which rows are the first, or only, of their observation_id within their stay.

    Raises:
        DataError: if one identifier has two different rows.
    """
    first = np.ones(len(sheet), dtype=bool)
    if not sheet.has("observation_id"):
        return first
    identifier, _ = codes(sheet.column("observation_id"))
    rows = np.flatnonzero(identifier >= 0)
    key = stay[rows] * (int(identifier.max(initial=0)) + 1) + identifier[rows]
    _, origin, group = np.unique(key, return_index=True, return_inverse=True)
    original = rows[origin[group]]
    again = rows != original
    later, earlier = rows[again], original[again]
    columns: list[Ints | Floats] = [*facts[:4], np.where(facts[4].malformed, np.inf, facts[4].value)]
    differs = np.zeros(len(later), dtype=bool)
    for column in columns:
        left, right = column[later], column[earlier]
        differs |= (left != right) & ~(np.isnan(left) & np.isnan(right))
    if differs.any():
        i = int(differs.argmax())
        other = f"another row in {sheet.place(int(earlier[i]))} with the same one"
        raise sheet.fault("observation_id", "given to one observation", other, int(later[i]), "correct or drop one row")
    first[later] = False
    tally.reject(Rejection.DUPLICATE, len(later))
    return first
