"""A sheet of stays in, identifiers, patients, time lines and static values out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models.channels import StaticKind, StaticVariable
from models.errors import ConfigError, DataError
from models.intake import Rejection, canonical_values
from models.stay import Floats, Ints
from pipelines.prepare_report import Tally
from pipelines.sources.csv_columns import Mask, codes, lookup, numbers
from pipelines.sources.csv_mapping import HospitalMapping
from pipelines.sources.csv_observations import StayIndex
from pipelines.sources.csv_tables import Layout, Sheet
from pipelines.sources.csv_times import Clock, instants

LAYOUT = Layout(
    name="stays",
    required=("stay_id", "patient_id"),
    optional=("admission", "discharge", "discharge_h"),
    open=True,
)


@dataclass(frozen=True)
class StayTable:
    """What a sheet of stays holds.

    Args:
        index: positions and patients of the stays.
        clock: their admissions.
        end_min: (stays,) minute of discharge.
        ended: (stays,) False where no discharge is known.
        statics: declarations of the static columns.
        static: (stays, statics) values; NaN where missing.
    """

    index: StayIndex
    clock: Clock
    end_min: Ints
    ended: Mask
    statics: tuple[StaticVariable, ...]
    static: Floats


def read_stays(sheet: Sheet, tally: Tally) -> StayTable:
    """Reads a sheet.

    Raises:
        DataError: if there is no stay, an identifier is empty or repeats, a discharge lies before the admission, or a
            column is no declared static variable.
    """
    if not len(sheet):
        raise DataError(f"{sheet.path.name} must hold at least one stay, got a header alone; write one line a stay")
    position = _positions(sheet)
    patients = _texts(sheet, "patient_id")
    clock = Clock(_admissions(sheet))
    end_min, ended = clock.minutes(sheet, "discharge", np.arange(len(sheet)), required=False)
    before = ended & (end_min < 0)
    if before.any():
        remedy = "correct one of the two times"
        raise sheet.fault("discharge", "at or after admission", "an earlier one", int(before.argmax()), remedy)
    statics = _declared(sheet)
    columns = [_static_values(sheet, variable, tally) for variable in statics]
    static = np.stack(columns, axis=1) if columns else np.zeros((len(sheet), 0))
    return StayTable(StayIndex(position, tuple(patients)), clock, end_min, ended, statics, static)


def _positions(sheet: Sheet) -> dict[str, int]:
    position: dict[str, int] = {}
    for row, name in enumerate(_texts(sheet, "stay_id")):
        if position.setdefault(name, row) != row:
            remedy = "write one line a stay"
            raise sheet.fault("stay_id", "unique", "one for the second time", row, remedy)
    return position


def _texts(sheet: Sheet, name: str) -> list[str]:
    texts = [None if text is None else text.strip() for text in sheet.column(name).cast(pa.string()).to_pylist()]
    given = [text for text in texts if text]
    if len(given) < len(texts):
        row = next(i for i, text in enumerate(texts) if not text)
        raise sheet.fault(name, "given", "an empty cell", row, "write it or drop the line")
    return given


def _admissions(sheet: Sheet) -> Ints | None:
    if not sheet.has("admission"):
        return None
    admission, known = instants(sheet, "admission")
    if not known.all():
        remedy = "write the time or drop the stay"
        raise sheet.fault("admission", "given", "an empty cell", int(np.argmin(known)), remedy)
    return admission


def _declared(sheet: Sheet) -> tuple[StaticVariable, ...]:
    """Declarations of the columns that are not the table's own, in the table's order."""
    table = sheet.mapping.static_declarations()
    columns = [name for name in sheet.table.column_names if name not in (*LAYOUT.required, *LAYOUT.optional)]
    unknown = [name for name in columns if name not in table]
    if unknown:
        places = ", ".join(str(sheet.place_of_column[name]) for name in unknown)
        raise DataError(
            f"columns of {sheet.path.name} must be static variables that are declared ({', '.join(table)}), got others "
            f"(column {places}); rename them under [columns.stays], declare them under [declare_static.<name>], or "
            "leave them out under [ignore] columns = [...]"
        )
    return tuple(variable for name, variable in table.items() if name in columns)


def _static_values(sheet: Sheet, variable: StaticVariable, tally: Tally) -> Floats:
    if variable.kind is StaticKind.CATEGORICAL:
        return _categories(sheet, variable, tally)
    column = numbers(sheet, variable.name)
    value, within = canonical_values(variable, _static_unit(sheet.mapping, variable), column.value)
    missing, malformed = int(column.missing.sum()), int(column.malformed.sum())
    tally.reject(Rejection.MISSING_CODE, missing, variable.name)
    tally.reject(Rejection.NOT_A_NUMBER, malformed, variable.name)
    tally.reject(Rejection.OUTSIDE_HARD_LIMITS, int(np.sum(~within)) - missing - malformed, variable.name)
    return np.where(within, value, np.nan)


def _static_unit(mapping: HospitalMapping, variable: StaticVariable) -> str:
    text = mapping.static_units.get(variable.name, variable.unit)
    unit = mapping.units.get(text, text)
    if variable.conversion(unit) is None:
        accepted = ", ".join([variable.unit, *variable.accepts])
        raise ConfigError(f"static_units.{variable.name} must be one of {accepted}, got {text!r}; correct the mapping")
    return unit


def _categories(sheet: Sheet, variable: StaticVariable, tally: Tally) -> Floats:
    """(stays,) index of the category; NaN where missing.

    Raises:
        DataError: at the first word that is neither a category nor mapped to one.
    """
    index, texts = codes(sheet.column(variable.name))
    position = {name: float(i) for i, name in enumerate(variable.categories)}
    words = {"": "", **dict.fromkeys(sheet.mapping.missing, "")}
    words |= {name: name for name in position} | sheet.mapping.categories.get(variable.name, {})
    missing, unknown = len(texts), len(texts) + 1
    target = [unknown if text not in words else missing if not words[text] else code for code, text in enumerate(texts)]
    found = np.where(index < 0, missing, lookup(index, np.array(target, dtype=np.int64)))
    if np.any(found == unknown):
        raise sheet.fault(
            variable.name,
            f"one of {', '.join(variable.categories)}",
            "another word",
            int(np.argmax(found == unknown)),
            f"map the word under [categories.{variable.name}] ('' = missing)",
        )
    tally.reject(Rejection.MISSING_CODE, int(np.sum(found == missing)), variable.name)
    values = [position.get(words.get(text, ""), np.nan) for text in texts]
    return np.array([*values, np.nan])[found]
