"""PhysioNet/CinC Challenge 2012 in (per-stay text files of the first 48 ICU hours, outcomes file), a cohort out.

Each file holds rows `Time,Parameter,Value`. At 00:00 stand the record's number and the descriptors known at
admission; -1 is the missing code. A weight after 00:00 is a measured channel, at 00:00 the admission weight.

Source: Silva et al. 2012, Predicting In-Hospital Mortality of ICU Patients: The PhysioNet/Computing in
Cardiology Challenge 2012.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.channel_table import channel_by_name, static_by_name
from models.errors import DataError
from models.intake import Rejection, build_stays, canonical_columns, canonical_values
from models.stay import Floats, Ints
from pipelines.arrow import numbers_from_arrow
from pipelines.cohort import Cohort, make_cohort
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import Tally
from pipelines.sources.challenge2012_outcomes import read_outcomes
from pipelines.sources.files import read_files
from pipelines.sources.gathered import Gathered
from pipelines.sources.text_rows import Format, Rows, read_rows

SOURCE = "PhysioNet/CinC Challenge 2012"
LICENCE = "ODC-By 1.0"
END_MIN = 48 * 60
MISSING_CODE = -1.0

# The source's name, our channel and the source's unit.
PARAMETERS = {
    "ALP": ("alp", "[IU]/L"),
    "ALT": ("alt", "[IU]/L"),
    "AST": ("ast", "[IU]/L"),
    "Albumin": ("albumin", "g/dL"),
    "BUN": ("bun", "mg/dL"),
    "Bilirubin": ("bilirubin_total", "mg/dL"),
    "Cholesterol": ("cholesterol", "mg/dL"),
    "Creatinine": ("creatinine", "mg/dL"),
    "DiasABP": ("dbp", "mm[Hg]"),
    "FiO2": ("fio2", "1"),
    "GCS": ("gcs", "{score}"),
    "Glucose": ("glucose", "mg/dL"),
    "HCO3": ("bicarbonate", "mmol/L"),
    "HCT": ("hematocrit", "%"),
    "HR": ("heart_rate", "/min"),
    "K": ("potassium", "meq/L"),
    "Lactate": ("lactate", "mmol/L"),
    "MAP": ("map", "mm[Hg]"),
    "MechVent": ("mech_vent", "1"),
    # The challenge's page says mmol/L; the laboratory that measured (MIMIC-II) reports magnesium in mg/dL.
    "Mg": ("magnesium", "mg/dL"),
    "NIDiasABP": ("nidbp", "mm[Hg]"),
    "NIMAP": ("nimap", "mm[Hg]"),
    "NISysABP": ("nisbp", "mm[Hg]"),
    "Na": ("sodium", "meq/L"),
    "PaCO2": ("paco2", "mm[Hg]"),
    "PaO2": ("pao2", "mm[Hg]"),
    "Platelets": ("platelets", "10*9/L"),
    "RespRate": ("respiratory_rate", "/min"),
    "SaO2": ("sao2", "%"),
    "SysABP": ("sbp", "mm[Hg]"),
    "Temp": ("temperature", "Cel"),
    "TroponinI": ("troponin_i", "ug/L"),
    "TroponinT": ("troponin_t", "ug/L"),
    "Urine": ("urine_output", "mL"),
    "WBC": ("wbc", "10*9/L"),
    "Weight": ("weight", "kg"),
    "pH": ("ph", "[pH]"),
}
CHANNELS = tuple(channel_by_name(name) for name, _ in PARAMETERS.values())
UNITS = tuple(unit for _, unit in PARAMETERS.values())

RECORD = "RecordID"
# The source's name, our static variable, and the source's unit or the codes of its categories.
DESCRIPTORS: dict[str, tuple[str, str | tuple[float, ...]]] = {
    "Age": ("age", "a"),
    "Gender": ("sex", (0.0, 1.0)),
    "Height": ("height", "cm"),
    "ICUType": ("icu_type", (1.0, 2.0, 3.0, 4.0)),
    "Weight": ("admission_weight", "kg"),
}
STATICS = tuple(static_by_name(name) for name, _ in DESCRIPTORS.values())

_TEXT = pa.dictionary(pa.int32(), pa.string())
FORMAT = Format(
    header=("Time", "Parameter", "Value"),
    delimiter=",",
    types={"Time": _TEXT, "Parameter": _TEXT, "Value": pa.float64()},
    name_column=1,
)
_NAMES = (*PARAMETERS, RECORD, *(name for name in DESCRIPTORS if name not in PARAMETERS))
_UNKNOWN, _NAMELESS = -1, -2


@dataclass
class _Read:
    """What was read so far: observations, and a piece a batch of what each file says of its stay."""

    observations: Gathered = field(default_factory=Gathered)
    record: list[Ints] = field(default_factory=list)
    static: list[Floats] = field(default_factory=list)


def read(paths: Sequence[Path], *, outcomes: Path | None = None, progress: bool = False) -> Cohort:
    """Reads folders, archives or files of per-stay text files.

    Args:
        paths: where the stays' files are; their order does not matter.
        outcomes: the outcomes file; without it no stay is labelled.
        progress: whether to show a bar on standard error.

    Raises:
        DataError: if something is malformed; the message says which file, which line and what is expected.
    """
    tally, read_so_far = Tally(), _Read()
    for rows in read_rows(read_files(paths, suffix=".txt", progress=progress), [FORMAT]):
        _add(rows, read_so_far, tally)
    return _assemble(read_so_far, outcomes, tally)


def _add(rows: Rows, so_far: _Read, tally: Tally) -> None:
    """Sorts a batch's rows into descriptors and observations."""
    name = _name_codes(rows)
    minute = _minutes(rows)
    value = numbers_from_arrow(rows.table["Value"])
    file = rows.file_of_row()
    descriptor = _descriptor_rows(name, minute, file, tally)
    so_far.record.append(_records(rows, descriptor[RECORD], file, value))
    so_far.static.append(_static(descriptor, file, value, len(rows.files), tally))
    measured = (name >= 0) & (name < len(PARAMETERS))
    measured[descriptor["Weight"]] = False
    misplaced = (name >= len(PARAMETERS)) & (minute > 0)
    tally.reject(Rejection.EMPTY_NAME, rows.nameless + int(np.sum(name == _NAMELESS)))
    tally.reject(Rejection.UNKNOWN_CHANNEL, int(np.sum(misplaced | (name == _UNKNOWN))))
    index = np.flatnonzero(measured)
    kept, converted = _within_limits(name[index], value[index], tally)
    index = index[kept]
    names = (f.name for f in rows.files)
    so_far.observations.add(names, file=file[index], time_min=minute[index], channel=name[index], value=converted[kept])


