"""PhysioNet/CinC Challenge 2019 in (one `.psv` file a stay, one row an hour), a cohort out.

Row ICULOS = k covers hour k of the ICU stay: its values are stamped (k - 1) h, and the stay ends after its last
row. `SepsisLabel` is 1 from 6 h before the onset, so the onset is 6 h after the first such row; it may lie behind
the file's end, which censors it.

Source: Reyna et al. 2020, Early Prediction of Sepsis From Clinical Data: The PhysioNet/Computing in Cardiology
Challenge 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
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
from pipelines.sources.files import read_files
from pipelines.sources.gathered import Gathered
from pipelines.sources.text_rows import Format, Rows, read_rows

SOURCE = "PhysioNet/CinC Challenge 2019"
LICENCE = "CC BY 4.0"
MINUTES_PER_HOUR = 60
LABEL_SHIFT_H = 6

# The source's column, our channel and the source's unit.
COLUMNS = {
    "HR": ("heart_rate", "/min"),
    "O2Sat": ("spo2", "%"),
    "Temp": ("temperature", "Cel"),
    "SBP": ("sbp", "mm[Hg]"),
    "MAP": ("map", "mm[Hg]"),
    "DBP": ("dbp", "mm[Hg]"),
    "Resp": ("respiratory_rate", "/min"),
    "EtCO2": ("etco2", "mm[Hg]"),
    "BaseExcess": ("base_excess", "mmol/L"),
    "HCO3": ("bicarbonate", "mmol/L"),
    # The challenge's page says %, the files hold fractions.
    "FiO2": ("fio2", "1"),
    "pH": ("ph", "[pH]"),
    "PaCO2": ("paco2", "mm[Hg]"),
    "SaO2": ("sao2", "%"),
    "AST": ("ast", "[IU]/L"),
    "BUN": ("bun", "mg/dL"),
    "Alkalinephos": ("alp", "[IU]/L"),
    "Calcium": ("calcium", "mg/dL"),
    "Chloride": ("chloride", "mmol/L"),
    "Creatinine": ("creatinine", "mg/dL"),
    "Bilirubin_direct": ("bilirubin_direct", "mg/dL"),
    "Glucose": ("glucose", "mg/dL"),
    # The page says lactate in mg/dL and magnesium in mmol/dL; the laboratories (MIMIC) report mmol/L and mg/dL.
    "Lactate": ("lactate", "mmol/L"),
    "Magnesium": ("magnesium", "mg/dL"),
    "Phosphate": ("phosphate", "mg/dL"),
    "Potassium": ("potassium", "mmol/L"),
    "Bilirubin_total": ("bilirubin_total", "mg/dL"),
    "TroponinI": ("troponin_i", "ng/mL"),
    "Hct": ("hematocrit", "%"),
    "Hgb": ("hemoglobin", "g/dL"),
    "PTT": ("ptt", "s"),
    "WBC": ("wbc", "10*3/uL"),
    "Fibrinogen": ("fibrinogen", "mg/dL"),
    "Platelets": ("platelets", "10*3/uL"),
}
CHANNELS = tuple(channel_by_name(name) for name, _ in COLUMNS.values())
UNITS = tuple(unit for _, unit in COLUMNS.values())
STATICS = tuple(static_by_name(name) for name in ("age", "sex", "unit_2019", "hours_before_icu"))
HOUR, LABEL = "ICULOS", "SepsisLabel"

_HEADER = (*COLUMNS, "Age", "Gender", "Unit1", "Unit2", "HospAdmTime", HOUR, LABEL)
_TYPES = dict.fromkeys(_HEADER, pa.float64())
# Sets without outcomes come without the label's column.
FORMATS = (Format(_HEADER, "|", _TYPES), Format(_HEADER[:-1], "|", _TYPES))


@dataclass
class _Read:
    """What was read so far: observations, and a piece a batch of what each file says of its stay."""

    observations: Gathered = field(default_factory=Gathered)
    stem: list[str] = field(default_factory=list)
    end_min: list[Ints] = field(default_factory=list)
    static: list[Floats] = field(default_factory=list)
    sepsis: list[Floats] = field(default_factory=list)
    onset_min: list[Floats] = field(default_factory=list)


def read(paths: Sequence[Path], *, progress: bool = False) -> Cohort:
    """Reads folders, archives or files of per-stay `.psv` files.

    Args:
        paths: where the stays' files are; their order does not matter.
        progress: whether to show a bar on standard error.

    Raises:
        DataError: if something is malformed; the message says which file, which line and what is expected.
    """
    tally, read_so_far = Tally(), _Read()
    for rows in read_rows(read_files(paths, suffix=".psv", progress=progress), FORMATS):
        _add(rows, read_so_far, tally)
    return _assemble(read_so_far, tally)


def _add(rows: Rows, so_far: _Read, tally: Tally) -> None:
    file = rows.file_of_row()
    hour = _hours(rows)
    end = np.zeros(len(rows.files), dtype=np.int64)
    np.maximum.at(end, file, hour * MINUTES_PER_HOUR)
    sepsis, onset = _sepsis(rows, file, hour)
    row, channel, value = _observations(rows, tally)
    minute = (hour[row] - 1) * MINUTES_PER_HOUR
    names = (f.name for f in rows.files)
    so_far.observations.add(names, file=file[row], time_min=minute, channel=channel, value=value)
    so_far.static.append(_static(rows, file, tally))
    so_far.end_min.append(end)
    so_far.sepsis.append(sepsis)
    so_far.onset_min.append(onset)
    so_far.stem.extend(f.stem for f in rows.files)


def _hours(rows: Rows) -> Ints:
    """(rows,) hour of the ICU stay, from 1."""
    hour = numbers_from_arrow(rows.table[HOUR])
    wrong = ~((hour >= 1) & (hour == np.floor(hour)) & (hour < 2**20))
    if wrong.any():
        raise rows.fault(int(np.argmax(wrong)), f"a row whose {HOUR} is a whole number from 1")
    return hour.astype(np.int64)


def _sepsis(rows: Rows, file: Ints, hour: Ints) -> tuple[Floats, Floats]:
    """(files,) whether a stay is septic, NaN where it has no label; and the minute of the onset."""
    sepsis, onset = (np.full(len(rows.files), np.nan) for _ in range(2))
    if LABEL not in rows.format.header:
        return sepsis, onset
    label = numbers_from_arrow(rows.table[LABEL])
    wrong = ~(np.isin(label, (0.0, 1.0)) | np.isnan(label))
    if wrong.any():
        raise rows.fault(int(np.argmax(wrong)), f"a row whose {LABEL} is 0 or 1")
    sepsis[file[label == 0]] = 0.0
    sepsis[file[label == 1]] = 1.0
    first = np.full(len(rows.files), np.inf)
    np.minimum.at(first, file[label == 1], hour[label == 1])
    septic = sepsis == 1
    onset[septic] = (first[septic] + LABEL_SHIFT_H) * MINUTES_PER_HOUR
    return sepsis, onset


def _observations(rows: Rows, tally: Tally) -> tuple[Ints, NDArray[np.int16], Floats]:
    """Row, channel and canonical value of everything measured, row by row."""
    grid = np.stack([numbers_from_arrow(rows.table[name]) for name in COLUMNS], axis=1)
    row, column = np.nonzero(~np.isnan(grid))
    channel = column.astype(np.int16)
    given = grid[row, column]
    value, within = canonical_columns(CHANNELS, UNITS, channel, given)
    finite = np.isfinite(given)
    tally.reject_each(Rejection.NOT_A_NUMBER, CHANNELS, channel[~finite])
    tally.reject_each(Rejection.OUTSIDE_HARD_LIMITS, CHANNELS, channel[finite & ~within])
    return row[within], channel[within], value[within]


def _static(rows: Rows, file: Ints, tally: Tally) -> Floats:
    """(files, statics) each variable's first value; NaN where there is none or it was rejected."""
    age, gender, medical, surgical, before = (
        _first(numbers_from_arrow(rows.table[name]), file, len(rows.files))
        for name in ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime")
    )
    # The source counts hours of hospital admission from ICU admission, so that they are negative.
    return np.stack(
        [
            _numeric(age, 0, tally),
            _category(gender, 1, tally),
            np.where(medical == 1, 0.0, np.where(surgical == 1, 1.0, np.nan)),
            _numeric(-before, 3, tally),
        ],
        axis=1,
    )


