"""A sheet of outcomes in, known outcomes with their times out."""

from __future__ import annotations

import numpy as np

from models.stay import Floats, Ints
from pipelines.outcomes import Outcomes
from pipelines.sources.csv_columns import Mask, codes, numbers
from pipelines.sources.csv_mapping import Absent, OutcomeRule
from pipelines.sources.csv_observations import StayIndex
from pipelines.sources.csv_tables import Layout, Sheet
from pipelines.sources.csv_times import Clock

LAYOUT = Layout(
    name="outcomes",
    required=("stay_id", "outcome"),
    optional=("patient_id",),
    one_of=("time", "time_h", "value"),
    repeated=("stay_id", "patient_id", "outcome", "value"),
)


def read_outcomes(sheet: Sheet, stays: StayIndex, clock: Clock) -> Outcomes:
    """Reads a sheet.

    A row has a value, a time, or both; a time alone means that the outcome occurred. An outcome none of whose rows has
    a value is an event: an empty time, and by the mapping's default a stay without a row, means that it did not occur.

    Raises:
        DataError: for an unknown stay, a value that is no number, or a stay and outcome with two different rows.
    """
    stay = stays.of_rows(sheet)
    name, names = _names(sheet)
    minute, timed = clock.minutes(sheet, "time", stay, required=False)
    value = _values(sheet, name, names)
    events = _events(name, value, len(names))
    value = np.where(np.isnan(value) & timed, 1.0, value)
    value = np.where(np.isnan(value) & events[name], 0.0, value)
    time_min = np.where(timed, minute, np.nan)
    kept = _once(sheet, stay, name, (value, time_min)) & ~np.isnan(value)
    columns = {}
    for code, text in enumerate(names):
        rows = np.flatnonzero(kept & (name == code))
        absent = sheet.mapping.outcomes.get(text, OutcomeRule()).absent
        fill = 0.0 if events[code] and absent is Absent.NO_EVENT else np.nan
        columns[text] = _by_stay(len(stays.position), stay[rows], value[rows], time_min[rows], fill)
    return Outcomes.from_columns(columns)


def _by_stay(stays: int, stay: Ints, value: Floats, time_min: Floats, fill: float) -> tuple[Floats, Floats]:
    values, times = np.full(stays, fill), np.full(stays, np.nan)
    values[stay], times[stay] = value, time_min
    return values, times


def _names(sheet: Sheet) -> tuple[Ints, list[str]]:
    code, texts = codes(sheet.column("outcome"))
    blank = (code < 0) | np.array([not text for text in [*texts, ""]])[code]
    if blank.any():
        remedy = "name the outcome or drop the row"
        raise sheet.fault("outcome", "given", "an empty cell", int(blank.argmax()), remedy)
    names = list(dict.fromkeys(texts))
    return np.array([names.index(text) for text in texts] or [0], dtype=np.int64)[code], names


def _values(sheet: Sheet, name: Ints, names: list[str]) -> Floats:
    """(rows,) values; NaN where the cell is empty. Words are numbers by the mapping's `[outcomes.<name>.values]`."""
    if not sheet.has("value"):
        return np.full(len(sheet), np.nan)
    column = numbers(sheet, "value")
    value, unread = column.value.copy(), column.malformed.copy()
    index, texts = codes(sheet.column("value"))
    for code, text in enumerate(names):
        words = sheet.mapping.outcomes.get(text, OutcomeRule()).values
        if words:  # a mapped word wins over a number: in some files 1 is alive and 2 is dead
            number = np.array([*(words.get(word, np.nan) for word in texts), np.nan])[index]
            rows = np.flatnonzero(~np.isnan(number) & (name == code))
            value[rows], unread[rows] = number[rows], False
    if unread.any():
        remedy = "give the number of the word under [outcomes.<name>.values]"
        raise sheet.fault("value", "a number", "something else", int(unread.argmax()), remedy)
    return value


def _events(name: Ints, value: Floats, names: int) -> Mask:
    """(names,) outcomes none of whose rows has a value."""
    return np.asarray(np.bincount(name[~np.isnan(value)], minlength=names) == 0)


def _once(sheet: Sheet, stay: Ints, name: Ints, facts: tuple[Floats, Floats]) -> Mask:
    """Which rows are the first of their stay and outcome.

    Raises:
        DataError: if a stay has one outcome twice, differently.
    """
    key = stay * (int(name.max(initial=0)) + 1) + name
    _, origin, group = np.unique(key, return_index=True, return_inverse=True)
    first = origin[group]
    differs = np.zeros(len(sheet), dtype=bool)
    for fact in facts:
        differs |= (fact != fact[first]) & ~(np.isnan(fact) & np.isnan(fact[first]))
    if differs.any():
        row = int(differs.argmax())
        other = f"another value or time in {sheet.place(int(first[row]))}"
        raise sheet.fault("outcome", "given once a stay", other, row, "correct or drop one row")
    return np.asarray(first == np.arange(len(sheet)))