def _texts(rows: Rows, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """Distinct texts of a column and, a row, which of them it holds."""
    encoded = rows.table[column].unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a column without rows stays chunked
        return [], np.zeros(0, dtype=np.int32)
    return encoded.dictionary.to_pylist(), numbers_from_arrow(encoded.indices)


def _name_codes(rows: Rows) -> NDArray[np.int16]:
    """(rows,) index into `_NAMES`, `_UNKNOWN` or `_NAMELESS`."""
    texts, code = _texts(rows, "Parameter")
    position = {"": _NAMELESS, **{name: i for i, name in enumerate(_NAMES)}}
    return np.array([position.get(text.strip(), _UNKNOWN) for text in texts], dtype=np.int16)[code]


def _minutes(rows: Rows) -> Ints:
    """(rows,) minutes since admission."""
    texts, code = _texts(rows, "Time")
    minute = np.array([_minute(text) for text in texts], dtype=np.int64)[code]
    if np.any(minute < 0):
        raise rows.fault(int(np.argmax(minute < 0)), "a row whose time is HH:MM since admission")
    return minute


def _minute(text: str) -> int:
    match = re.fullmatch(r"(\d{1,4}):([0-5]\d)", text.strip())
    return int(match[1]) * 60 + int(match[2]) if match else -1


def _descriptor_rows(name: NDArray[np.int16], minute: Ints, file: Ints, tally: Tally) -> dict[str, Ints]:
    """Rows at 00:00 that hold a descriptor, the first a file; later ones of a weight are measurements."""
    found = {}
    start = np.flatnonzero(minute == 0)
    for descriptor in (RECORD, *DESCRIPTORS):
        rows = start[name[start] == _NAMES.index(descriptor)]
        first = np.diff(file[rows], prepend=-1) != 0
        if descriptor not in PARAMETERS:
            tally.reject(Rejection.DUPLICATE, int(np.sum(~first)))
        found[descriptor] = rows[first]
    return found


def _records(rows: Rows, at: Ints, file: Ints, value: Floats) -> Ints:
    """(files,) the number of each record."""
    without = np.setdiff1d(np.arange(len(rows.files)), file[at])
    if len(without):
        name = rows.files[int(without[0])].name
        raise DataError(f"{name} must hold a row 00:00,{RECORD},<whole number>, got none; fetch the file again")
    wrong = (value[at] != np.floor(value[at])) | (value[at] < 0) | ~np.isfinite(value[at])
    if wrong.any():
        raise rows.fault(int(at[np.argmax(wrong)]), f"a row whose {RECORD} is a whole number")
    return value[at].astype(np.int64)


def _static(descriptor: dict[str, Ints], file: Ints, value: Floats, files: int, tally: Tally) -> Floats:
    """(files, statics) canonical values or indices of categories; NaN where missing or rejected."""
    static = np.full((files, len(STATICS)), np.nan)
    for column, (source, (name, unit)) in enumerate(DESCRIPTORS.items()):
        rows = descriptor[source]
        given = value[rows]
        if isinstance(unit, tuple):
            converted = np.searchsorted(unit, given).astype(np.float64)
            within, reason = np.isin(given, unit), Rejection.UNKNOWN_CATEGORY
        else:
            converted, within = canonical_values(STATICS[column], unit, given)
            reason = Rejection.OUTSIDE_HARD_LIMITS
        missing = given == MISSING_CODE
        tally.reject(Rejection.MISSING_CODE, int(missing.sum()), name)
        tally.reject(Rejection.NOT_A_NUMBER, int(np.sum(~np.isfinite(given))), name)
        tally.reject(reason, int(np.sum(~missing & ~within & np.isfinite(given))), name)
        static[file[rows], column] = np.where(within & ~missing, converted, np.nan)
    return static


def _within_limits(channel: NDArray[np.int16], given: Floats, tally: Tally) -> tuple[NDArray[np.bool_], Floats]:
    """Which observations are kept, and all values in canonical units; the others are counted by reason."""
    converted, within = canonical_columns(CHANNELS, UNITS, channel, given)
    missing = given == MISSING_CODE
    finite = np.isfinite(given)
    tally.reject_each(Rejection.MISSING_CODE, CHANNELS, channel[missing])
    tally.reject_each(Rejection.NOT_A_NUMBER, CHANNELS, channel[~finite])
    tally.reject_each(Rejection.OUTSIDE_HARD_LIMITS, CHANNELS, channel[finite & ~missing & ~within])
    return within & ~missing, converted


def _assemble(so_far: _Read, outcomes: Path | None, tally: Tally) -> Cohort:
    """Stays sorted by the number of the record, whatever the order of the files."""
    record = np.concatenate(so_far.record)
    order = np.argsort(record, kind="stable")
    twice = np.flatnonzero(np.diff(record[order]) == 0)
    if len(twice):
        first, second = (so_far.observations.file[order[twice[0] + i]] for i in (0, 1))
        raise DataError(f"{second} must hold a record of its own, got that of {first}; leave one of them out")
    stay_id = [str(number) for number in record[order]]
    stays, rejected = build_stays(
        stay_id=stay_id,
        end_min=np.full(len(stay_id), END_MIN),
        columns=so_far.observations.columns(order),
        channels=[channel.name for channel in CHANNELS],
        static=np.concatenate(so_far.static)[order],
        static_names=[variable.name for variable in STATICS],
    )
    tally.rejected.update(rejected)
    known, tally.unknown_outcomes = (
        read_outcomes(outcomes, record[order]) if outcomes else (Outcomes.from_columns({}), 0)
    )
    return make_cohort(
        stays=stays,
        patient_id=stay_id,
        outcomes=known,
        channels=CHANNELS,
        statics=STATICS,
        source=SOURCE,
        licence=LICENCE,
        tally=tally,
    )