def _first(column: Floats, file: Ints, files: int) -> Floats:
    """(files,) a column's first number that is not NaN."""
    known = np.flatnonzero(~np.isnan(column))
    at, position = np.unique(file[known], return_index=True)
    first = np.full(files, np.nan)
    first[at] = column[known][position]
    return first


def _numeric(given: Floats, variable: int, tally: Tally) -> Floats:
    converted, within = canonical_values(STATICS[variable], STATICS[variable].unit, given)
    tally.reject(Rejection.OUTSIDE_HARD_LIMITS, int(np.sum(~within & ~np.isnan(given))), STATICS[variable].name)
    return np.where(within, converted, np.nan)


def _category(given: Floats, variable: int, tally: Tally) -> Floats:
    known = np.isin(given, np.arange(len(STATICS[variable].categories)))
    tally.reject(Rejection.UNKNOWN_CATEGORY, int(np.sum(~known & ~np.isnan(given))), STATICS[variable].name)
    return np.where(known, given, np.nan)


def _assemble(so_far: _Read, tally: Tally) -> Cohort:
    """Stays sorted by name, whatever the order of the files."""
    order = np.array(sorted(range(len(so_far.stem)), key=so_far.stem.__getitem__), dtype=np.int64)
    stay_id = [so_far.stem[i] for i in order]
    for before, after in pairwise(order):
        if so_far.stem[before] == so_far.stem[after]:
            first, second = so_far.observations.file[before], so_far.observations.file[after]
            raise DataError(f"{second} must be named unlike {first}, got one name twice; leave one of them out")
    stays, rejected = build_stays(
        stay_id=stay_id,
        end_min=np.concatenate(so_far.end_min)[order],
        columns=so_far.observations.columns(order),
        channels=[channel.name for channel in CHANNELS],
        static=np.concatenate(so_far.static)[order],
        static_names=[variable.name for variable in STATICS],
    )
    tally.rejected.update(rejected)
    sepsis, onset = np.concatenate(so_far.sepsis)[order], np.concatenate(so_far.onset_min)[order]
    return make_cohort(
        stays=stays,
        patient_id=stay_id,
        outcomes=Outcomes.from_columns({} if np.isnan(sepsis).all() else {"sepsis": (sepsis, onset)}),
        channels=CHANNELS,
        statics=STATICS,
        source=SOURCE,
        licence=LICENCE,
        tally=tally,
    )
