"""The outcomes file of PhysioNet/CinC Challenge 2012 in, outcomes of the stays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints
from pipelines.outcomes import Outcomes
from pipelines.sources.text_rows import line_error

MINUTES_PER_DAY = 1440
REQUIRED = ("RecordID", "In-hospital_death")
# Numbers beside the death: the source's name and ours. Below 0 means missing, or for survival: not known to have died.
NUMBERS = {"SAPS-I": "saps_i", "SOFA": "sofa", "Length_of_stay": "length_of_stay_d", "Survival": "survival_d"}

# Days within which a death is an outcome of its own; the last one is any death that is on record.
DEATHS = {"death_90d": 90.0, "death_365d": 365.0, "death_recorded": np.inf}


def read_outcomes(path: Path, record: Ints) -> tuple[Outcomes, int]:
    """Outcomes of the stays whose numbers are `record` (ascending), and the number of rows of other stays.

    A stay without a row is left unlabelled. The time of death is the survival in days, where that is given. Deaths
    within 90 and 365 days and any recorded death are outcomes too (0 = none is on record); a network can learn them
    beside the death in hospital (`training.auxiliary`), of which there are fewer.

    Raises:
        DataError: if the file is malformed; the message says which line and what is expected.
    """
    table, line = _table(path)
    given = table["RecordID"]
    order = np.argsort(given, kind="stable")
    twice = np.flatnonzero(np.diff(given[order]) == 0)
    if len(twice):
        raise line_error(path.name, int(line[order[twice[0] + 1]]), "of a stay that no line before is of")
    at = np.searchsorted(record, given)
    known = at < len(record)
    known[known] = record[at[known]] == given[known]
    if len(given) and not known.any():
        raise DataError(f"{path.name} must name some of the stays, got rows of other stays alone; give their own file")
    values = {name: np.full(len(record), np.nan) for name in (*NUMBERS.values(), "in_hospital_death")}
    for source, name in {**NUMBERS, "In-hospital_death": "in_hospital_death"}.items():
        if source in table:
            values[name][at[known]] = np.where(table[source][known] >= 0, table[source][known], np.nan)
    if "Survival" in table:
        values |= _deaths(table["Survival"][known], at[known], len(record))
    untimed = np.full(len(record), np.nan)
    days = np.where(values["in_hospital_death"] == 1, values["survival_d"], np.nan)
    columns = {name: (value, untimed) for name, value in values.items()}
    columns["in_hospital_death"] = (values["in_hospital_death"], np.round(days * MINUTES_PER_DAY))
    return Outcomes.from_columns({n: c for n, c in columns.items() if not np.isnan(c[0]).all()}), int(np.sum(~known))


def _deaths(survival_d: Floats, at: Ints, stays: int) -> dict[str, Floats]:
    """Deaths on record within some days of every stay; NaN for a stay without a row."""
    found = {}
    for name, days in DEATHS.items():
        found[name] = np.full(stays, np.nan)
        found[name][at] = (survival_d >= 0) & (survival_d <= days)
    return found


def _table(path: Path) -> tuple[dict[str, Floats], Ints]:
    """The file's columns, and the line of every row."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"outcomes must be a readable text file, got {path}; correct the path") from error
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    if not set(REQUIRED) <= set(header) or len(set(header)) != len(header):
        raise line_error(path.name, 1, f"a header with {' and '.join(REQUIRED)}, each name once")
    rows, numbers = [], []
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            rows.append(_row(line.split(","), header, path.name, number))
            numbers.append(number)
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(header))
    return {name: columns[:, i] for i, name in enumerate(header)}, np.array(numbers, dtype=np.int64)


def _row(fields: list[str], header: list[str], name: str, number: int) -> list[float]:
    if len(fields) != len(header):
        raise line_error(name, number, f"{len(header)} fields separated by ',' (here {len(fields)})")
    try:
        row = dict(zip(header, map(float, fields), strict=True))
    except ValueError:
        raise line_error(name, number, "numbers separated by ','") from None
    if not row["RecordID"].is_integer():
        raise line_error(name, number, "a row whose RecordID is a whole number")
    if row["In-hospital_death"] not in (0.0, 1.0, -1.0):
        raise line_error(name, number, "a row whose In-hospital_death is 0, 1, or -1 for missing")
    return list(row.values())
